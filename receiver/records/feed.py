"""Appending to the change feed ``ems.events``, without holes for its readers.

Positions are given out under one lock that is held until the commit, so that whoever has read position *n* never
misses a smaller one that commits later. Therefore this comes last in a transaction: the lock is short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
from psycopg.errors import LockNotAvailable
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from receiver.counters import FEED_LOCK_TIMEOUTS
from receiver.locks import Lock
from receiver.records.epochs import CHANNEL, HISTORY_IS_KNOWN, compare_history, history_is_known
from receiver.records.models import Event
from receiver.records.upsert import Row, rows_parameter, table_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Engine

log = structlog.stdlib.get_logger(__name__)

_COLUMNS: Final = ", ".join(
    column.name for column in table_of(Event).columns if column.name not in {"position", "recorded_at", "payload"}
)
# the snapshot is older than the lock: a history that is known was stored by then, one that is not is compared again
_LOCK: Final = text(f"SELECT pg_advisory_xact_lock(:key), {HISTORY_IS_KNOWN} AS known")
# a snapshot's payload stands in the history already; of other events PostgreSQL has the body
_APPEND: Final = text(
    f"""
WITH appended AS (
    INSERT INTO ems.events ({_COLUMNS}, recorded_at, payload)
    SELECT {", ".join(f"told.{name}" for name in _COLUMNS.split(", "))}, clock_timestamp(),
        coalesce(
            told.payload,
            (SELECT payload FROM ems.transaction_states AS state WHERE state.delivery_id = told.delivery_id),
            convert_from(delivery.body, 'UTF8')::jsonb
        )
    FROM ROWS FROM (
        json_to_recordset(CAST(:rows AS json)) AS (
            type text, organization_reference_id text, card_holder_reference_id text, transaction_id text,
            occurred_at timestamptz, source text, delivery_id bigint, payload jsonb
        )
    ) WITH ORDINALITY AS told
    JOIN receiver.deliveries AS delivery ON delivery.id = told.delivery_id
    WHERE NOT delivery.left_feed
    ORDER BY told.ordinality
    ON CONFLICT (delivery_id) DO NOTHING
    RETURNING position
)
SELECT pg_notify('{CHANNEL}', max(position)::text) FROM appended HAVING count(*) > 0
"""  # noqa: S608 - names come from the model
)


def append_to_feed(connection: Connection, rows: Sequence[Row]) -> None:
    """Append *rows* (the columns of ``ems.events`` but ``position`` and ``recorded_at``) and notify the readers.

    A ``payload`` of ``None`` stands for the body of the delivery, which PostgreSQL has already. An event that is in
    the feed already (a replay), or was until its row was kept long enough, is not repeated.

    Raises what ``lock_feed`` does.
    """
    if rows:
        lock_feed(connection)
        connection.execute(_APPEND, {"rows": rows_parameter(rows)})


def lock_feed(connection: Connection) -> None:
    """Take the feed's lock until the end of the transaction, and begin an epoch where PostgreSQL's history branched.

    It waits for the lock as long as the session's ``lock_timeout`` allows, and then raises ``OperationalError``.
    """
    try:
        known = connection.execute(_LOCK, {"key": Lock.FEED}).one().known
    except OperationalError as error:
        if isinstance(error.orig, LockNotAvailable):
            FEED_LOCK_TIMEOUTS.inc()
            log.warning("feed lock not free", see="receiver status names the process that holds it")
        raise
    if not known:
        compare_history(connection)


def notice_branch(engine: Engine) -> None:
    """Begin an epoch where PostgreSQL's history branched, though nothing is appended. Raises as ``lock_feed``."""
    with engine.begin() as connection:
        if not history_is_known(connection):
            lock_feed(connection)

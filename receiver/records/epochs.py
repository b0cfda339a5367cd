"""Epochs of the feed: a position never means two things, though a restore or a failover lost what was committed.

What identifies the history that PostgreSQL writes is stored with the newest epoch. When it differs, positions that
were given out before may be missing here and would be given out again, so the sequence jumps to a new epoch.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import structlog
from psycopg.errors import SerializationFailure

from receiver.db import dedicated_connection
from receiver.records.locked import write_under_lock

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Engine

log = structlog.stdlib.get_logger(__name__)

CHANNEL: Final = "ems_events"
"""Where readers of the feed listen."""
EPOCH_BITS: Final = 40
"""The bits of a position below its epoch."""
BY_HAND: Final = "receiver recover"
"""The reason of an epoch that an operator began."""

_BRANCHES: Final = {
    "system_identifier": "another PostgreSQL cluster",
    "timeline": "another timeline, as after a failover or a recovery to a point in time",
    "backup_label": "started from a base backup",
    "database_oid": "another database",
    "events_oid": "ems.events was created again",
}
"""What differs, and what that means."""
_COLUMNS: Final = ", ".join(_BRANCHES)
_NEWEST: Final = "SELECT * FROM receiver.feed_epochs ORDER BY epoch DESC LIMIT 1"

LAST_RUN_ID: Final = "SELECT last_run_id FROM receiver.feed_epochs ORDER BY epoch DESC LIMIT 1"
"""A query: the last run of reconcile before the present epoch."""
DATABASE_IS_KNOWN: Final = f"""
EXISTS (
    SELECT FROM ({_NEWEST}) AS known, receiver.feed_history() AS present
    WHERE {" AND ".join(f"coalesce(known.{name} = present.{name}, present.{name} IS NULL)" for name in _BRANCHES)}
)
"""
"""An expression of SQL: whether PostgreSQL writes the history of the newest epoch."""
_IS_KNOWN: Final = f"SELECT {DATABASE_IS_KNOWN}"
_KNOWN: Final = "SELECT max(epoch) FROM receiver.feed_epochs"
# what a managed server refuses to say is null, and differs from nothing
_COMPARE: Final = f"""
SELECT known.epoch, {", ".join(f"coalesce(known.{name} <> present.{name}, false) AS {name}" for name in _BRANCHES)}
FROM receiver.feed_history() AS present LEFT JOIN ({_NEWEST}) AS known ON true
"""  # noqa: S608
_NOTE: Final = f"""
INSERT INTO receiver.feed_epochs AS known (epoch, {_COLUMNS})
SELECT coalesce(
    CAST(nullif(current_setting('receiver.epoch'), '') AS integer), (SELECT epoch FROM ems.feed_horizon), 0
), {_COLUMNS} FROM receiver.feed_history()
ON CONFLICT (epoch) DO UPDATE
SET {", ".join(f"{name} = coalesce(excluded.{name}, known.{name})" for name in _BRANCHES)}
"""  # noqa: S608
_EXPECT_SAME_EPOCH: Final = """
SELECT receiver.expect((SELECT max(epoch) FROM receiver.feed_epochs) IS NOT DISTINCT FROM
    CAST(nullif(current_setting('receiver.epoch'), '') AS integer), 'an epoch began')
"""
# the same backup may be restored twice, and both may give out positions of one epoch: each begins at a time of its own
_BEGIN: Final = f"""
WITH next AS (
    SELECT last_value, 1 + greatest(
        (SELECT max(epoch) FROM receiver.feed_epochs),
        (SELECT epoch FROM ems.feed_horizon),
        (SELECT max(position) >> {EPOCH_BITS} FROM ems.events),
        (last_value >> {EPOCH_BITS}) - 1,
        0
    ) AS epoch
    FROM ems.events_position_seq
), begun AS (
    INSERT INTO receiver.feed_epochs (epoch, epoch_start, reason, last_run_id, {_COLUMNS})
    SELECT epoch, greatest(
        last_value,
        (epoch << {EPOCH_BITS}) + least(
            greatest((256 * extract(epoch FROM clock_timestamp() - timestamptz '2026-01-01Z'))::bigint, 0),
            1::bigint << {EPOCH_BITS - 1}
        )
    ), current_setting('receiver.reason'), coalesce((SELECT max(id) FROM receiver.reconcile_runs), 0), {_COLUMNS}
    FROM next, receiver.feed_history()
    RETURNING epoch, epoch_start
), horizon AS (
    INSERT INTO ems.feed_horizon (id, deleted_through, deleted_at, epoch, epoch_start)
    SELECT 1, 0, clock_timestamp(), epoch, epoch_start FROM begun
    ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, epoch_start = excluded.epoch_start
)
SELECT epoch, setval('ems.events_position_seq', epoch_start), pg_notify('{CHANNEL}', epoch_start::text) FROM begun
"""  # noqa: S608


def notice_branch(engine: Engine) -> None:
    """Begin an epoch where PostgreSQL's history branched, though nothing is appended. Raises psycopg's errors."""
    with closing(dedicated_connection(engine)) as connection:
        row = connection.execute(_IS_KNOWN).fetchone()
        if row is None or not row[0]:
            compare_history(connection)


def compare_history(connection: psycopg.Connection[Any]) -> None:
    """Begin an epoch where PostgreSQL writes another history than the one that is stored, and store this one."""
    epoch, *differs = connection.execute(_COMPARE).fetchone() or (None,)
    branches = [words for words, other in zip(_BRANCHES.values(), differs, strict=False) if other]
    if branches:
        begin_epoch(connection, "; ".join(branches))
    else:
        _under_lock(connection, epoch, _NOTE)


def begin_epoch(connection: psycopg.Connection[Any], reason: str) -> int | None:
    """Begin an epoch: later positions are in it, and every webhook is due to be reconciled.

    Returns its number; ``None`` where another process began one at the same time. *connection* commits automatically.
    """
    (known,) = connection.execute(_KNOWN).fetchone() or (None,)
    if not _under_lock(connection, known, _BEGIN, reason=reason):
        return None
    (epoch,) = connection.execute(_KNOWN).fetchone() or (None,)
    log.warning("feed.epoch_begun", epoch=epoch, reason=reason, see="docs/operate/backup-and-restore.md")
    return epoch


def _under_lock(connection: psycopg.Connection[Any], known: int | None, statement: str, *, reason: str = "") -> bool:
    """Run *statement* under the feed's lock, if the newest epoch is still *known*; return whether it was."""
    settings = {"epoch": "" if known is None else str(known), "reason": reason}
    try:
        write_under_lock(connection, settings, [_EXPECT_SAME_EPOCH, statement], step="note history")
    except SerializationFailure:
        return False
    return True

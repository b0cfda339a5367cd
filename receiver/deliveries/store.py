"""Storing deliveries: many in one statement, committed before any of them is answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import msgspec
from psycopg_pool import ConnectionPool

from receiver.connections import (
    STORE,
    WEB,
    BoundedConnection,
    connect_arguments,
    in_transaction,
    open_connection,
    session_setter,
)
from receiver.database_url import is_pooled

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from receiver.webhooks.managed import ManagedWebhook

POOL_TIMEOUT: Final = 5.0
"""Seconds a request waits for a connection to read with before it is answered 503."""
APPLICATION: Final = "web"
SERVER_LOST: Final = 1000 * 10
"""Milliseconds after which a server that vanished is noticed while something is being sent to it."""

# The join is also a check: for a webhook that was disabled or changed since it was read, nothing is stored, and the
# caller verifies the request again. xmin changes with every update of the row. The statement returns the unchanged
# webhooks: that shows what was stored, in fewer rows than one for each delivery.
_INSERT: Final = """
WITH unchanged AS MATERIALIZED (
    SELECT id, xmin::text AS row_version FROM receiver.webhooks WHERE enabled AND id = ANY(%(webhook_id)b)
), arrived AS MATERIALIZED (
    SELECT nextval('receiver.stored_deliveries_id_seq') AS id, unchanged.id AS webhook_id, event, version, body,
        headers::jsonb, verification, now() - make_interval(secs => waited) AS at, trace
    FROM unnest(
        %(webhook_id)b::bigint[], %(row_version)b::text[], %(event)b::text[], %(version)b::text[], %(body)b::bytea[],
        %(headers)b::text[], %(verification)b::text[], %(waited)b::float8[],
        %(trace)b::bytea[]
    ) WITH ORDINALITY
        AS request (webhook_id, row_version, event, version, body, headers, verification, waited, trace, place)
    JOIN unchanged ON unchanged.id = request.webhook_id AND unchanged.row_version = request.row_version
    ORDER BY place
), stored AS (
    INSERT INTO receiver.stored_deliveries (
        id, webhook_id, event, version, verification, received_at, occurred_at, written_ms
    )
    SELECT id, webhook_id, event, version, verification, at, at,
        CAST(least(greatest(0, 1000 * date_part('epoch', clock_timestamp() - at)), 2147483647) AS integer)
    FROM arrived
), bodies AS (
    INSERT INTO receiver.bodies (delivery_id, body, headers) SELECT id, body, headers FROM arrived
), queued AS (
    INSERT INTO receiver.queue (delivery_id, due_at, trace) SELECT id, at, trace FROM arrived
)
SELECT id, row_version FROM unchanged
"""


@dataclass(frozen=True, slots=True)
class ArrivedDelivery:
    """A delivery that is verified and well-formed, to be stored if its webhook was not changed since."""

    webhook: ManagedWebhook
    event: str
    version: str | None
    body: bytes = field(repr=False)
    headers: dict[str, str]
    verification: str
    at: float = field(default_factory=monotonic)
    """When its request arrived, by ``time.monotonic``: waiting for PostgreSQL does not change its time of arrival."""
    trace: bytes | None = None
    """The context of its trace, where it is recorded: the worker continues it."""


def connection_pool(database_url: str, *, size: int) -> ConnectionPool[Any]:
    """Return a closed pool of autocommitting connections to read with; a web process opens it after the fork."""
    arguments = _arguments(database_url)
    return ConnectionPool(
        arguments.pop("conninfo"),
        connection_class=BoundedConnection,
        configure=session_setter(WEB, pooled=is_pooled(database_url)),
        min_size=1,
        max_size=size,
        open=False,
        timeout=POOL_TIMEOUT,
        reconnect_timeout=POOL_TIMEOUT,
        kwargs={**arguments, "autocommit": True},
        name="web",
    )


def connect(database_url: str) -> psycopg.Connection[Any]:
    """Return a connection to store with. Raises psycopg's errors."""
    return open_connection(database_url, application=APPLICATION, timeouts=STORE, **_arguments(database_url))


def insert(connection: psycopg.Connection[Any], batch: Sequence[ArrivedDelivery]) -> list[bool]:
    """Store *batch* and commit. Return for each delivery whether it was stored: its webhook was not changed.

    An empty batch tests whether one could be stored. Raises psycopg's errors; then nothing is stored.
    """
    with in_transaction(connection):
        rows = connection.execute(_INSERT, _columns(batch)).fetchall()
    unchanged = {(webhook_id, row_version) for webhook_id, row_version in rows}
    return [(arrived.webhook.id, arrived.webhook.row_version) in unchanged for arrived in batch]


def _columns(batch: Sequence[ArrivedDelivery]) -> dict[str, list[Any]]:
    now = monotonic()
    return {
        "waited": [now - arrived.at for arrived in batch],
        "webhook_id": [arrived.webhook.id for arrived in batch],
        "row_version": [arrived.webhook.row_version for arrived in batch],
        "event": [arrived.event for arrived in batch],
        "version": [arrived.version for arrived in batch],
        "body": [arrived.body for arrived in batch],
        "headers": [msgspec.json.encode(arrived.headers).decode() for arrived in batch],
        "verification": [arrived.verification for arrived in batch],
        "trace": [arrived.trace for arrived in batch],
    }


def _arguments(database_url: str) -> dict[str, Any]:
    return {"prepare_threshold": 1, **connect_arguments(database_url, APPLICATION), "tcp_user_timeout": SERVER_LOST}

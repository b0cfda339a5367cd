"""Storing a delivery: one statement, committed before the answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
from psycopg_pool import ConnectionPool
from sqlalchemy import make_url

from receiver.db import connect_arguments

if TYPE_CHECKING:
    from receiver.deliveries.directory import Registered

POOL_TIMEOUT: Final = 5.0
"""Seconds a request waits for a connection before it is answered 503."""
STATEMENT_TIMEOUT: Final = 10
"""Seconds a statement of a request may take before it is answered 503."""

# Selecting from webhooks makes the insert a check as well: if the webhook was disabled or changed since it was read,
# nothing is stored, and the caller judges the request anew. xmin changes with every update of the row.
_INSERT: Final = """
INSERT INTO receiver.deliveries (webhook_id, event, version, body, headers, verification)
SELECT id, %s, %s, %b, %s::jsonb, %s FROM receiver.webhooks WHERE id = %s AND enabled AND xmin::text = %s
RETURNING id
"""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A delivery that is proven and well-formed, ready to be stored."""

    event: str
    version: str | None
    body: bytes = field(repr=False)
    headers: dict[str, str]
    verification: str


def connection_pool(database_url: str, *, size: int) -> ConnectionPool[Any]:
    """Return a closed pool of autocommitting connections; a web process opens it after the fork."""
    arguments = connect_arguments("web")
    arguments["options"] = f"{arguments['options']} -c statement_timeout={STATEMENT_TIMEOUT}s"
    return ConnectionPool(
        make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False),
        min_size=1,
        max_size=size,
        open=False,
        timeout=POOL_TIMEOUT,
        reconnect_timeout=POOL_TIMEOUT,
        kwargs={**arguments, "autocommit": True, "prepare_threshold": 1},
        name="deliveries",
    )


def store(pool: ConnectionPool[Any], webhook: Registered, arrived: Arrived) -> int | None:
    """Store and commit; return the delivery's id, or ``None`` when the webhook is no longer what *webhook* says.

    Raises psycopg's errors when it could not be stored.
    """
    with pool.connection() as connection:
        row = connection.execute(
            _INSERT,
            (
                arrived.event,
                arrived.version,
                arrived.body,
                msgspec.json.encode(arrived.headers).decode(),
                arrived.verification,
                webhook.id,
                webhook.row_version,
            ),
        ).fetchone()
    return None if row is None else int(row[0])

"""Empty databases for each test, while the processes of the service run on: the service's, and one of the EMS's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import stamina
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from receiver.migrate import target_metadata
from receiver.sandbox.local import READER

if TYPE_CHECKING:
    from sqlalchemy import Engine

KEPT: Final = frozenset(
    {
        "ems.organizations",
        "receiver.applied_configuration",
        "receiver.console_sessions",
        "receiver.erasure_key",
        "receiver.oauth_tokens",
        "receiver.organizations",
        "receiver.previous_endpoint_keys",
        "receiver.webhook_headers",
        "receiver.webhooks",
    }
)
"""Tables of the installation: their rows are kept."""
ATTEMPTS: Final = 5
"""Attempts to lock the tables, which a worker may hold locked."""
_LOCK_SECONDS: Final = text("SET LOCAL lock_timeout = '2s'")
_POSITIONS_AGAIN: Final = text("ALTER SEQUENCE ems.events_position_seq RESTART")


def empty_database(engine: Engine) -> None:
    """Delete deliveries and everything derived from them; keep webhooks and readers' rights; restart positions at 1.

    Raises ``OperationalError`` if another process still holds locks on these tables after ``ATTEMPTS`` attempts.
    """
    names = [table.fullname for table in target_metadata().sorted_tables if table.fullname not in KEPT]
    filled = " UNION ALL ".join(f"SELECT '{name}' WHERE EXISTS (SELECT FROM {name})" for name in names)  # noqa: S608
    for attempt in stamina.retry_context(on=OperationalError, attempts=ATTEMPTS, wait_initial=0.05, wait_max=0.5):
        with attempt, engine.begin() as connection:
            connection.execute(_LOCK_SECONDS)
            found = list(connection.scalars(text(filled)))
            if found:
                connection.execute(text(f"TRUNCATE {', '.join(found)} CASCADE"))
            connection.execute(_POSITIONS_AGAIN)


def own_database(engine: Engine) -> str:
    """Drop and create the database for the EMS's own tables, on the same server; return its address, as its owner.

    Sessions that a previous test left open are ended.
    """
    own = engine.url.set(drivername="postgresql", database=f"{engine.url.database}_own", username=READER, password=None)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        name = connection.dialect.identifier_preparer.quote(own.database or "")
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {name} OWNER {READER}"))
    return own.render_as_string(hide_password=False)

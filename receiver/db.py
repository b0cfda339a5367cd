"""The way to PostgreSQL: naming convention, base class of the models, engine."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import URL, Engine, LargeBinary, MetaData, create_engine, make_url
from sqlalchemy.orm import DeclarativeBase, MappedColumn, mapped_column

from receiver.errors import ConfigurationError
from receiver.variables import POOLED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from receiver.encryption import Encryption

RECEIVER: Final = "receiver"
"""Schema of how the service works; may change with any release."""
EMS: Final = "ems"
"""Schema that the EMS reads; columns are added, never renamed or retyped."""

NAMING_CONVENTION: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

ENCRYPTED: Final = "encrypted"
"""Mark of the columns that hold secrets, in their ``info``."""

CONNECT_TIMEOUT: Final = 5
"""Seconds to wait for a connection before the attempt counts as failed."""


class Base(DeclarativeBase):
    """Base of every model; all share one ``MetaData``, so that migrations see both schemas."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)


def encrypted(comment: str = "") -> MappedColumn[Any]:
    """Return a column for what ``Encryption.encrypt`` returns, marked so that a new key can find it."""
    return mapped_column(
        LargeBinary, comment=f"encrypted; {comment}" if comment else "encrypted", info={ENCRYPTED: True}
    )


def is_pooled(database_url: str) -> bool:
    """Return whether the URL says that a pgbouncer in transaction mode is between us and PostgreSQL."""
    return make_url(database_url).query.get(POOLED) == "true"


def driver_url(database_url: str) -> URL:
    """Return the URL as SQLAlchemy takes it."""
    return make_url(database_url).difference_update_query([POOLED])


def libpq_url(database_url: str) -> str:
    """Return the URL as PostgreSQL's client library takes it."""
    return driver_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)


def connect_arguments(
    application: str, *, statement_seconds: int | None = None, pooled: bool = False
) -> dict[str, object]:
    """Return psycopg's arguments for every connection; *application* shows in ``pg_stat_activity``.

    The session's time zone is UTC, so that what is printed does not depend on the server's. A statement that takes
    longer than *statement_seconds* is cancelled. A *pooled* connection has no session that anything could be set in or
    kept for, so the role has these settings, and statements are not prepared.
    """
    arguments: dict[str, object] = {
        "connect_timeout": CONNECT_TIMEOUT,
        "application_name": f"receiver {application}",
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }
    if pooled:
        return {**arguments, "prepare_threshold": None}
    timeout = "" if statement_seconds is None else f" -c statement_timeout={statement_seconds}s"
    return {**arguments, "options": f"-c timezone=UTC{timeout}"}


def engine_for(database_url: str, *, application: str, encryption: Encryption | None = None) -> Engine:
    """Return an engine that reconnects after PostgreSQL was away. Connects on first use, never here.

    *encryption* travels with its connections (``get_execution_options``): for what recognizes erased card holders.

    Raises ``ConfigurationError`` for a pooled connection: locks and temporary tables need a session.
    """
    if is_pooled(database_url):
        raise ConfigurationError(
            [f"DATABASE_URL has {POOLED}=true: only web can do with it; give everything else PostgreSQL itself"]
        )
    return create_engine(
        database_url,
        pool_pre_ping=True,
        pool_size=4,  # a worker has two lanes, each with a connection for work and one for its notes
        hide_parameters=True,  # errors are logged and stored; payloads must not be in them
        connect_args=connect_arguments(application),
        execution_options={"encryption": encryption},
    )


def small_engine_for(database_url: str, *, application: str, connections: int, statement_seconds: int) -> Engine:
    """Return an engine that never has more than so many connections, nor a statement that takes longer.

    Who finds none free for some seconds gets SQLAlchemy's ``TimeoutError``.
    """
    pooled = is_pooled(database_url)
    return create_engine(
        driver_url(database_url),
        pool_pre_ping=True,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT,
        hide_parameters=True,
        connect_args=connect_arguments(application, statement_seconds=statement_seconds, pooled=pooled),
    )


@contextmanager
def one_connection(database_url: str, *, application: str) -> Iterator[Connection]:
    """Connect for the length of a command, and leave no connection behind."""
    engine = engine_for(database_url, application=application)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()

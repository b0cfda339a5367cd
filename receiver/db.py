"""The way to PostgreSQL: naming convention, base class of the models, engine."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Engine, LargeBinary, MetaData, create_engine
from sqlalchemy.orm import DeclarativeBase, MappedColumn, mapped_column

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

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


def connect_arguments(application: str, *, statement_seconds: int | None = None) -> dict[str, object]:
    """Return libpq's arguments for every connection; *application* shows in ``pg_stat_activity``.

    The session's time zone is UTC, so that what is printed does not depend on the server's. A statement that takes
    longer than *statement_seconds* is cancelled.
    """
    timeout = "" if statement_seconds is None else f" -c statement_timeout={statement_seconds}s"
    return {
        "connect_timeout": CONNECT_TIMEOUT,
        "application_name": f"receiver {application}",
        "options": f"-c timezone=UTC{timeout}",
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }


def engine_for(database_url: str, *, application: str) -> Engine:
    """Return an engine that reconnects after PostgreSQL was away. Connects on first use, never here."""
    return create_engine(
        database_url,
        pool_pre_ping=True,
        pool_size=4,  # a worker has two lanes, each with a connection for work and one for its notes
        hide_parameters=True,  # errors are logged and stored; payloads must not be in them
        connect_args=connect_arguments(application),
    )


def small_engine_for(database_url: str, *, application: str, connections: int, statement_seconds: int) -> Engine:
    """Return an engine that never has more than so many connections, nor a statement that takes longer.

    Who finds none free for some seconds gets SQLAlchemy's ``TimeoutError``.
    """
    return create_engine(
        database_url,
        pool_pre_ping=True,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT,
        hide_parameters=True,
        connect_args=connect_arguments(application, statement_seconds=statement_seconds),
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

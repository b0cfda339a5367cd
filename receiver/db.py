"""Access to PostgreSQL: engine, base class of the models, naming convention."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL, DateTime, Engine, LargeBinary, MetaData, Numeric, Text, create_engine, event, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, MappedColumn, mapped_column

from receiver.connections import CONNECT_TIMEOUT, LONG, open_connection
from receiver.database_url import POOLED, is_pooled, libpq_url
from receiver.errors import ConfigurationError, OperationRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection
    from sqlalchemy.exc import DBAPIError

    from receiver.connections import Timeouts

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


CUT_OFF: Final = frozenset(
    {
        "25P03",  # idle_in_transaction_session_timeout
        "25P04",  # transaction_timeout
        "55P03",  # lock_timeout
        "57P01",  # ended by an administrator
        "57P02",  # another backend crashed
        "57P03",  # starting, or shutting down
        "57P05",  # idle_session_timeout
    }
)
"""SQLSTATEs that say nothing of the statement that they end."""


HELD_SECONDS: Final = 60
"""Seconds without a heartbeat after which a process loses the lock that its session holds."""


class Base(DeclarativeBase):
    """Base of every model; all share one ``MetaData``, so that migrations see both schemas."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map: ClassVar = {
        str: Text,
        datetime: DateTime(timezone=True),
        Decimal: Numeric,
        bytes: LargeBinary,
        dict[str, Any]: JSONB,
    }


def encrypted(comment: str = "") -> MappedColumn[Any]:
    """Return a column for what ``Encryption.encrypt`` returns, marked so that a new key can find it."""
    return mapped_column(
        LargeBinary, comment=f"encrypted; {comment}" if comment else "encrypted", info={ENCRYPTED: True}
    )


def engine_for(database_url: str, *, application: str, timeouts: Timeouts = LONG) -> Engine:
    """Return an engine that reconnects after PostgreSQL was unavailable. Connects on first use, never here.

    Raises ``ConfigurationError`` for a pooled connection: locks and temporary tables need a session.
    """
    if is_pooled(database_url):
        raise ConfigurationError(
            [f"DATABASE_URL has {POOLED}=true: only web can do with it; give everything else PostgreSQL itself"]
        )
    return _engine(
        database_url,
        application,
        timeouts,
        pool_size=4,
    )


def small_engine_for(database_url: str, *, application: str, connections: int, timeouts: Timeouts) -> Engine:
    """Return an engine with at most *connections* connections, with the session's *timeouts*.

    Who finds none free for some seconds gets SQLAlchemy's ``TimeoutError``.
    """
    return _engine(
        database_url, application, timeouts, pool_size=connections, max_overflow=0, pool_timeout=CONNECT_TIMEOUT
    )


def dedicated_connection(engine: Engine) -> psycopg.Connection[Any]:
    """Return a separate connection to what *engine* connects to; it commits automatically, the caller closes it."""
    raw = engine.raw_connection()
    raw.detach()
    connection: psycopg.Connection[Any] = raw.dbapi_connection  # type: ignore[assignment]
    connection.autocommit = True
    return connection


def driver_of(connection: Connection) -> psycopg.Connection[Any]:
    """Return psycopg's connection below *connection*: what it does belongs to the same transaction."""
    driver: psycopg.Connection[Any] = connection.connection.dbapi_connection  # type: ignore[assignment]
    return driver


def was_cut_off(error: DBAPIError | psycopg.Error) -> bool:
    """Return whether the work was interrupted, not refused: a connection or session ended, or a lock was not free."""
    if not isinstance(error, psycopg.Error):
        return error.connection_invalidated or (isinstance(error.orig, psycopg.Error) and was_cut_off(error.orig))
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError)
    return state[:2] == "08" or state in CUT_OFF


def _engine(database_url: str, application: str, timeouts: Timeouts, **options: Any) -> Engine:  # noqa: ANN401 - SQLAlchemy's
    """Return an engine over connections that ``receiver.connections`` opens: libpq alone reads the URL."""
    engine = create_engine(
        _shown(database_url),
        pool_pre_ping=True,
        hide_parameters=True,  # errors are logged and stored; payloads must not be in them
        **options,
    )

    def connect(_dialect: object, _record: object, _arguments: object, parameters: dict[str, Any]) -> object:
        return open_connection(
            database_url,
            application=application,
            timeouts=timeouts,
            autocommit=False,
            context=parameters.get("context"),
        )

    event.listen(engine, "do_connect", connect)
    return engine


def _shown(database_url: str) -> URL:
    """Return what ``engine.url`` shows: the URL, as far as SQLAlchemy can express what libpq takes."""
    parts = {name: str(value) for name, value in conninfo_to_dict(libpq_url(database_url)).items()}
    # sockets and several hosts as well
    where: dict[str, Sequence[str] | str] = {name: parts[name] for name in ("host", "port") if name in parts}
    return URL.create(
        "postgresql+psycopg",
        username=parts.get("user"),
        password=parts.get("password"),
        database=parts.get("dbname"),
        query=where,
    )


@contextmanager
def one_connection(database_url: str, *, application: str, timeouts: Timeouts = LONG) -> Iterator[Connection]:
    """Connect for the length of a command, and leave no connection behind."""
    engine = engine_for(database_url, application=application, timeouts=timeouts)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


class HeldLock:
    """An advisory lock, true if it was free; its session shows at intervals that this process is alive."""

    def __init__(self, *, free: bool, seconds: float) -> None:
        self._free = free
        self._seconds = seconds
        self._shown = time.monotonic()

    def __bool__(self) -> bool:
        return self._free

    def show(self, connection: Connection) -> None:
        """Show that this process lives. Raises SQLAlchemy's errors when the session has ended."""
        began = time.monotonic()
        connection.execute(text("SELECT 1"))
        self._shown = began

    def check(self) -> None:
        """Raise ``OperationRefused`` if this process hung for so long that another one may have the lock."""
        silent = time.monotonic() - self._shown
        if silent >= self._seconds:
            raise OperationRefused(f"this process hung for {silent:.0f} s and lost its lock: run again")


@contextmanager
def held_lock(engine: Engine, lock: int, *, seconds: int = HELD_SECONDS) -> Iterator[HeldLock]:
    """Hold an advisory lock for the length of the block, if it is free.

    Its session sends heartbeats while this process runs: PostgreSQL ends it, and releases the lock, *seconds* seconds
    after the last one.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        try:
            free = connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": lock})
            held = HeldLock(free=bool(free), seconds=seconds)
            if not held:
                yield held
                return
            timeout = connection.scalar(text("SELECT current_setting('idle_session_timeout')"))
            _set_idle_timeout(connection, f"{seconds}s")
            try:
                with _heartbeat(connection, held, every=seconds / 6):
                    yield held
            finally:
                with suppress(SQLAlchemyError):  # then the session has ended, and the lock with it
                    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": lock})
                    _set_idle_timeout(connection, str(timeout))
        except BaseException:
            connection.invalidate()  # an interrupt may have left the lock in a session that goes back to the pool
            raise


@contextmanager
def _heartbeat(connection: Connection, held: HeldLock, *, every: float) -> Iterator[None]:
    """Use the session every *every* seconds while this block runs, so that PostgreSQL does not end it as idle."""
    ended = threading.Event()

    def show_life() -> None:
        with suppress(SQLAlchemyError):  # then the session has ended
            while not ended.wait(every):
                held.show(connection)

    thread = threading.Thread(target=show_life, name="held lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _set_idle_timeout(connection: Connection, timeout: str) -> None:
    connection.execute(text("SELECT set_config('idle_session_timeout', :timeout, false)"), {"timeout": timeout})

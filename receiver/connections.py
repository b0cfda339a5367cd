"""Opening connections to PostgreSQL. Every connection of this service is opened here, and its session is set here.

What the code depends on must not depend on ``ALTER ROLE … SET``, ``ALTER DATABASE … SET`` or an environment of libpq:
the session sets it. It also sets the time limits: no process may hold a lock that others need for longer than that.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg
from psycopg import IsolationLevel
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from receiver.database_url import is_pooled, libpq_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from psycopg.abc import PQGen

RV = TypeVar("RV")

CONNECT_TIMEOUT: Final = 5
"""Seconds to wait for a connection before the attempt counts as failed."""
DEFAULTS: Final[Mapping[str, object]] = {
    "connect_timeout": CONNECT_TIMEOUT,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # in ms; keepalive does not notice what is never acknowledged
}
"""Parameters of libpq that hold unless ``DATABASE_URL`` has others."""

# those that pgbouncer keeps for each of its clients, whichever server connection it gets
_KEPT_BY_POOLS: Final = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",  # psycopg reads times in no other style
    "IntervalStyle": "postgres",  # nor intervals
    "TimeZone": "UTC",  # so that what is printed does not depend on the server's
    "standard_conforming_strings": "on",
}
_SESSION: Final = {
    **_KEPT_BY_POOLS,
    "search_path": "public",  # a role named receiver would have schema receiver as its default
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "bytea_output": "hex",  # exports pass PostgreSQL's own texts on
    "extra_float_digits": "1",
    "array_nulls": "on",
    "quote_all_identifiers": "off",  # definitions in the catalog are compared with the models
    # the server's half of noticing that a process, or its machine, is no longer there
    "client_connection_check_interval": "5s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60000",  # in ms
}
# 200 means durable, and so does a position of the feed: "off" is raised, whatever else an operator chose is kept
_DURABLE: Final = "set_config('synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'on'), false)"
_TRANSACTION_TIMEOUT_SINCE: Final = 170_000


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The time limits of a session, in seconds; 0 is no limit."""

    statement: int = 0
    lock: int = 0
    """To wait for one lock."""
    idle_in_transaction: int = 0
    """Between two statements of a transaction: what a process that hangs may hold its locks for."""
    transaction: int = 0
    """For a whole transaction, where PostgreSQL can end it (17 and newer)."""
    idle: int = 0
    """Between two transactions, for those whose session holds a lock."""
    answer: float | None = None
    """Until PostgreSQL answers: then this process drops the connection, because a backend can hang, too."""

    @property
    def settings(self) -> dict[str, str]:
        """The settings of a session by their names."""
        return {
            "statement_timeout": f"{self.statement}s",
            "lock_timeout": f"{self.lock}s",
            "idle_in_transaction_session_timeout": f"{self.idle_in_transaction}s",
            "idle_session_timeout": f"{self.idle}s",
        }


WEB: Final = Timeouts(statement=10, lock=5, idle_in_transaction=10, transaction=30, answer=12)
"""Web processes, and other work that a caller waits for."""
STORE: Final = Timeouts(statement=5, lock=5, idle_in_transaction=10, transaction=10, answer=7)
"""Storing deliveries: what waits behind a hung backend is stored over the next connection, while its requests wait."""
WORK: Final = Timeouts(statement=30, lock=10, idle_in_transaction=15, transaction=45, answer=50)
"""Jobs of deliveries and downloads: small transactions, none of which may block the others for long."""
LONG: Final = Timeouts(lock=60, idle_in_transaction=300)
"""What may run for long: reconciling, retention, bootstrap, the commands."""
RECONCILE: Final = Timeouts(lock=60, idle_in_transaction=300, idle=900)
"""Reconciling. The session is idle while OpenCard is asked, and keeps its temporary tables: so it may be idle long."""
EXPORT: Final = Timeouts(lock=60, idle_in_transaction=3600)
"""Exporting from one snapshot, as slowly as the file can be written; its locks block only migrations."""
MIGRATE: Final = Timeouts(idle_in_transaction=300)
"""Migrations wait for one another; they set their own time-outs for the locks of tables."""


class ServerCursor(psycopg.ServerCursor[Any]):
    """A cursor on the server that needs no closing once its connection is closed.

    SQLAlchemy drops the cursor of a statement that lost its connection, or was interrupted, without closing it.
    """

    def __del__(self, *arguments: Any) -> None:  # noqa: ANN401 - psycopg's
        """Warn of a cursor that is still open on the server, as psycopg does."""
        if not self.connection.closed:
            super().__del__(*arguments)


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed when PostgreSQL does not answer within a time limit."""

    answer_within: float | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - psycopg's
        super().__init__(*arguments, **options)
        self.server_cursor_factory = ServerCursor

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait as psycopg does, for at most ``answer_within`` seconds."""
        try:
            return super().wait(gen, interval, self.answer_within if timeout is None else timeout)
        except psycopg.OperationalError as error:
            answered = error.sqlstate is not None
            if answered or self.pgconn.transaction_status != TransactionStatus.ACTIVE:
                raise
            self.close()  # the answer may still arrive, and would be taken for that of the next query
            raise psycopg.OperationalError(f"PostgreSQL did not answer within {self.answer_within} s") from error


def connect_arguments(database_url: str, application: str) -> dict[str, Any]:
    """Return psycopg's arguments for every connection; *application* shows in ``pg_stat_activity``.

    What ``DATABASE_URL`` says of them holds. On a pooled connection no statement is prepared.
    """
    url = libpq_url(database_url)
    in_url = conninfo_to_dict(url)
    wanted = {**DEFAULTS, "application_name": f"receiver {application}"}
    arguments = {name: value for name, value in wanted.items() if name not in in_url}
    pooled = {"prepare_threshold": None} if is_pooled(database_url) else {}
    return {"conninfo": url, **arguments, **pooled}


def set_session(connection: psycopg.Connection[Any], timeouts: Timeouts, *, pooled: bool) -> None:
    """Set the session of a new *connection*.

    Behind a pool (*pooled*) there is no session to set the rest in: its transactions state their isolation level, and
    the role has the time-outs (docs/operate/scale.md). Raises psycopg's errors.
    """
    if isinstance(connection, BoundedConnection):
        connection.answer_within = timeouts.answer
    autocommit, connection.autocommit = connection.autocommit, True
    if pooled:
        _set(connection, _KEPT_BY_POOLS)
        connection.isolation_level, connection.read_only = IsolationLevel.READ_COMMITTED, False
    else:
        settings = {**_SESSION, **timeouts.settings}
        if connection.info.server_version >= _TRANSACTION_TIMEOUT_SINCE:
            settings["transaction_timeout"] = f"{timeouts.transaction}s"
        _set(connection, settings, _DURABLE)
    connection.autocommit = autocommit


def _set(connection: psycopg.Connection[Any], settings: Mapping[str, str], *more: str) -> None:
    calls = [f"set_config('{name}', '{value}', false)" for name, value in settings.items()]
    connection.execute(f"SELECT {', '.join([*calls, *more])}".encode(), prepare=False)


def session_setter(timeouts: Timeouts, *, pooled: bool) -> Callable[[psycopg.Connection[Any]], None]:
    """Return ``set_session`` for pools and engines, which call it with each connection that they open."""

    def configure(connection: psycopg.Connection[Any]) -> None:
        set_session(connection, timeouts, pooled=pooled)

    return configure


def in_transaction(connection: psycopg.Connection[Any]) -> AbstractContextManager[object]:
    """Return a transaction where an autocommitting *connection* is pooled and could not say what transactions are."""
    return nullcontext() if connection.read_only is None else connection.transaction()


def open_connection(database_url: str, *, application: str, timeouts: Timeouts, **arguments: Any) -> BoundedConnection:  # noqa: ANN401 - psycopg's
    """Return a new autocommitting connection, which the caller closes. *arguments*: psycopg's. Raises its errors."""
    options = {**connect_arguments(database_url, application), "autocommit": True, **arguments}
    connection = BoundedConnection.connect(**options)
    try:
        set_session(connection, timeouts, pooled=is_pooled(database_url))
    except BaseException:
        connection.close()
        raise
    return connection

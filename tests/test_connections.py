"""Settings of a role, a database or an environment do not change what this service does."""

from __future__ import annotations

import dataclasses
import gc
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from click.testing import CliRunner
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from receiver.cli import main
from receiver.connections import LONG, WEB, WORK, Timeouts, open_connection
from receiver.counter_store import connecting
from receiver.db import engine_for, small_engine_for
from receiver.deliveries.store import SERVER_LOST, connect, connection_pool
from receiver.migrate import differences, upgrade
from receiver.processing.drain import drain
from receiver.records.write import writing_connection
from tests.conftest import Organizations
from tests.support.applications import receiver_with
from tests.support.factories import card_holder, snapshot
from tests.support.roles import set_for_sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager

    from receiver.settings import Settings
    from tests.conftest import Acme

    Show = Callable[[str], str]

# what an administrator set for all sessions, and what ours have instead
SESSION = {
    "DateStyle": ("SQL, DMY", "ISO, MDY"),
    "IntervalStyle": ("sql_standard", "postgres"),
    "TimeZone": ("Europe/Stockholm", "UTC"),
    "client_encoding": ("LATIN1", "UTF8"),
    "standard_conforming_strings": ("off", "on"),
    "default_transaction_isolation": ("serializable", "read committed"),
    "default_transaction_read_only": ("on", "off"),
    "default_transaction_deferrable": ("on", "off"),
    "search_path": ("receiver, ems", "public"),
    "bytea_output": ("escape", "hex"),
    "extra_float_digits": ("-15", "1"),
    "array_nulls": ("off", "on"),
    "quote_all_identifiers": ("on", "off"),
    "synchronous_commit": ("off", "on"),
    "idle_session_timeout": ("1s", "0"),
    "client_connection_check_interval": ("0", "5s"),
}
BOUNDS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")


@pytest.fixture
def strange_database(new_database: Callable[[], str]) -> str:
    """An empty database whose sessions are set as no code expects them."""
    url = new_database()
    set_for_sessions(url, {**{name: value for name, (value, _) in SESSION.items()}, **dict.fromkeys(BOUNDS, "1s")})
    return url


@contextmanager
def by_engine(url: str) -> Iterator[Show]:
    engine = engine_for(url, application="tests", timeouts=LONG)
    with engine.connect() as connection:
        yield lambda name: str(connection.exec_driver_sql(f"SHOW {name}").scalar_one())
    engine.dispose()


@contextmanager
def by_console(url: str) -> Iterator[Show]:
    engine = small_engine_for(url, application="tests", connections=1, timeouts=WEB)
    with engine.connect() as connection:
        yield lambda name: str(connection.exec_driver_sql(f"SHOW {name}").scalar_one())
    engine.dispose()


@contextmanager
def by_pool(url: str) -> Iterator[Show]:
    with connection_pool(url, size=1) as pool, pool.connection() as connection:
        yield lambda name: shown(connection, name)


@contextmanager
def by_committer(url: str) -> Iterator[Show]:
    with closing(connect(url)) as connection:
        yield lambda name: shown(connection, name)


@contextmanager
def by_counters(url: str) -> Iterator[Show]:
    with connecting(url)() as connection:
        yield lambda name: shown(connection, name)


def shown(connection: psycopg.Connection[Any], name: str) -> str:
    (value,) = connection.execute(f"SHOW {name}".encode()).fetchone() or ("",)
    return str(value)


@pytest.mark.parametrize("opened", [by_engine, by_console, by_pool, by_committer, by_counters])
def test_every_session_has_the_settings_that_the_code_needs(
    opened: Callable[[str], AbstractContextManager[Show]], strange_database: str
) -> None:
    with opened(strange_database) as show:
        assert {name: show(name) for name in SESSION} == {name: ours for name, (_, ours) in SESSION.items()}
        assert "1s" not in {name: show(name) for name in BOUNDS}.values()
        assert show("transaction_isolation") == "read committed"
        assert show("transaction_read_only") == "off"


def test_safer_synchronous_commit_is_kept(new_database: Callable[[], str]) -> None:
    url = new_database()
    set_for_sessions(url, {"synchronous_commit": "remote_apply"})
    with by_engine(url) as show:
        assert show("synchronous_commit") == "remote_apply"


@pytest.mark.parametrize("timeouts", [WEB, WORK, LONG])
def test_a_session_has_the_timeouts_of_its_work(timeouts: Timeouts, settings: Settings) -> None:
    with closing(open_connection(settings.database_url, application="tests", timeouts=timeouts)) as connection:
        asked = "SELECT setting::int / 1000 FROM pg_settings WHERE name = %s AND unit = 'ms'"
        for name, seconds in (
            ("statement_timeout", timeouts.statement),
            ("lock_timeout", timeouts.lock),
            ("idle_in_transaction_session_timeout", timeouts.idle_in_transaction),
            ("idle_session_timeout", timeouts.idle),
        ):
            assert connection.execute(asked, (name,)).fetchone() == (seconds,), name
        if connection.info.server_version >= 170_000:
            assert connection.execute(asked, ("transaction_timeout",)).fetchone() == (timeouts.transaction,)


def test_the_whole_way_of_a_delivery_works_with_strange_settings(
    strange_database: str, settings: Settings, environment: dict[str, str]
) -> None:
    given = dataclasses.replace(settings, database_url=strange_database)
    engine = engine_for(strange_database, application="tests")
    with engine.connect() as connection:
        upgrade(connection)
        assert differences(connection) == []
    with receiver_with(given) as app:
        acme = Organizations(app.test_client(), engine, given).adopt("acme")
        assert acme.client.get("/readyz").status_code == 200
        for event, payload in (
            ("card_holder.created", card_holder()),
            ("card.transaction.cleared", snapshot("cleared")),
        ):
            acme.deliver_ok(event, payload)
        assert drain(engine)
    assert acme.statuses() == ["processed", "processed"]
    result = CliRunner(env={**environment, "DATABASE_URL": strange_database}).invoke(main, ["export", "ledger"])
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 2
    engine.dispose()


def test_parameters_of_the_database_url_apply(settings: Settings) -> None:
    mark = "&" if "?" in settings.database_url else "?"
    url = f"{settings.database_url}{mark}application_name=ours&options=-c%20geqo%3Doff&connect_timeout=7"
    with closing(open_connection(url, application="tests", timeouts=WEB)) as connection:
        assert shown(connection, "application_name") == "ours"
        assert shown(connection, "geqo") == "off"
        assert shown(connection, "TimeZone") == "UTC"
        assert connection.info.get_parameters()["connect_timeout"] == "7"


def test_storing_waits_no_minute_for_a_lost_packet(settings: Settings) -> None:
    with closing(connect(settings.database_url)) as storing:
        assert storing.info.get_parameters()["tcp_user_timeout"] == str(SERVER_LOST)


def test_a_connection_is_dropped_when_no_answer_comes(settings: Settings) -> None:
    timeouts = dataclasses.replace(WEB, answer=0.2)
    with closing(open_connection(settings.database_url, application="tests", timeouts=timeouts)) as connection:
        with pytest.raises(psycopg.OperationalError, match=r"did not answer within 0\.2 s"):
            connection.execute("SELECT pg_sleep(60)")
        assert connection.closed


def test_error_of_a_statement_does_not_drop_its_connection(settings: Settings) -> None:
    def refused() -> Generator[Any, Any, Any]:
        yield from ()
        raise psycopg.errors.SerializationFailure

    with closing(open_connection(settings.database_url, application="tests", timeouts=WORK)) as connection:
        with connection.pipeline():
            connection.execute("SELECT 1")  # sent, and not awaited yet
            with pytest.raises(psycopg.errors.SerializationFailure):
                connection.wait(refused())
        assert not connection.closed


def test_cursor_that_lost_its_connection_is_not_left_open(settings: Settings) -> None:
    engine = engine_for(settings.database_url, application="tests", timeouts=LONG)
    with engine.connect() as connection, engine.connect() as other:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        other.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})
        with pytest.raises(OperationalError):
            connection.execute(text("SELECT 1"), execution_options={"yield_per": 1})
    engine.dispose()
    gc.collect()  # a warning of a cursor that is open fails the test


def test_writing_connection_that_cannot_prepare_is_closed(acme: Acme, settings: Settings) -> None:
    engine = engine_for(settings.database_url, application="blocked", timeouts=dataclasses.replace(WORK, lock=1))
    with acme.engine.begin() as other:
        other.execute(text("LOCK TABLE receiver.bodies"))
        with pytest.raises(psycopg.errors.LockNotAvailable):
            writing_connection(engine)
        gc.collect()  # a warning of a connection that is open fails the test
    engine.dispose()

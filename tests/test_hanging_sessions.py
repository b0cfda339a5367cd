"""PostgreSQL ends the session of a process that hangs within its time-out, and releases its locks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from receiver.connections import EXPORT, LONG, MIGRATE, RECONCILE, STORE, WEB, WORK
from receiver.db import engine_for, held_lock
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

    from receiver.connections import Timeouts
    from receiver.settings import Settings

KEY = 471147
SECONDS = 40
KINDS: dict[str, Timeouts] = {
    "a web process that stores": STORE,
    "a web process that reads, and the console": WEB,
    "a worker": WORK,
    "bootstrap, retention and the commands": LONG,
    "reconciling": RECONCILE,
    "an export": EXPORT,
    "a migration": MIGRATE,
}


@pytest.fixture
def other(settings: Settings) -> Iterator[Connection]:
    """A process that needs what the one that hangs holds."""
    engine = engine_for(settings.database_url, application="other")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection
    engine.dispose()


def hanging(settings: Settings, timeouts: Timeouts) -> Engine:
    return engine_for(settings.database_url, application="hangs", timeouts=timeouts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_that_hangs_in_a_transaction_loses_its_locks(
    settings: Settings, other: Connection, kind: str
) -> None:
    timeouts = KINDS[kind]
    assert timeouts.idle_in_transaction, "without a bound it would hold them for as long as it hangs"
    engine = hanging(settings, replace(timeouts, idle_in_transaction=1))
    connection = engine.connect()
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": KEY})
    lock = text("SELECT pg_try_advisory_lock(:key) AND pg_advisory_unlock(:key)")
    assert eventually(lambda: bool(other.scalar(lock, {"key": KEY})), within=SECONDS)
    connection.invalidate()
    engine.dispose()


HOLDER = f"""
import sys
from receiver.db import engine_for, held_lock
from receiver.errors import OperationRefused

engine = engine_for(sys.argv[1], application="holder")
with held_lock(engine, {KEY}, seconds=2) as held:
    print(bool(held), flush=True)
    for line in sys.stdin:
        try:
            print(held.check(), flush=True)
        except OperationRefused as error:
            print(error, flush=True)
"""
SHOWN_LIFE = (
    "SELECT coalesce(max(state_change - backend_start) > interval '5 seconds', false) FROM pg_stat_activity "
    "WHERE application_name = 'receiver holder' AND datname = current_database()"
)


def test_bootstrap_or_retention_that_hangs_loses_its_lock(settings: Settings, other: Connection) -> None:
    lock = text("SELECT pg_try_advisory_lock(:key) AND pg_advisory_unlock(:key)")
    command = [sys.executable, "-c", HOLDER, settings.database_url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as holder:
        try:
            assert holder.stdin is not None
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"True\n"
            assert eventually(lambda: bool(other.scalar(text(SHOWN_LIFE))), within=SECONDS)
            assert not other.scalar(lock, {"key": KEY}), "as long as it shows that it lives it keeps the lock"
            holder.stdin.write(b"check\n")
            assert holder.stdout.readline() == b"None\n"
            os.kill(holder.pid, signal.SIGSTOP)
            assert eventually(lambda: bool(other.scalar(lock, {"key": KEY})), within=SECONDS)
            holder.stdin.write(b"check\n")
            os.kill(holder.pid, signal.SIGCONT)
            assert b"and lost its lock: run again" in holder.stdout.readline()
        finally:
            holder.kill()


def test_a_lock_is_given_back_with_its_session_as_it_was(settings: Settings, other: Connection) -> None:
    engine = engine_for(settings.database_url, application="holder", timeouts=RECONCILE)
    with held_lock(engine, KEY) as held, held_lock(engine, KEY) as held_again:
        assert (bool(held), bool(held_again)) == (True, False)
    with held_lock(engine, KEY) as held:
        assert held
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT current_setting('idle_session_timeout')")) == "15min"
    engine.dispose()
    assert other.scalar(text("SELECT pg_try_advisory_lock(:key) AND pg_advisory_unlock(:key)"), {"key": KEY})

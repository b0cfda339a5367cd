"""Real processes that hang, and a PostgreSQL that vanishes: others work on, and what was under way is done again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import pytest
from sqlalchemy import text

from receiver.db import one_connection
from receiver.locks import Lock
from receiver.migrate import differences
from receiver.processing.drain import drain
from receiver.queue import QUEUE
from tests.support.factories import card_holder, snapshot
from tests.support.pools import ACCESS, RECEIVER, ROOT, SECONDS, PoolProcess, running
from tests.support.redis_faults import processed
from tests.support.session_locks import LOCKS, WAITING
from tests.support.silence import way_to
from tests.support.waiting import eventually
from tests.support.web_process import running as serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from redis import Redis

    from receiver.settings import Settings
    from tests.conftest import Acme

CREATED, CLEARED = "card_holder.created", "card.transaction.cleared"
BOUND = 2
"""Seconds, in the place of a minute or more."""
APPLICATION_LOCKS = f"{LOCKS} AND application_name = :application AND locktype <> 'virtualxid'"


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Let processes hang for the length of the block."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def family_of(pid: int) -> Sequence[int]:
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


@contextmanager
def started(program: str, *arguments: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


# --- a worker --------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_worker_that_hangs_between_jobs_stops_no_other(
    acme: Acme, redis: Redis, pool: PoolProcess, environment: dict[str, str]
) -> None:
    acme.deliver_ok(CREATED, card_holder("before"))
    assert processed(acme, redis)
    (worker,) = pool.workers(QUEUE)
    with stopped(*family_of(worker)):
        acme.deliver_ok(CREATED, card_holder("meanwhile"))
        with running(redis, {**environment, **ACCESS}):
            assert processed(acme, redis)
        assert eventually(lambda: acme.value(APPLICATION_LOCKS, application="receiver worker") == 0, within=SECONDS)
    acme.deliver_ok(CREATED, card_holder("after"))
    assert processed(acme, redis)
    assert acme.value("SELECT count(*) FROM ems.card_holders") == 3


# --- PostgreSQL vanishes ---------------------------------------------------------------------------------------------

WORKER = f"""
import sys
from dataclasses import replace
from receiver.connections import WORK
from receiver.db import engine_for
from receiver.processing.drain import drain

timeouts = replace(WORK, answer={BOUND}, idle_in_transaction={BOUND})
drain(engine_for(sys.argv[1], application="worker", timeouts=timeouts))
"""


def test_a_worker_leaves_a_postgresql_that_vanished(acme: Acme, settings: Settings) -> None:
    acme.deliver_ok(CLEARED, snapshot("cleared"))
    with way_to(settings.database_url) as way, acme.engine.begin() as holder:
        holder.execute(text(f"SELECT pg_advisory_xact_lock({int(Lock.FEED)})"))
        with started(WORKER, way.url, environment={}) as worker:
            assert eventually(lambda: acme.value(WAITING) == 1, within=SECONDS)
            way.fall_silent()
            _, said = worker.communicate(timeout=SECONDS)
    # while the answer is waited for, or when the worker connects again because its wait for the lock was over
    assert b"did not answer within" in said or b"ConnectionTimeout" in said
    acme.execute("UPDATE receiver.queue SET due_at = now()")

    def done() -> bool:
        drain(acme.engine)
        return acme.statuses() == ["processed"]

    assert eventually(done, within=SECONDS)
    assert acme.value("SELECT count(*) FROM ems.events") == 1


# in a network of its own, which breaks down under a connection: nothing is answered any more, not even by a kernel
LOST = """
import os, subprocess, sys
import psycopg
from receiver import connections
from tests.support.silence import Way

def network(state):
    subprocess.run(["ip", "link", "set", "lo", state], check=True)

network("up")
wanted = connections.DEFAULTS
connections.DEFAULTS = {**wanted, "tcp_user_timeout": wanted["tcp_user_timeout"] // 30}
connection = connections.open_connection(Way(sys.argv[1]).url, application="lost", timeouts=connections.LONG)
network("down")
try:
    connection.execute("SELECT 1")
except psycopg.OperationalError as error:
    print(error, flush=True)
os._exit(0)
"""


def test_a_packet_that_is_lost_for_a_minute_ends_a_connection(settings: Settings) -> None:
    of_its_own = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    try:
        subprocess.run([*of_its_own, "ip", "link", "show"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not have a network of its own here")
    program = [*of_its_own, sys.executable, "-c", LOST, settings.database_url]
    given = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run(program, env=given, capture_output=True, text=True, timeout=20, check=True).stdout
    assert "Connection timed out" in said


def test_a_web_process_takes_deliveries_when_postgresql_is_back(
    acme: Acme, settings: Settings, environment: dict[str, str], tmp_path: Path
) -> None:
    with (
        way_to(settings.database_url) as way,
        serving(acme, {**environment, "DATABASE_URL": way.url}, tmp_path) as web,
    ):
        assert web.deliver("before") == 200
        way.fall_silent()
        began = time.monotonic()
        assert web.deliver("lost") == 503
        assert time.monotonic() - began < 15
        way.speak()
        assert eventually(lambda: web.deliver("after") == 200, within=SECONDS)
        assert {"before", "after"} <= web.stored()


# --- a web process ---------------------------------------------------------------------------------------------------


def test_a_web_process_that_hangs_holds_no_lock(acme: Acme, environment: dict[str, str], tmp_path: Path) -> None:
    with serving(acme, environment, tmp_path) as web, ThreadPoolExecutor(4) as threads:
        for round_ in range(5):
            answers = [threads.submit(web.deliver, f"employee-{round_}-{number}") for number in range(40)]
            assert eventually(lambda: any(answer.done() for answer in answers), within=SECONDS)  # noqa: B023
            with stopped(*family_of(web.processes.pid("web"))):
                acme.deliver_ok(CREATED, card_holder(f"other-{round_}"))
                acme.process()
                assert eventually(lambda: acme.value(APPLICATION_LOCKS, application="receiver web") == 0, within=15)
            assert [answer.result() for answer in answers] == [200] * 40
    assert acme.value("SELECT count(*) FROM receiver.deliveries") == 5 * 41


# --- an export, a migration ------------------------------------------------------------------------------------------

EXPORTER = f"""
from dataclasses import replace
from receiver.cli import export, main

export.EXPORT = replace(export.EXPORT, idle_in_transaction={BOUND})
main(["export", "events", "--format", "jsonl"])
"""


def test_an_export_that_hangs_keeps_no_table(acme: Acme, environment: dict[str, str]) -> None:
    for number in range(200):
        acme.deliver_ok(CLEARED, snapshot("cleared", transaction=str(number)))
    acme.process()
    with started(EXPORTER, environment=environment) as exporting:
        assert exporting.stdout is not None
        assert exporting.stdout.read(1000), "and nobody reads on, so that it waits in the middle of its snapshot"
        acme.deliver_ok(CLEARED, snapshot("cleared", transaction="meanwhile"))
        acme.process()
        assert acme.statuses() == ["processed"] * 201
        with acme.engine.begin() as migrating:
            migrating.execute(text("SET LOCAL lock_timeout = '30s'"))
            migrating.execute(text("LOCK ems.events IN ACCESS EXCLUSIVE MODE"))
        _, said = exporting.communicate(timeout=SECONDS)
    assert exporting.returncode == 1, "half an export must not look like a whole one"
    assert said.startswith(b"receiver: PostgreSQL (DATABASE_URL) failed: ")
    assert len(said.splitlines()) == 1


MIGRATION = f"""
import os, signal
from dataclasses import replace
from sqlalchemy import Engine, event
from receiver.cli import db, main

db.MIGRATE = replace(db.MIGRATE, idle_in_transaction={BOUND})

def freeze(connection, cursor, statement, *_):
    if "CREATE TABLE ems.transactions" in statement:
        os.kill(os.getpid(), signal.SIGSTOP)

event.listen(Engine, "after_cursor_execute", freeze)
main(["db", "upgrade"])
"""


def test_a_migration_that_hangs_is_done_by_the_next(
    new_database: Callable[[], str], environment: dict[str, str]
) -> None:
    given = {**environment, "DATABASE_URL": new_database()}
    with started(MIGRATION, environment=given) as hanging:
        process = psutil.Process(hanging.pid)
        assert eventually(lambda: process.status() == psutil.STATUS_STOPPED, within=SECONDS)
        next_one = subprocess.run(
            [RECEIVER, "db", "upgrade"], env={**os.environ, **given}, capture_output=True, timeout=SECONDS, check=False
        )
        assert next_one.returncode == 0, next_one.stderr
        hanging.send_signal(signal.SIGCONT)
        _, said = hanging.communicate(timeout=SECONDS)
    assert hanging.returncode == 1
    assert b"receiver: PostgreSQL (DATABASE_URL) failed: " in said
    assert b"Traceback" not in said
    with one_connection(given["DATABASE_URL"], application="tests") as connection:
        assert differences(connection) == []

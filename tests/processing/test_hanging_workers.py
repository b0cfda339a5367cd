"""No worker holds up the others for long: not one that hangs, and not one that vanished."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import pytest
from click.testing import CliRunner
from psycopg.errors import LockNotAvailable
from sqlalchemy import text

from receiver.cli import main
from receiver.connections import WORK
from receiver.counter_store import Flusher, connecting
from receiver.db import engine_for
from receiver.deliveries.models import ABANDONED, HELD_UP
from receiver.locks import Lock
from receiver.processing.claim import MAX_WORKER_CRASHES
from receiver.processing.drain import drain
from receiver.records.epochs import compare_history
from receiver.records.write import writing_connection
from tests.support.factories import snapshot
from tests.support.processing_steps import end_leases, feed
from tests.support.session_locks import ADVISORY
from tests.support.silence import way_to
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

    from receiver.settings import Settings
    from tests.conftest import Acme

CLEARED = "card.transaction.cleared"
SECONDS = 40
CUT_OFF = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE application_name = 'receiver worker' AND datname = current_database()"
)
# it stops itself with deliveries that it has claimed
FREEZER = """
import os, signal, sys
from receiver.connections import WORK
from receiver.db import engine_for
from receiver.processing import batch, drain

def freeze(connection, change):
    os.kill(os.getpid(), signal.SIGSTOP)
    commit(connection, change)

commit, batch.commit = batch.commit, freeze
drain.drain(engine_for(sys.argv[1], application="worker", timeouts=WORK))
"""
DRAINER = FREEZER.replace("os.kill(os.getpid(), signal.SIGSTOP)", "pass")


@contextmanager
def frozen_worker(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker until it hangs with what it has claimed; it ends with the block."""
    with subprocess.Popen([sys.executable, "-c", FREEZER, url], stderr=subprocess.PIPE) as process:
        try:
            assert eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, within=SECONDS)
            yield process
        finally:
            process.kill()


@contextmanager
def waiting_worker(acme: Acme, url: str) -> Iterator[tuple[subprocess.Popen[bytes], Connection]]:
    """Run a worker until it waits for the feed's lock, which the yielded connection holds; both end with the block."""
    with acme.engine.connect() as holder, holder.begin():
        holder.execute(text(f"SELECT pg_advisory_xact_lock({int(Lock.FEED)})"))
        with subprocess.Popen([sys.executable, "-c", DRAINER, url], stderr=subprocess.PIPE) as process:
            try:
                assert eventually(lambda: feed_locks(acme, granted=False) == 1, within=SECONDS)
                yield process, holder
            finally:
                process.kill()


@pytest.fixture(autouse=True)
def _known_history(acme: Acme) -> None:
    """Have the history of PostgreSQL noted, which the first batch of a database does under the feed's lock."""
    compare = writing_connection(acme.engine)
    compare_history(compare)
    compare.close()


@pytest.fixture
def worker(settings: Settings) -> Iterator[Engine]:
    """The connections of a worker in this process."""
    engine = engine_for(settings.database_url, application="other worker", timeouts=WORK)
    yield engine
    engine.dispose()


def test_worker_that_hangs_with_its_claim_blocks_no_other(acme: Acme, settings: Settings, worker: Engine) -> None:
    acme.deliver_ok(CLEARED, snapshot("cleared", transaction="held"))
    with frozen_worker(settings.database_url) as frozen:
        assert feed_locks(acme, granted=True) == 0
        acme.deliver_ok(CLEARED, snapshot("cleared", transaction="other"))
        assert drain(worker)
        assert acme.statuses() == ["pending", "processed"]
        end_leases(acme)
        assert drain(worker)
        assert acme.statuses() == ["processed", "processed"]
        os.kill(frozen.pid, signal.SIGCONT)
        _, said = frozen.communicate(timeout=SECONDS)
    assert b"Traceback" not in said
    assert len(feed(acme)) == 2


@pytest.mark.parametrize("cut_off", [False, True])
def test_worker_that_goes_on_was_not_crashed_by_a_delivery(
    acme: Acme,
    settings: Settings,
    worker: Engine,
    cut_off: bool,  # noqa: FBT001
) -> None:
    acme.deliver_ok(CLEARED, snapshot("cleared"))
    for _ in range(MAX_WORKER_CRASHES):
        acme.execute("UPDATE receiver.queue SET alone = true, due_at = now()")
        with frozen_worker(settings.database_url) as frozen:
            end_leases(acme)
            assert drain(worker)
            assert acme.row("SELECT status, error FROM receiver.deliveries") == {"status": "failed", "error": ABANDONED}
            if cut_off:
                acme.execute(CUT_OFF)
            os.kill(frozen.pid, signal.SIGCONT)
            frozen.communicate(timeout=SECONDS)
    errors = acme.rows("SELECT error FROM receiver.processing_attempts")
    assert errors == [{"error": HELD_UP}] * MAX_WORKER_CRASHES
    acme.execute("UPDATE receiver.queue SET due_at = now()")
    assert drain(worker)
    assert acme.statuses() == ["processed"]


def test_commit_completes_though_its_worker_hangs_at_the_lock(acme: Acme, settings: Settings) -> None:
    acme.deliver_ok(CLEARED, snapshot("cleared"))
    with waiting_worker(acme, settings.database_url) as (waiting, holder):
        os.kill(waiting.pid, signal.SIGSTOP)
        holder.rollback()
        assert eventually(lambda: acme.statuses() == ["processed"], within=SECONDS)
        assert feed_locks(acme, granted=True) == 0


def test_commit_completes_though_its_worker_vanishes(acme: Acme, settings: Settings) -> None:
    for number in range(300):  # more than the buffers of a connection hold
        acme.deliver_ok(CLEARED, snapshot("cleared", transaction=f"t{number}", purchase_merchant="m" * 10_000))
    with way_to(settings.database_url) as way, waiting_worker(acme, way.url) as (_, holder):
        way.fall_silent()
        holder.rollback()
        assert eventually(lambda: set(acme.statuses()) == {"processed"}, within=SECONDS)
        assert feed_locks(acme, granted=True) == 0


def test_lock_held_too_long_is_named_and_fails_no_delivery(
    acme: Acme, settings: Settings, environment: dict[str, str]
) -> None:
    acme.deliver_ok(CLEARED, snapshot("cleared"))
    engine = engine_for(settings.database_url, application="worker", timeouts=replace(WORK, lock=1))
    with acme.engine.begin() as holder:
        holder.execute(text(f"SELECT pg_advisory_xact_lock({int(Lock.FEED)})"))
        with pytest.raises(LockNotAvailable):
            drain(engine)
        assert acme.value("SELECT leased_until FROM receiver.queue") is None
        assert gauge(acme, "receiver_feed_lock_held_seconds") > 0
        pid = holder.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("receiver.ops.feed_lock.HELD_SECONDS", 0)
            result = CliRunner(env=environment).invoke(main, ["status"])
    assert result.exit_code == 1
    assert "receiver tests has held the feed's lock for" in result.stderr
    assert f"pg_terminate_backend({pid})" in result.stderr
    assert Flusher(connecting(settings.database_url)).flush()
    assert gauge(acme, "receiver_feed_lock_timeouts_total") == 1
    assert gauge(acme, "receiver_feed_lock_held_seconds") == 0
    assert drain(engine)
    assert acme.row("SELECT status, attempts, alone FROM receiver.deliveries") == {
        "status": "processed",
        "attempts": 1,
        "alone": False,
    }
    engine.dispose()


def test_killed_worker_stops_waiting_for_the_lock(acme: Acme, settings: Settings) -> None:
    acme.deliver_ok(CLEARED, snapshot("cleared"))
    with acme.engine.begin() as holder:
        holder.execute(text(f"SELECT pg_advisory_xact_lock({int(Lock.FEED)})"))
        with subprocess.Popen([sys.executable, "-c", DRAINER, settings.database_url]) as process:
            assert eventually(lambda: feed_locks(acme, granted=False) == 1, within=SECONDS)
            process.kill()
        assert eventually(lambda: feed_locks(acme, granted=False) == 0, within=WORK.lock)


def feed_locks(acme: Acme, *, granted: bool) -> int:
    """Return how many sessions hold the feed's lock, or wait for it."""
    return int(acme.value(f"{ADVISORY} AND objid = :feed AND granted = :granted", feed=int(Lock.FEED), granted=granted))


def gauge(acme: Acme, name: str) -> float:
    shown = acme.client.get("/metrics").text
    return float(re.findall(rf"^{name} (\S+)$", shown, flags=re.MULTILINE)[0])

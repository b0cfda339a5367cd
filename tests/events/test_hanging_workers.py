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
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from receiver.cli import main
from receiver.connections import WORK
from receiver.counter_store import Flusher, connecting
from receiver.db import engine_for
from receiver.processing.drain import drain
from receiver.locks import Lock
from tests.factories import snapshot
from tests.silence import way_to
from tests.test_queue import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from receiver.settings import Settings
    from tests.conftest import Acme

CLEARED = "card.transaction.cleared"
SECONDS = 40
FEED_LOCKS = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = :feed AND granted = :granted "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
IDLE = 3
"""Seconds, in the place of a minute."""
# it stops itself at the worst moment: with its rows and the feed's lock, before its commit
FREEZER = f"""
import os, signal, sys
from dataclasses import replace
from receiver.connections import WORK
from receiver.db import engine_for
from receiver.events import process

def freeze(connection, note):
    os.kill(os.getpid(), signal.SIGSTOP)
    delete_note(connection, note)

delete_note, process.delete_note = process.delete_note, freeze
process.drain(engine_for(sys.argv[1], application="worker", bounds=replace(WORK, idle_in_transaction={IDLE})))
"""


@contextmanager
def frozen_worker(acme: Acme, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker until it hangs in the transaction of a batch; it ends with the block."""
    with subprocess.Popen([sys.executable, "-c", FREEZER, url], stderr=subprocess.PIPE) as process:
        try:
            assert eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, within=SECONDS)
            assert feed_locks(acme, granted=True) == 1
            yield process
        finally:
            process.kill()


@pytest.fixture
def worker(settings: Settings) -> Iterator[Engine]:
    """The connections of a worker in this process."""
    engine = engine_for(settings.database_url, application="other worker", bounds=WORK)
    yield engine
    engine.dispose()


def test_a_worker_that_hangs_does_not_stop_another(acme: Acme, settings: Settings, worker: Engine) -> None:
    acme.take(CLEARED, snapshot("cleared", transaction="held"))
    with frozen_worker(acme, settings.database_url) as frozen:
        acme.take(CLEARED, snapshot("cleared", transaction="other"))
        drain(worker)
        assert acme.statuses()[1] == "processed"
        os.kill(frozen.pid, signal.SIGCONT)
        _, said = frozen.communicate(timeout=SECONDS)
    assert b"idle-in-transaction timeout" in said or b"closed the connection" in said
    due_now(acme)
    drain(worker)
    assert acme.statuses() == ["processed", "processed"]
    assert acme.value("SELECT count(*) FROM ems.events") == 2


def test_a_worker_whose_machine_vanishes_does_not_stop_another(acme: Acme, settings: Settings, worker: Engine) -> None:
    acme.take(CLEARED, snapshot("cleared", transaction="held"))
    with way_to(settings.database_url) as way, frozen_worker(acme, way.url) as frozen:
        way.fall_silent()
        frozen.kill()
        acme.take(CLEARED, snapshot("cleared", transaction="other"))
        drain(worker)
        assert acme.statuses()[1] == "processed"
        drain(worker)
    due_now(acme)
    drain(worker)
    assert acme.statuses() == ["processed", "processed"]
    assert acme.value("SELECT count(*) FROM ems.events") == 2


def test_a_lock_that_is_held_for_too_long_is_named_and_blames_no_delivery(
    acme: Acme, settings: Settings, environment: dict[str, str]
) -> None:
    acme.take(CLEARED, snapshot("cleared"))
    engine = engine_for(settings.database_url, application="worker", bounds=replace(WORK, lock=1))
    with acme.engine.begin() as holder:
        holder.execute(text(f"SELECT pg_advisory_xact_lock({int(Lock.FEED)})"))
        with pytest.raises(OperationalError, match="lock timeout"):
            drain(engine)
        assert acme.value("SELECT count(*) FROM receiver.processing_batches") == 0
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
    assert acme.row("SELECT status, attempts, suspect FROM receiver.deliveries") == {
        "status": "processed",
        "attempts": 1,
        "suspect": False,
    }
    engine.dispose()


def test_a_killed_worker_gives_up_its_place_in_the_queue_for_a_lock(acme: Acme, settings: Settings) -> None:
    acme.take(CLEARED, snapshot("cleared"))
    drainer = FREEZER.replace("os.kill(os.getpid(), signal.SIGSTOP)", "pass")
    with acme.engine.begin() as holder:
        holder.execute(text(f"SELECT pg_advisory_xact_lock({int(Lock.FEED)})"))
        with subprocess.Popen([sys.executable, "-c", drainer, settings.database_url]) as process:
            assert eventually(lambda: feed_locks(acme, granted=False) == 1, within=SECONDS)
            process.kill()
        assert eventually(lambda: feed_locks(acme, granted=False) == 0, within=WORK.lock - 10)


def feed_locks(acme: Acme, *, granted: bool) -> int:
    """Return how many sessions hold the feed's lock, or wait for it."""
    return int(acme.value(FEED_LOCKS, feed=int(Lock.FEED), granted=granted))


def gauge(acme: Acme, name: str) -> float:
    shown = acme.client.get("/metrics").text
    return float(re.findall(rf"^{name} (\S+)$", shown, flags=re.MULTILINE)[0])


def due_now(acme: Acme) -> None:
    acme.execute("UPDATE receiver.deliveries SET next_attempt_at = now() WHERE status = 'failed'")

"""Processes are killed at random moments of a stream: no delivery is lost, and none is applied twice."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from sqlalchemy import text

from receiver.sandbox.demo import wait_until_processed
from receiver.sandbox.faults import Faults, schedule
from receiver.sandbox.killable import KILLABLE
from receiver.sandbox.sender import deliver_all
from receiver.sandbox.story import make_story
from receiver.sandbox.verdict import differences
from tests.support.killable_receiver import running_machine
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from receiver.sandbox.registration import Registration
    from receiver.sandbox.story import Story
    from receiver.sandbox.tally import DeliveryTally
    from tests.support.killable_receiver import KillableMachine

pytestmark = pytest.mark.long

ORGANIZATIONS = ("acme", "globex")
FAULTS = Faults(duplicates=0.1, disorder=0.2, lost_answers=0.05, bursts=0.2)
SECONDS = 120


class KilledStream:
    """A story on its way, and how far it has come."""

    def __init__(self, story: Story, registrations: list[Registration], seed: int) -> None:
        self._sendings = schedule(story.events, FAULTS, seed)
        self._registrations = registrations
        self._completed = 0
        self._moved = threading.Condition()
        self.tally: DeliveryTally | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.tally = asyncio.run(
            deliver_all(self._sendings, self._registrations, connections=4, on_completed=lambda _sending: self._count())
        )

    def _count(self) -> None:
        with self._moved:
            self._completed += 1
            self._moved.notify_all()

    def wait_for(self, share: float) -> None:
        """Return when that share of the stream is completed."""
        wanted = int(share * len(self._sendings))
        with self._moved:
            assert self._moved.wait_for(lambda: self._completed >= wanted, timeout=SECONDS), "the stream does not move"

    def finish(self) -> DeliveryTally:
        self._thread.join(timeout=SECONDS)
        assert self.tally is not None
        return self.tally


def check(machine: KillableMachine, story: Story, tally: DeliveryTally) -> None:
    """Assert that every event is recorded once."""
    assert tally.given_up == 0
    wait_until_processed(machine.engine, seconds=SECONDS)
    with machine.engine.connect() as connection:
        assert differences(connection, story) == []
        statuses = set(connection.scalars(text("SELECT DISTINCT status FROM receiver.deliveries")))
        assert statuses == {"processed", "duplicate"}


@pytest.fixture
def machine() -> Iterator[KillableMachine]:
    with running_machine() as machine:
        yield machine


def stream(machine: KillableMachine, seed: int, act: Callable[[KilledStream], None], purchases: int = 150) -> None:
    """Send a story while *act* does its worst, and check."""
    registrations = machine.adopt(*ORGANIZATIONS)
    story = make_story(seed=seed, organizations=ORGANIZATIONS, purchases=purchases)
    running = KilledStream(story, registrations, seed)
    act(running)
    check(machine, story, running.finish())


def test_killing_each_process_loses_and_duplicates_nothing(machine: KillableMachine) -> None:
    def kill_one_after_the_other(running: KilledStream) -> None:
        for number in range(2 * len(KILLABLE)):
            running.wait_for((number + 1) / (2 * len(KILLABLE) + 1))
            part = KILLABLE[number % len(KILLABLE)]
            machine.parts.kill(part)
            machine.parts.start(part)

    stream(machine, seed=21, act=kill_one_after_the_other)


def test_deliveries_wait_while_valkey_is_down(machine: KillableMachine) -> None:
    def take_valkey_away(running: KilledStream) -> None:
        running.wait_for(0.2)
        machine.valkey.kill()
        running.wait_for(1)
        machine.valkey.start()

    stream(machine, seed=22, act=take_valkey_away, purchases=40)


def test_deliveries_wait_for_the_next_worker(machine: KillableMachine) -> None:
    def take_the_worker_away(running: KilledStream) -> None:
        machine.processes.stop("worker")
        running.wait_for(1)
        machine.processes.start("worker")

    stream(machine, seed=23, act=take_the_worker_away, purchases=40)


def test_stopped_worker_finishes_its_batch(machine: KillableMachine) -> None:
    machine.processes.stop("worker")
    registrations = machine.adopt(*ORGANIZATIONS)
    story = make_story(seed=24, organizations=ORGANIZATIONS, purchases=200)
    tally = asyncio.run(deliver_all(schedule(story.events, FAULTS, 24), registrations, connections=8))
    processed = text("SELECT count(*) FROM receiver.outcomes")
    machine.processes.start("worker")
    with machine.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        wait_for(lambda: bool(connection.scalar(processed)))
        assert machine.processes.stop("worker") == {"worker": 0}
        assert connection.scalar(text("SELECT count(*) FROM receiver.queue WHERE leased_until IS NOT NULL")) == 0
        assert connection.scalar(text("SELECT count(*) FROM receiver.queue WHERE alone")) == 0
    machine.processes.start("worker")
    check(machine, story, tally)


def wait_for(condition: Callable[[], bool]) -> None:
    assert eventually(condition, within=SECONDS)


def test_a_worker_whose_pool_was_killed_ends_by_itself(machine: KillableMachine) -> None:
    pool = psutil.Process(machine.processes.pid("worker"))
    assert eventually(lambda: bool(pool.children()), within=30), "the pool has just been started"
    children = pool.children(recursive=True)
    machine.processes.kill("worker", with_children=False)
    _gone, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []


ROOT = Path(__file__).parent.parent
ORPHAN = """
import multiprocessing, os, threading
from receiver.worker import watch_pool
from tests.support.killable_receiver import running_machine
from tests.support.waiting import eventually

def worker(pool):
    eventually(lambda: os.getppid() != pool)  # the pool is killed before the worker looks for it
    watch_pool()
    threading.Event().wait(60)
    print("still running")

multiprocessing.get_context("fork").Process(target=worker, args=(os.getpid(),)).start()
os._exit(0)
"""


def test_worker_ends_if_its_pool_was_killed_at_startup() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", ORPHAN], cwd=ROOT, capture_output=True, text=True, timeout=90, check=True
    )
    assert (ran.stdout, ran.stderr) == ("", "")  # the output ends when the last process that has it ends

"""``receiver scheduler``: what it enqueues, and that nothing piles up where no worker takes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import pytest
from rq import Queue
from rq.exceptions import StopRequested

from receiver.bootstrap.schedule import bootstrap_due
from receiver.files.schedule import fetch_due
from receiver.ops.retention.schedule import retain
from receiver.ops.rollup import roll_up
from receiver.processing.job import process_deliveries
from receiver.queue import BOOTSTRAP_QUEUE, FILES_QUEUE, QUEUE, RECONCILE_QUEUE, RETENTION_QUEUE
from receiver.reconcile.schedule import reconcile_due
from receiver.schedule import (
    BOOTSTRAP_TICK_SECONDS,
    FILES_TICK_SECONDS,
    KEPT_JOBS,
    RECONCILE_TICK_SECONDS,
    RETENTION_TICK_SECONDS,
    Scheduler,
    _scheduler,
)
from receiver.settings import load_settings
from receiver.worker import DeliveryWorker
from tests.support.pools import ACCESS, SECONDS
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis
    from rq.job import Job

RECEIVER = Path(sys.executable).with_name("receiver")


def scheduler(redis: Redis, environment: dict[str, str], **variables: str) -> Scheduler:
    return _scheduler(redis, load_settings({**environment, **variables}))


def tick(scheduler: Scheduler) -> None:
    """Let everything be due, and enqueue it."""
    for job in scheduler.get_jobs():
        job.next_enqueue_time = job.latest_enqueue_time = None
    scheduler.enqueue_jobs()


def jobs(redis: Redis, queue: str) -> list[Job]:
    return Queue(queue, connection=redis).get_jobs()


def test_each_tick_enqueues_all_that_may_be_due(redis: Redis, environment: dict[str, str]) -> None:
    tick(scheduler(redis, environment, **ACCESS))
    assert [job.func for job in jobs(redis, QUEUE)] == [process_deliveries]
    assert [job.func for job in jobs(redis, RECONCILE_QUEUE)] == [reconcile_due]
    assert [job.func for job in jobs(redis, FILES_QUEUE)] == [fetch_due]
    assert [job.func for job in jobs(redis, BOOTSTRAP_QUEUE)] == [bootstrap_due]
    assert [job.func for job in jobs(redis, RETENTION_QUEUE)] == [roll_up, retain]


def test_all_is_due_at_once_after_the_clock_was_set_back(redis: Redis, environment: dict[str, str]) -> None:
    each = scheduler(redis, environment, **ACCESS)
    for job in each.get_jobs():
        job.set_enqueue_time(datetime.now(UTC) + timedelta(hours=1))  # the clock has been set back by an hour since
    assert each.enqueue_jobs() == each.get_jobs()
    assert each.enqueue_jobs() == [], "and from then on, at the times of the clock as it is now"


def test_without_access_nothing_is_enqueued_that_needs_it(redis: Redis, environment: dict[str, str]) -> None:
    tick(scheduler(redis, environment))
    assert redis.exists(f"rq:queue:{QUEUE}", f"rq:queue:{RETENTION_QUEUE}") == 2
    assert not redis.exists(*(f"rq:queue:{queue}" for queue in (RECONCILE_QUEUE, FILES_QUEUE, BOOTSTRAP_QUEUE)))


def test_an_interval_of_0_turns_the_runs_off(redis: Redis, environment: dict[str, str]) -> None:
    tick(scheduler(redis, environment, **ACCESS, RECONCILE_INTERVAL="0", BOOTSTRAP_INTERVAL="0"))
    assert redis.exists(f"rq:queue:{FILES_QUEUE}")
    assert not redis.exists(f"rq:queue:{RECONCILE_QUEUE}", f"rq:queue:{BOOTSTRAP_QUEUE}")


SECONDS_OF: Final = {
    RECONCILE_QUEUE: RECONCILE_TICK_SECONDS,
    FILES_QUEUE: FILES_TICK_SECONDS,
    BOOTSTRAP_QUEUE: BOOTSTRAP_TICK_SECONDS,
    RETENTION_QUEUE: RETENTION_TICK_SECONDS,
}


@pytest.mark.parametrize("queue", SECONDS_OF)
def test_while_no_worker_takes_them_jobs_do_not_pile_up(redis: Redis, environment: dict[str, str], queue: str) -> None:
    schedulers = [scheduler(redis, environment, **ACCESS) for _ in range(2)]
    for _ in range(20):
        for each in schedulers:
            tick(each)
    waiting = redis.lrange(f"rq:queue:{queue}", 0, -1)
    assert len(waiting) == KEPT_JOBS
    newest = jobs(redis, queue)[-1]
    assert waiting[-1] == newest.id.encode()
    assert 0 < redis.ttl(newest.key) <= SECONDS_OF[queue], "and those that nobody took soon are gone"


NO_CLIENT = "OPENCARD_ACCOUNT_ID, OPENCARD_CLIENT_ID, OPENCARD_CLIENT_SECRET are not set"


@pytest.mark.parametrize(
    ("settings", "reasons"),
    [
        ({}, [NO_CLIENT, NO_CLIENT]),
        ({**ACCESS, "OPENCARD_CLIENT_ID": ""}, ["OPENCARD_CLIENT_ID is not set"] * 2),
        ({**ACCESS, "RECONCILE_INTERVAL": "0"}, ["RECONCILE_INTERVAL is 0"]),
        (ACCESS, []),
    ],
)
def test_that_nothing_is_reconciled_or_downloaded_is_said_once(
    redis: Redis, environment: dict[str, str], settings: dict[str, str], reasons: list[str]
) -> None:
    process = subprocess.Popen(
        [RECEIVER, "scheduler"], env={**os.environ, **environment, **settings}, stderr=subprocess.PIPE, text=True
    )
    assert eventually(lambda: bool(redis.exists(f"rq:queue:{QUEUE}")), within=SECONDS)
    process.terminate()
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    lines = [msgspec.json.decode(line) for line in said.splitlines() if line.startswith("{")]
    warnings = [line for line in lines if line["level"] == "warning"]
    assert [line["reason"] for line in warnings] == reasons


@pytest.fixture
def signal_handlers() -> Iterator[None]:
    """Restore the handlers of this process afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signal_handlers")
def test_stops_though_the_exception_of_a_signal_is_lost(redis: Redis) -> None:
    class InterruptedScheduler(Scheduler):
        rounds = 0

        def heartbeat(self) -> None:
            assert self.rounds == 0, "the scheduler went on"
            self.rounds += 1
            with suppress(StopRequested):  # as logging does, and whatever runs in a finalizer
                os.kill(os.getpid(), signal.SIGTERM)

        def calculate_sleep_interval(self) -> float:
            return 0

    InterruptedScheduler(connection=redis).run()


@pytest.mark.usefixtures("signal_handlers")
def test_idle_worker_stops_though_the_exception_is_lost(redis: Redis) -> None:
    class InterruptedWorker(DeliveryWorker):
        rounds = 0

        def _take_job(self) -> None:
            assert self.rounds == 0, "the worker went on"
            self.rounds += 1
            with suppress(StopRequested):
                os.kill(os.getpid(), signal.SIGTERM)

    assert InterruptedWorker([QUEUE], connection=redis, prepare_for_work=False).work()

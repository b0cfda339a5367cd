"""``receiver scheduler``: what it enqueues, and that nothing piles up where nobody takes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from rq import Queue

from receiver.events.process import process_deliveries
from receiver.files.schedule import fetch_due
from receiver.ops.retention.schedule import retain
from receiver.ops.rollup import roll_up
from receiver.queue import FILES_QUEUE, QUEUE, RECONCILE_QUEUE, RETENTION_QUEUE
from receiver.reconcile.schedule import reconcile_due
from receiver.schedule import KEPT_JOBS, RECONCILE_TICK_SECONDS, RETENTION_TICK_SECONDS, Scheduler, _scheduler
from tests.pools import ACCESS, SECONDS
from tests.test_queue import eventually

if TYPE_CHECKING:
    from redis import Redis
    from rq.job import Job

RECEIVER = Path(sys.executable).with_name("receiver")


def tick(scheduler: Scheduler) -> None:
    """Let everything be due, and enqueue it."""
    for job in scheduler.get_jobs():
        job.next_enqueue_time = job.latest_enqueue_time = None
    scheduler.enqueue_jobs()


def jobs(redis: Redis, queue: str) -> list[Job]:
    return Queue(queue, connection=redis).get_jobs()


def test_each_tick_enqueues_a_sweep_what_reconciles_what_downloads_and_what_deletes(redis: Redis) -> None:
    tick(_scheduler(redis, reconcile=True, files=True))
    assert [job.func for job in jobs(redis, QUEUE)] == [process_deliveries]
    assert [job.func for job in jobs(redis, RECONCILE_QUEUE)] == [reconcile_due]
    assert [job.func for job in jobs(redis, FILES_QUEUE)] == [fetch_due]
    assert [job.func for job in jobs(redis, RETENTION_QUEUE)] == [roll_up, retain]


def test_where_nothing_is_reconciled_or_downloaded_no_job_is_enqueued_for_it(redis: Redis) -> None:
    tick(_scheduler(redis, reconcile=False, files=False))
    assert redis.exists(f"rq:queue:{QUEUE}", f"rq:queue:{RETENTION_QUEUE}") == 2
    assert not redis.exists(f"rq:queue:{RECONCILE_QUEUE}", f"rq:queue:{FILES_QUEUE}")


@pytest.mark.parametrize("queue", [RECONCILE_QUEUE, FILES_QUEUE, RETENTION_QUEUE])
def test_while_no_worker_takes_them_jobs_do_not_pile_up(redis: Redis, queue: str) -> None:
    schedulers = [_scheduler(redis, reconcile=True, files=True) for _ in range(2)]
    for _ in range(20):
        for scheduler in schedulers:
            tick(scheduler)
    waiting = redis.lrange(f"rq:queue:{queue}", 0, -1)
    assert len(waiting) == KEPT_JOBS
    newest = jobs(redis, queue)[-1]
    assert waiting[-1] == newest.id.encode()
    seconds = RETENTION_TICK_SECONDS if queue == RETENTION_QUEUE else RECONCILE_TICK_SECONDS
    assert 0 < redis.ttl(newest.key) <= seconds, "and those that nobody took soon are gone"


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
    scheduler = subprocess.Popen(
        [RECEIVER, "scheduler"], env={**os.environ, **environment, **settings}, stderr=subprocess.PIPE, text=True
    )
    assert eventually(lambda: bool(redis.exists(f"rq:queue:{QUEUE}")), within=SECONDS)
    scheduler.terminate()
    _, said = scheduler.communicate(timeout=SECONDS)
    assert scheduler.returncode == 0
    lines = [msgspec.json.decode(line) for line in said.splitlines() if line.startswith("{")]
    warnings = [line for line in lines if line["level"] == "warning"]
    assert [line["reason"] for line in warnings] == reasons

"""``receiver worker``: deliveries, reconciling and downloads side by side, none waiting for another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from rq import Queue, Worker

from receiver.ops.retention.schedule import retain
from receiver.queue import FILES_QUEUE, QUEUE, RECONCILE_QUEUE, RETENTION_QUEUE
from receiver.worker import ABANDON_SECONDS
from tests.factories import card_holder
from tests.long_job import RELEASED, STARTED, wait_until_released
from tests.ops.retention.steps import days_pass
from tests.test_queue import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

    from tests.conftest import Acme

ROOT = Path(__file__).parent.parent
RECEIVER = Path(sys.executable).with_name("receiver")
ACCESS = {
    "OPENCARD_API_URL": "http://127.0.0.1:1",
    "OPENCARD_ACCOUNT_ID": "1",
    "OPENCARD_CLIENT_ID": "client",
    "OPENCARD_CLIENT_SECRET": "secret",
}
SECONDS = 60
QUEUES = (QUEUE, RECONCILE_QUEUE, FILES_QUEUE, RETENTION_QUEUE)


@dataclass
class Pool:
    """A running ``receiver worker``."""

    process: subprocess.Popen[bytes]
    redis: Redis

    def workers(self, queue: str) -> set[int]:
        """Return the process ids of the workers that serve a queue."""
        family = {child.pid for child in psutil.Process(self.process.pid).children()}
        return family & {worker.pid or 0 for worker in Worker.all(queue=Queue(queue, connection=self.redis))}

    def is_up(self, *, reconcile: bool, files: bool = True) -> bool:
        number = [len(self.workers(queue)) for queue in QUEUES]
        return number == [1, int(reconcile), int(files), 1]

    def begin_a_long_job(self) -> None:
        """Have the reconcile queue's worker begin something that does not end."""
        Queue(RECONCILE_QUEUE, connection=self.redis).enqueue(wait_until_released, result_ttl=0)
        assert eventually(lambda: bool(self.redis.exists(STARTED)), within=SECONDS)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=SECONDS)


@contextmanager
def running(redis: Redis, environment: dict[str, str]) -> Iterator[Pool]:
    process = subprocess.Popen(
        [RECEIVER, "worker"], env={**os.environ, **environment, "PYTHONPATH": str(ROOT)}, start_new_session=True
    )
    family: list[psutil.Process] = []
    try:
        yield Pool(process, redis)
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    finally:
        process.kill()
        process.wait()
        for child in family:
            if child.is_running():
                child.kill()


@pytest.fixture
def pool(redis: Redis, environment: dict[str, str]) -> Iterator[Pool]:
    """A worker with one process for deliveries, where webhooks are reconciled and files downloaded."""
    with running(redis, {**environment, **ACCESS}) as pool:
        assert eventually(lambda: pool.is_up(reconcile=True), within=SECONDS)
        yield pool


def test_a_long_reconcile_keeps_no_delivery_waiting(acme: Acme, pool: Pool, redis: Redis) -> None:
    pool.begin_a_long_job()
    for _ in range(3):
        Queue(RECONCILE_QUEUE, connection=redis).enqueue(wait_until_released, result_ttl=0)
    for number in range(20):
        acme.take("card_holder.created", card_holder(f"employee-{number}"))
    assert eventually(lambda: acme.statuses() == ["processed"] * 20, within=SECONDS)
    assert redis.get(STARTED) == b"1", "the reconciles wait for each other, and nothing waits for them"
    redis.rpush(RELEASED, *range(4))
    assert eventually(lambda: redis.get(STARTED) == b"4", within=SECONDS)
    assert pool.stop() == 0


@pytest.mark.parametrize("queue", QUEUES)
def test_a_worker_that_is_killed_is_replaced_on_its_queue(acme: Acme, pool: Pool, redis: Redis, queue: str) -> None:
    (victim,) = pool.workers(queue)
    others = {pid for other in QUEUES if other != queue for pid in pool.workers(other)}
    os.kill(victim, signal.SIGKILL)
    assert eventually(lambda: pool.workers(queue) not in (set(), {victim}), within=SECONDS)
    assert pool.is_up(reconcile=True)
    assert others <= {pid for each in QUEUES for pid in pool.workers(each)}
    redis.rpush(RELEASED, 1)
    pool.begin_a_long_job()
    acme.take("card_holder.created", card_holder())
    assert eventually(lambda: acme.statuses() == ["processed"], within=SECONDS)
    assert pool.stop() == 0


def test_what_was_kept_long_enough_goes_in_a_process_of_its_own(acme: Acme, pool: Pool, redis: Redis) -> None:
    acme.tell("card_holder.created", card_holder())
    days_pass(acme.engine, 500)
    pool.begin_a_long_job()
    Queue(RETENTION_QUEUE, connection=redis).enqueue(retain, result_ttl=0)
    ended = "SELECT count(*) FROM receiver.retention_runs WHERE ended_at IS NOT NULL AND error IS NULL"
    assert eventually(lambda: acme.value(ended) == 1, within=SECONDS)
    assert acme.value("SELECT body FROM receiver.deliveries") is None
    redis.rpush(RELEASED, 1)
    assert pool.stop() == 0


def test_where_nothing_is_reconciled_or_downloaded_no_process_waits_for_it(
    redis: Redis, environment: dict[str, str]
) -> None:
    without = [
        ({}, False),
        ({**ACCESS, "OPENCARD_CLIENT_SECRET": ""}, False),
        ({**ACCESS, "RECONCILE_INTERVAL": "0"}, True),
    ]
    for settings, files in without:
        with running(redis, {**environment, **settings}) as pool:
            assert eventually(lambda pool=pool: len(pool.workers(QUEUE)) == 1, within=SECONDS)  # type: ignore[misc]
            assert eventually(
                lambda pool=pool, files=files: pool.is_up(reconcile=False, files=files),  # type: ignore[misc]
                within=SECONDS,
            )
            assert len(psutil.Process(pool.process.pid).children()) == 2 + int(files)
            assert pool.stop() == 0


@pytest.mark.long
def test_a_worker_that_is_stopped_does_not_wait_for_a_log_to_be_read(pool: Pool) -> None:
    pool.begin_a_long_job()
    family = psutil.Process(pool.process.pid).children(recursive=True)
    began = time.monotonic()
    assert pool.stop() == 0
    assert time.monotonic() - began < ABANDON_SECONDS + 10
    assert psutil.wait_procs(family, timeout=SECONDS)[1] == []

"""``receiver worker``: deliveries, reconciling and downloads side by side, none waiting for another."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from rq import Queue

from receiver.ops.retention.schedule import retain
from receiver.queue import QUEUE, RECONCILE_QUEUE, RETENTION_QUEUE
from receiver.worker import ABANDON_SECONDS
from tests.support.factories import card_holder
from tests.support.long_job import RELEASED, STARTED, wait_until_released
from tests.support.pools import ACCESS, QUEUES, SECONDS, running
from tests.support.retention_steps import days_pass
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from redis import Redis

    from tests.conftest import Acme
    from tests.support.pools import PoolProcess


def test_a_long_reconcile_keeps_no_delivery_waiting(acme: Acme, pool: PoolProcess, redis: Redis) -> None:
    pool.begin_a_long_job()
    for _ in range(3):
        Queue(RECONCILE_QUEUE, connection=redis).enqueue(wait_until_released, result_ttl=0)
    for number in range(20):
        acme.deliver_ok("card_holder.created", card_holder(f"employee-{number}"))
    assert eventually(lambda: acme.statuses() == ["processed"] * 20, within=SECONDS)
    assert redis.get(STARTED) == b"1", "the reconciles wait for each other, and nothing waits for them"
    redis.rpush(RELEASED, *range(4))
    assert eventually(lambda: redis.get(STARTED) == b"4", within=SECONDS)
    assert pool.stop() == 0


@pytest.mark.parametrize("queue", QUEUES)
def test_a_worker_that_is_killed_is_replaced_on_its_queue(
    acme: Acme, pool: PoolProcess, redis: Redis, queue: str
) -> None:
    (killed_worker,) = pool.workers(queue)
    others = {pid for other in QUEUES if other != queue for pid in pool.workers(other)}
    os.kill(killed_worker, signal.SIGKILL)
    assert eventually(lambda: pool.workers(queue) not in (set(), {killed_worker}), within=SECONDS)
    assert pool.is_up(reconcile=True)
    assert others <= {pid for each in QUEUES for pid in pool.workers(each)}
    redis.rpush(RELEASED, 1)
    pool.begin_a_long_job()
    acme.deliver_ok("card_holder.created", card_holder())
    assert eventually(lambda: acme.statuses() == ["processed"], within=SECONDS)
    assert pool.stop() == 0


def test_retention_runs_in_a_separate_process(acme: Acme, pool: PoolProcess, redis: Redis) -> None:
    acme.apply("card_holder.created", card_holder())
    days_pass(acme.engine, 500)
    pool.begin_a_long_job()
    Queue(RETENTION_QUEUE, connection=redis).enqueue(retain, result_ttl=0)
    ended = "SELECT count(*) FROM receiver.retention_runs WHERE ended_at IS NOT NULL AND error IS NULL"
    assert eventually(lambda: acme.value(ended) == 1, within=SECONDS)
    assert acme.value("SELECT body FROM receiver.deliveries") is None
    redis.rpush(RELEASED, 1)
    assert pool.stop() == 0


def test_unused_queues_have_no_worker(redis: Redis, environment: dict[str, str]) -> None:
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
            assert len(psutil.Process(pool.process.pid).children()) == 2 + 2 * int(files), "that of bootstrap, too"
            assert pool.stop() == 0


@pytest.mark.long
def test_stopped_worker_does_not_wait_for_reconcile(pool: PoolProcess) -> None:
    pool.begin_a_long_job()
    family = psutil.Process(pool.process.pid).children(recursive=True)
    began = time.monotonic()
    assert pool.stop() == 0
    assert time.monotonic() - began < ABANDON_SECONDS + 10
    assert psutil.wait_procs(family, timeout=SECONDS)[1] == []

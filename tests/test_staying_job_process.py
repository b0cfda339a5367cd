"""A job that has processed what was due waits for the next wake-up: the next delivery finds a ready process."""

from __future__ import annotations

import math
import os
import signal
from contextlib import closing
from typing import TYPE_CHECKING

import psutil
import pytest
from rq import Queue

from receiver.processing.drain import stop_requested
from receiver.processing.job import _woken_again
from receiver.queue import PROCESS_DELIVERIES, QUEUE, WAITING, connect, wake_worker, woken_again, worker_is_awake
from tests.support.factories import card_holder
from tests.support.long_job import RELEASED, STARTED, wait_until_released
from tests.support.pools import SECONDS
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from redis import Redis

    from tests.conftest import Acme
    from tests.support.pools import PoolProcess

SHORT = 0.01


@pytest.fixture
def blocking(redis: Redis, redis_url: str) -> Redis:
    """A client as the job has it, on an empty database."""
    del redis  # asked for so that it is empty
    return connect(redis_url)


def test_wake_up_is_removed_from_the_queue(blocking: Redis) -> None:
    with closing(blocking) as redis:
        assert not woken_again(redis, within=SHORT)
        wake_worker(redis)
        assert woken_again(redis, within=SHORT)
        worker_is_awake(redis)
        assert [key for key in redis.keys("*") if key != b"rq:queues"] == []


def test_job_of_another_kind_keeps_its_place(blocking: Redis) -> None:
    with closing(blocking) as redis:
        other = Queue(QUEUE, connection=redis).enqueue(wait_until_released)
        wake_worker(redis)
        assert not woken_again(redis, within=SHORT)
        left = Queue(QUEUE, connection=redis).get_jobs()
        assert (left[0].id, left[1].func_name) == (other.id, PROCESS_DELIVERIES)
        assert redis.llen(Queue(QUEUE, connection=redis).intermediate_queue_key) == 0


def test_job_that_is_asked_to_stop_takes_no_wake_up(blocking: Redis) -> None:
    stop_requested.set()
    try:
        with closing(blocking) as redis:
            wake_worker(redis)
            assert not _woken_again(redis, until=math.inf)
            assert len(Queue(QUEUE, connection=redis)) == 1
    finally:
        stop_requested.clear()


def job_process(pool: PoolProcess) -> int | None:
    (worker,) = pool.workers(QUEUE)
    return next((child.pid for child in psutil.Process(worker).children()), None)


def processed(acme: Acme, redis: Redis, number: int) -> bool:
    """Have a delivery taken, and return whether all so far are processed soon."""
    acme.deliver_ok("card_holder.created", card_holder(f"employee-{number}"))
    if not redis.exists(WAITING):
        wake_worker(redis)
    return eventually(lambda: acme.statuses() == ["processed"] * number, within=SECONDS)


def test_next_deliveries_are_processed_by_the_same_process(acme: Acme, pool: PoolProcess, redis: Redis) -> None:
    processes = set()
    for number in range(1, 6):
        assert processed(acme, redis, number)
        processes.add(job_process(pool))
    assert len(processes) == 1
    assert None not in processes


def test_killed_job_process_loses_no_wake_up(acme: Acme, pool: PoolProcess, redis: Redis) -> None:
    assert processed(acme, redis, 1)
    first = job_process(pool)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert eventually(lambda: not psutil.pid_exists(first), within=SECONDS), "its connection to Redis is closed by then"
    assert processed(acme, redis, 2)
    assert job_process(pool) != first


def test_other_job_does_not_wait_for_a_staying_job_process(acme: Acme, pool: PoolProcess, redis: Redis) -> None:
    assert processed(acme, redis, 1)
    staying = job_process(pool)
    Queue(QUEUE, connection=redis).enqueue(wait_until_released, result_ttl=0)
    assert eventually(lambda: redis.get(STARTED) == b"1", within=SECONDS)
    assert job_process(pool) != staying
    redis.rpush(RELEASED, 1)


def test_waiting_job_process_ends_with_its_worker(acme: Acme, pool: PoolProcess, redis: Redis) -> None:
    assert processed(acme, redis, 1)
    staying = job_process(pool)
    assert staying is not None
    assert pool.stop() == 0
    assert not psutil.pid_exists(staying)

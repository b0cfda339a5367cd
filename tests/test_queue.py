from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
from redis import Redis, RedisError
from rq import Queue

from receiver.processing.job import process_deliveries
from receiver.queue import (
    LONG_TIMEOUT,
    PROCESS_DELIVERIES,
    QUEUE,
    SHORT_TIMEOUT,
    WAITING,
    WAITING_SECONDS,
    WakeUp,
    connect,
    wake_worker,
    worker_is_awake,
)
from tests.support.applications import receiver_with, unreachable_redis
from tests.support.factories import card_holder
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rq.job import Job

    from receiver.settings import Settings
    from tests.conftest import Acme


def jobs(redis: Redis) -> list[Job]:
    return Queue(QUEUE, connection=redis).get_jobs()


@contextmanager
def waking(redis_url: str, *, pause: float = 0.001, pause_after_failure: float = 0.001) -> Iterator[WakeUp]:
    wake_up = WakeUp(redis_url, pause=pause, pause_after_failure=pause_after_failure)
    try:
        yield wake_up
    finally:
        wake_up.close()


@pytest.fixture
def silent_redis() -> Iterator[str]:
    """The URL of a Redis that takes connections and never answers."""
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}/0"


def test_many_deliveries_are_one_job_while_it_waits(redis: Redis) -> None:
    assert [wake_worker(redis) for _ in range(100)] == [True] + [False] * 99
    assert len(jobs(redis)) == 1


def test_delivery_after_the_job_started_enqueues_another(redis: Redis) -> None:
    wake_worker(redis)
    worker_is_awake(redis)
    assert wake_worker(redis)
    assert len(jobs(redis)) == 2


def test_a_wake_up_that_got_lost_is_sent_again_soon(redis: Redis) -> None:
    wake_worker(redis)
    assert 0 < redis.pttl(WAITING) <= WAITING_SECONDS * 1000
    redis.delete(WAITING)  # as if that time had passed
    assert wake_worker(redis)


def test_the_queue_names_the_function_that_the_worker_runs(redis: Redis) -> None:
    wake_worker(redis)
    (job,) = jobs(redis)
    assert job.func_name == PROCESS_DELIVERIES == f"{process_deliveries.__module__}.{process_deliveries.__name__}"
    assert job.func is process_deliveries


def test_waking_does_not_import_what_it_wakes(redis_url: str, redis: Redis) -> None:
    code = (
        "import sys; from receiver.queue import connect, wake_worker;"
        "wake_worker(connect(sys.argv[1])); sys.exit(any(name.startswith('receiver.events') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code, redis_url], check=False).returncode == 0
    assert len(jobs(redis)) == 1


def test_the_queue_carries_no_data(acme: Acme, redis: Redis) -> None:
    acme.deliver_ok("card_holder.created", card_holder("a-very-personal-reference"))
    assert eventually(lambda: len(jobs(redis)) == 1)
    (job,) = jobs(redis)
    assert (job.args, job.kwargs, job.meta) == ((), {}, {})
    for key in redis.scan_iter():
        assert b"a-very-personal-reference" not in (redis.dump(key) or b"")


def test_a_delivery_wakes_a_worker(acme: Acme, redis: Redis) -> None:
    acme.deliver_ok("card_holder.created", card_holder())
    assert eventually(lambda: len(jobs(redis)) == 1)


def test_many_deliveries_enqueue_one_job(acme: Acme, redis: Redis) -> None:
    for number in range(30):
        acme.deliver_ok("card_holder.created", card_holder(f"employee-{number}"))
    assert eventually(lambda: bool(jobs(redis)))
    assert len(jobs(redis)) == 1


def test_with_redis_down_deliveries_are_taken(acme: Acme, settings: Settings) -> None:
    with receiver_with(settings, redis_url=unreachable_redis()) as app:
        acme.client = app.test_client()
        for number in range(5):
            acme.deliver_ok("card_holder.created", card_holder(f"employee-{number}"))
    assert acme.statuses() == ["pending"] * 5


def test_with_a_redis_that_never_answers_deliveries_are_taken(
    acme: Acme, settings: Settings, silent_redis: str
) -> None:
    with receiver_with(settings, redis_url=silent_redis) as app:
        acme.client = app.test_client()
        for number in range(5):
            acme.deliver_ok("card_holder.created", card_holder(f"employee-{number}"))
    assert acme.statuses() == ["pending"] * 5


def test_asking_for_a_wake_up_never_waits_for_redis(silent_redis: str) -> None:
    with waking(silent_redis) as wake_up:
        started = time.monotonic()
        for _ in range(1000):
            wake_up()
        assert time.monotonic() - started < SHORT_TIMEOUT


def test_waking_gives_up_soon_where_commands_wait_longer(silent_redis: str) -> None:
    assert SHORT_TIMEOUT < LONG_TIMEOUT
    with closing(connect(silent_redis, timeout=0.05)) as client, pytest.raises(RedisError):
        wake_worker(client)


def test_workers_are_woken_again_once_redis_is_back(redis: Redis, redis_url: str) -> None:
    with waking(unreachable_redis()) as wake_up:
        wake_up()
        assert eventually(lambda: not wake_up._wanted.is_set())
        wake_up._redis = connect(redis_url)
        wake_up()
        assert eventually(lambda: len(jobs(redis)) == 1)


def test_requested_wake_up_is_sent_before_the_process_ends(redis: Redis, redis_url: str) -> None:
    with waking(redis_url, pause=60) as wake_up:
        wake_up()
        assert eventually(lambda: len(jobs(redis)) == 1)
        worker_is_awake(redis)  # the job was taken
        wake_up()  # while it holds still
    assert len(jobs(redis)) == 2


def test_a_process_ends_at_once_though_redis_is_away() -> None:
    wake_up = WakeUp(unreachable_redis(), pause_after_failure=60)
    wake_up()
    wake_up.close()
    assert wake_up._thread is not None
    assert not wake_up._thread.is_alive()


def test_a_process_that_took_nothing_starts_no_thread(redis_url: str) -> None:
    wake_up = WakeUp(redis_url)
    wake_up.close()
    assert wake_up._thread is None

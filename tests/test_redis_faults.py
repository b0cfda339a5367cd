"""A Redis that loses everything, or stops answering, while the processes run."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from receiver.ops.workers import seen_workers
from receiver.queue import QUEUE, connect
from receiver.sandbox.embedded import LOOPBACK, EmbeddedValkey
from tests.pools import ACCESS, QUEUES, SECONDS, Process, running, scheduling
from tests.redis_faults import Relay
from tests.test_queue import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis

    from tests.pools import Pool


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A Valkey of this test's own, which it may do anything to."""
    valkey = EmbeddedValkey(tmp_path / "valkey")
    yield valkey
    valkey.stop()


@pytest.fixture
def redis(valkey: EmbeddedValkey) -> Iterator[Redis]:
    with connect(valkey.url) as redis:
        yield redis


@pytest.fixture
def relay(valkey: EmbeddedValkey) -> Iterator[Relay]:
    """The way of the processes to this Valkey."""
    with ExitStack() as stack:
        yield Relay(valkey.port, stack)


@pytest.fixture
def environment(environment: dict[str, str], relay: Relay) -> dict[str, str]:
    return {**environment, **ACCESS, "REDIS_URL": f"redis://{LOOPBACK}:{relay.port}/0"}


@pytest.fixture
def pool(redis: Redis, environment: dict[str, str], tmp_path: Path) -> Iterator[Pool]:
    with running(redis, environment, log=tmp_path / "worker.log") as pool:
        assert eventually(lambda: pool.is_up(reconcile=True), within=SECONDS)
        yield pool


@pytest.fixture
def scheduler(redis: Redis, environment: dict[str, str], tmp_path: Path) -> Iterator[Process]:
    with scheduling(environment, log=tmp_path / "scheduler.log") as scheduler:
        assert eventually(lambda: bool(redis.exists(f"rq:queue:{QUEUE}")), within=SECONDS)
        yield scheduler


def test_a_scheduler_ends_in_order_after_redis_lost_everything(redis: Redis, scheduler: Process) -> None:
    redis.flushall()
    assert scheduler.stop() == 0
    assert "Traceback" not in scheduler.said()


def test_a_scheduler_goes_on_after_a_failover_to_an_empty_redis(redis: Redis, relay: Relay, scheduler: Process) -> None:
    relay.mute()
    redis.flushall()
    assert eventually(lambda: bool(redis.exists(f"rq:queue:{QUEUE}")), within=SECONDS)
    assert scheduler.stop() == 0
    assert "Traceback" not in scheduler.said()


@pytest.mark.usefixtures("pool")
def test_workers_are_registered_again_after_redis_lost_everything(redis: Redis, valkey: EmbeddedValkey) -> None:
    everyone = dict.fromkeys(QUEUES, 1)
    assert seen_workers(valkey.url).by_queue == everyone
    redis.flushall()
    assert eventually(lambda: seen_workers(valkey.url).by_queue == everyone, within=SECONDS)

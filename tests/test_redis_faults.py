"""A Redis that loses everything or goes mute while the processes run."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from receiver.ops.workers import seen_workers
from receiver.queue import QUEUE, connect, wake_worker
from receiver.sandbox.embedded import LOOPBACK, EmbeddedValkey
from tests.factories import card_holder
from tests.pools import ACCESS, QUEUES, SECONDS, Process, running, scheduling
from tests.redis_faults import Relay
from tests.test_queue import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis

    from tests.conftest import Acme
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
def variables(environment: dict[str, str], relay: Relay) -> dict[str, str]:
    """The environment of the processes."""
    return {**environment, **ACCESS, "REDIS_URL": f"redis://{LOOPBACK}:{relay.port}/0"}


@pytest.fixture
def pool(redis: Redis, variables: dict[str, str], tmp_path: Path) -> Iterator[Pool]:
    with running(redis, variables, log=tmp_path / "worker.log") as pool:
        assert eventually(lambda: pool.is_up(reconcile=True), within=SECONDS)
        yield pool


@pytest.fixture
def scheduler(redis: Redis, variables: dict[str, str], tmp_path: Path) -> Iterator[Process]:
    with scheduling(variables, log=tmp_path / "scheduler.log") as scheduler:
        assert eventually(lambda: bool(redis.exists(f"rq:queue:{QUEUE}")), within=SECONDS)
        yield scheduler


def processed(acme: Acme, redis: Redis) -> bool:
    """Return whether what was delivered is processed; wakes again and again, as the scheduler's sweep does."""

    def done() -> bool:
        wake_worker(redis)
        return set(acme.statuses()) == {"processed"}

    return eventually(done, within=SECONDS)


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


@pytest.mark.long
def test_a_worker_takes_jobs_again_though_its_connections_went_mute(
    acme: Acme, redis: Redis, relay: Relay, pool: Pool
) -> None:
    relay.mute()
    acme.take("card_holder.created", card_holder())
    assert processed(acme, redis)
    assert pool.stop() == 0


@pytest.mark.long
def test_a_worker_ends_in_order_though_its_connections_are_mute(
    acme: Acme, redis: Redis, relay: Relay, pool: Pool
) -> None:
    acme.take("card_holder.created", card_holder())
    assert processed(acme, redis)  # and its process stays for a while
    relay.mute()
    assert pool.stop() == 0


def test_a_scheduler_ends_in_order_though_its_connections_are_mute(relay: Relay, scheduler: Process) -> None:
    relay.mute()
    assert scheduler.stop() == 0

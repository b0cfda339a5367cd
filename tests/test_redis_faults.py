"""A Redis that loses everything, goes mute or refuses writes while the processes run."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import psutil
import pytest
from redis import RedisError
from rq import Queue

from receiver.ops.doctor_findings import CheckResults
from receiver.ops.doctor_stores import REDIS, check_redis
from receiver.ops.workers import seen_workers
from receiver.queue import QUEUE, RedisOutage, connect
from receiver.sandbox.embedded import LOOPBACK, EmbeddedValkey, free_port
from tests.support.applications import receiver_with
from tests.support.factories import card_holder
from tests.support.long_job import STARTED, wait_without_redis
from tests.support.pools import ACCESS, QUEUES, SECONDS, Process, running, scheduling
from tests.support.redis_faults import Relay, processed
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from redis import Redis

    from receiver.settings import Settings
    from tests.conftest import Acme
from tests.support.pools import PoolProcess


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
def pool(redis: Redis, variables: dict[str, str], tmp_path: Path) -> Iterator[PoolProcess]:
    with running(redis, variables, log=tmp_path / "worker.log") as pool:
        assert eventually(lambda: pool.is_up(reconcile=True), within=SECONDS)
        yield pool


@pytest.fixture
def scheduler(redis: Redis, variables: dict[str, str], tmp_path: Path) -> Iterator[Process]:
    with scheduling(variables, log=tmp_path / "scheduler.log") as scheduler:
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
def test_workers_register_again_after_redis_lost_its_data(redis: Redis, valkey: EmbeddedValkey) -> None:
    everyone = dict.fromkeys(QUEUES, 1)
    assert seen_workers(valkey.url).by_queue == everyone
    redis.flushall()
    assert eventually(lambda: seen_workers(valkey.url).by_queue == everyone, within=SECONDS)


@pytest.mark.long
def test_worker_recovers_from_silent_connections(acme: Acme, redis: Redis, relay: Relay, pool: PoolProcess) -> None:
    relay.mute()
    acme.deliver_ok("card_holder.created", card_holder())
    assert processed(acme, redis)
    assert pool.stop() == 0


@pytest.mark.long
def test_a_worker_ends_in_order_though_its_connections_are_mute(
    acme: Acme, redis: Redis, relay: Relay, pool: PoolProcess
) -> None:
    acme.deliver_ok("card_holder.created", card_holder())
    assert processed(acme, redis)  # and its process stays for a while
    relay.mute()
    assert pool.stop() == 0


def test_scheduler_stops_despite_silent_connections(relay: Relay, scheduler: Process) -> None:
    relay.mute()
    assert scheduler.stop() == 0


@pytest.mark.long
@pytest.mark.parametrize("killed", ["pool", "worker"])
def test_all_below_a_killed_process_end_though_redis_is_gone(
    valkey: EmbeddedValkey, redis: Redis, pool: PoolProcess, killed: str
) -> None:
    Queue(QUEUE, connection=redis).enqueue(wait_without_redis, result_ttl=0)
    assert eventually(lambda: bool(redis.exists(STARTED)), within=SECONDS)
    (worker,) = pool.workers(QUEUE)
    process = psutil.Process(worker if killed == "worker" else pool.process.pid)
    family = process.children(recursive=True)
    assert family
    valkey.kill()
    process.kill()
    _, alive = psutil.wait_procs(family, timeout=SECONDS)
    for process in alive:
        process.kill()
    assert alive == []


@contextmanager
def full(redis: Redis) -> Iterator[None]:
    redis.config_set("maxmemory", 1)
    yield
    redis.config_set("maxmemory", 0)


@contextmanager
def read_only(redis: Redis) -> Iterator[None]:
    redis.replicaof(LOOPBACK, free_port())
    yield
    redis.replicaof("NO", "ONE")


REFUSING = [full, read_only]


def lines(process: Process) -> list[dict[str, Any]]:
    """Return the lines of its log, each of which has to be JSON."""
    return [msgspec.json.decode(line) for line in process.said().splitlines()]


def waiting(process: Process) -> int:
    return sum(line["event"] == "redis.waiting" for line in lines(process))


def tries(redis: Redis) -> int:
    """Return how many transactions were refused."""
    return int(redis.info("errorstats").get("errorstat_EXECABORT", {"count": 0})["count"])


@pytest.mark.long
@pytest.mark.parametrize("refusing", REFUSING)
def test_workers_wait_for_a_redis_that_refuses_writes(
    acme: Acme, redis: Redis, pool: PoolProcess, refusing: Callable[[Redis], AbstractContextManager[None]]
) -> None:
    workers = [pool.workers(queue) for queue in QUEUES]
    with refusing(redis):
        assert eventually(lambda: waiting(pool) == len(QUEUES), within=SECONDS)
    acme.deliver_ok("card_holder.created", card_holder())
    assert processed(acme, redis)
    assert [pool.workers(queue) for queue in QUEUES] == workers
    assert pool.stop() == 0
    assert waiting(pool) == len(QUEUES)


@pytest.mark.parametrize("refusing", REFUSING)
def test_a_scheduler_waits_for_a_redis_that_refuses_writes(
    redis: Redis, scheduler: Process, refusing: Callable[[Redis], AbstractContextManager[None]]
) -> None:
    with refusing(redis):
        assert eventually(lambda: tries(redis) > 2, within=SECONDS)
    redis.delete(f"rq:queue:{QUEUE}")
    assert eventually(lambda: bool(redis.exists(f"rq:queue:{QUEUE}")), within=SECONDS)
    assert scheduler.stop() == 0
    assert waiting(scheduler) == 1


@pytest.mark.parametrize("refusing", REFUSING)
def test_doctor_and_readiness_report_a_read_only_redis(
    redis: Redis, valkey: EmbeddedValkey, settings: Settings, refusing: Callable[[Redis], AbstractContextManager[None]]
) -> None:
    with receiver_with(settings, redis_url=valkey.url) as app, refusing(redis):
        answer = app.test_client().get("/readyz")
        assert not seen_workers(valkey.url).reachable
        findings = CheckResults()
        check_redis(replace(settings, redis_url=valkey.url), {}, findings)
    assert (answer.status_code, answer.get_json()["redis"]) == (200, "refuses writes")
    assert findings.is_broken(REDIS)


def test_pauses_grow_while_redis_fails() -> None:
    pauses: list[float] = []
    outage = RedisOutage(pauses.append)
    for _ in range(6):
        outage.wait(RedisError())
    outage.end()
    outage.wait(RedisError())
    assert pauses == [0.5, 1, 2, 4, 8, 8, 0.5]

"""Worker and scheduler as the Procfile runs them recover lost events by themselves."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from sqlalchemy import text

from receiver.queue import RECONCILE_QUEUE
from receiver.sandbox.provider import ApiFault
from tests.support.lost_events import lose
from tests.support.pools import RECEIVER, SECONDS, PoolProcess, running
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

    from tests.support.world import World

pytestmark = pytest.mark.long


@pytest.fixture
def processes(world: World, environment: dict[str, str], redis: Redis) -> Iterator[PoolProcess]:
    """A worker and a scheduler; acme's webhook is registered, and reconciled every two seconds."""
    assert world.bootstrap().failures == []
    settings = {**world.environment(environment), "RECONCILE_INTERVAL": "2"}
    with running(redis, settings) as pool:
        scheduler = subprocess.Popen([RECEIVER, "scheduler"], env={**os.environ, **settings})
        try:
            assert eventually(lambda: pool.is_up(reconcile=True), within=SECONDS)
            yield pool
        finally:
            scheduler.terminate()
            scheduler.wait(timeout=SECONDS)
            pool.stop()


def column(world: World, query: str) -> list[Any]:
    with world.engine.connect() as connection:
        return list(connection.scalars(text(query)))


def recorded(world: World) -> list[str]:
    return column(world, "SELECT reference_id FROM ems.card_holders ORDER BY 1")


def test_scheduler_recovers_lost_deliveries_into_ems(world: World, processes: PoolProcess) -> None:
    del processes  # asked for so that they run
    lose(world, "employee-1")
    assert eventually(lambda: recorded(world) == ["employee-1"], within=SECONDS)
    lose(world, "employee-2")
    assert eventually(lambda: recorded(world) == ["employee-1", "employee-2"], within=SECONDS)


def test_killed_reconcile_is_repeated_by_the_next(world: World, processes: PoolProcess) -> None:
    assert eventually(lambda: bool(column(world, "SELECT 1 FROM receiver.reconcile_runs")), within=SECONDS)
    world.provider.faults.add(ApiFault("slow", path="/events", seconds=20))
    lose(world, "employee-1")
    running_now = "SELECT 1 FROM receiver.reconcile_runs WHERE ended_at IS NULL"
    assert eventually(
        lambda: world.provider.faults.waiting() == [] and bool(column(world, running_now)), within=SECONDS
    )
    (worker,) = processes.workers(RECONCILE_QUEUE)
    family = [psutil.Process(worker), *psutil.Process(worker).children(recursive=True)]
    for process in family:
        process.kill()
    assert eventually(lambda: recorded(world) == ["employee-1"], within=SECONDS)
    assert column(world, "SELECT count(*) FROM receiver.deliveries WHERE source = 'log'") == [1]
    (error,) = column(world, "SELECT error FROM receiver.reconcile_runs WHERE error IS NOT NULL")
    assert "interrupted" in error

"""The scheduler's runs: what is due is run, what is found is brought in, and nothing is asked for twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from rq import Queue
from sqlalchemy import text

from receiver.encryption import Encryption
from receiver.opencard.auth import Access
from receiver.processing.drain import drain, stop_requested
from receiver.queue import PROCESS_DELIVERIES, QUEUE
from receiver.reconcile.run import Reconciler
from receiver.reconcile.schedule import BATCH_SIZE, reconcile_due, run_due
from receiver.sandbox.provider import ApiFault
from tests.support.applications import unreachable_database, unreachable_redis
from tests.support.lost_events import add_managed, lose

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

    from tests.support.world import World

INTERVAL = timedelta(minutes=5)
WEEK = timedelta(days=7)
Job = Callable[[], None]


@pytest.fixture
def job(world: World, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    """The job, as RQ runs it; acme's webhook is registered."""
    for name, value in world.environment(environment).items():
        monkeypatch.setenv(name, value)
    assert world.bootstrap().failures == []
    world.provider.requests.clear()
    yield reconcile_due
    stop_requested.clear()


def rows(world: World, query: str) -> list[dict[str, Any]]:
    with world.engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(query)).mappings()]


def runs(world: World) -> list[dict[str, Any]]:
    """Return the runs, oldest first, each with the name of its organization."""
    return rows(
        world,
        "SELECT organization_reference_id AS organization, run.* FROM receiver.reconcile_runs AS run"
        " JOIN receiver.webhooks AS webhook ON webhook.id = run.webhook_id ORDER BY run.started_at, run.id",
    )


def pass_time(world: World, length: timedelta) -> None:
    """Let everything have been so much earlier."""
    with world.engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE receiver.reconcile_runs SET started_at = started_at - :length, ended_at = ended_at - :length,"
                " since = since - :length, checked_until = checked_until - :length"
            ),
            {"length": length},
        )


def recorded(world: World) -> list[str]:
    """Return the card holders that the EMS knows."""
    return [row["reference_id"] for row in rows(world, "SELECT reference_id FROM ems.card_holders ORDER BY 1")]


def logs_asked_for(world: World) -> int:
    return len(world.provider.requests.all(path="/events"))


def woken(redis: Redis) -> bool:
    return PROCESS_DELIVERIES in {job.func_name for job in Queue(QUEUE, connection=redis).get_jobs()}


def test_recovery_wakes_a_worker(job: Job, world: World, redis: Redis) -> None:
    lose(world, "employee-1", "employee-2")
    redis.flushdb()
    job()
    assert woken(redis)
    assert drain(world.engine)
    assert recorded(world) == ["employee-1", "employee-2"]
    assert [run["recovered"] for run in runs(world)] == [2]


def test_run_without_recovery_wakes_no_worker(job: Job, world: World, redis: Redis) -> None:
    redis.flushdb()
    job()
    assert len(runs(world)) == 1
    assert not woken(redis)


def test_webhook_is_run_again_only_after_its_interval(job: Job, world: World) -> None:
    job()
    asked = logs_asked_for(world)
    assert asked > 0
    job()
    assert (len(runs(world)), logs_asked_for(world)) == (1, asked)
    lose(world, "employee-1")
    pass_time(world, INTERVAL)
    job()
    assert [run["recovered"] for run in runs(world)] == [0, 1]


def test_a_requested_run_is_due_at_once_and_only_once(job: Job, world: World) -> None:
    job()
    job()
    runs = "SELECT count(*) FROM receiver.reconcile_runs"
    with world.engine.begin() as connection:
        assert connection.scalar(text(runs)) == 1
        connection.execute(text("UPDATE receiver.webhooks SET reconcile_requested_at = clock_timestamp()"))
    job()
    job()
    with world.engine.begin() as connection:
        assert connection.scalar(text(runs)) == 2


def test_the_first_run_reads_the_whole_log(job: Job, world: World) -> None:
    lose(world, "employee-1", at=datetime.now(UTC) - timedelta(days=300))
    job()
    assert [(run["since"], run["recovered"]) for run in runs(world)] == [(None, 1)]


def test_once_a_day_a_run_looks_back_a_week(job: Job, world: World) -> None:
    job()
    for _ in range(3):
        pass_time(world, INTERVAL)
        job()
    pass_time(world, timedelta(days=1))
    for _ in range(3):
        job()
        pass_time(world, INTERVAL)
    reaches = [run["started_at"] - run["since"] for run in runs(world)[1:]]
    looks_back = [reach >= WEEK - timedelta(minutes=1) for reach in reaches]
    assert looks_back[-3], "a day has passed"
    assert all(sum(others) <= 1 for others in (looks_back[:3], looks_back[-2:])), "the daily slot may be among them"


def test_failed_look_back_is_repeated_at_the_next_run(job: Job, world: World) -> None:
    job()
    pass_time(world, timedelta(days=1))
    world.provider.faults.add(ApiFault.answers(403, path="/events", times=100))
    job()
    world.provider.faults.clear()
    pass_time(world, INTERVAL)
    job()
    failed, succeeded = runs(world)[1:]
    assert failed["error"]
    assert succeeded["error"] is None
    assert succeeded["started_at"] - succeeded["since"] >= WEEK - timedelta(minutes=1)


def test_outage_longer_than_a_week_leaves_no_gap(job: Job, world: World) -> None:
    job()
    pass_time(world, timedelta(days=30))
    lose(world, "employee-1", at=datetime.now(UTC) - timedelta(days=20))
    job()
    assert runs(world)[-1]["recovered"] == 1
    assert datetime.now(UTC) - runs(world)[-1]["checked_until"] < timedelta(minutes=1)


def test_failed_webhook_stops_no_other_and_waits_its_interval(job: Job, world: World) -> None:
    add_managed(world, "globex", "initech")
    globex = world.store.all()[1]
    world.provider.faults.add(ApiFault.answers(404, path=f"/{globex.opencard_webhook_id}/events", times=100))
    lose(world, "employee-1", organization="initech")
    job()
    assert {run["organization"]: (run["recovered"], run["error"] is None) for run in runs(world)} == {
        "acme": (0, True),
        "globex": (0, False),
        "initech": (1, True),
    }
    asked = logs_asked_for(world)
    job()
    assert logs_asked_for(world) == asked
    world.provider.faults.clear()
    pass_time(world, INTERVAL)
    job()
    assert [run["error"] for run in runs(world)[3:]] == [None] * 3


@pytest.mark.parametrize("change", ["enabled = false", "opencard_webhook_id = NULL"])
def test_disabled_webhook_is_not_scheduled(job: Job, world: World, change: str) -> None:
    with world.engine.begin() as connection:
        connection.execute(text(f"UPDATE receiver.webhooks SET {change}"))  # noqa: S608
    job()
    assert world.provider.requests.all() == []
    assert runs(world) == []


@pytest.mark.parametrize(("variable", "value"), [("OPENCARD_CLIENT_SECRET", ""), ("RECONCILE_INTERVAL", "0")])
def test_nothing_is_requested_when_reconcile_is_off(
    job: Job, world: World, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    job()
    assert world.provider.requests.all() == []
    assert runs(world) == []


def test_job_without_a_database_ends_quietly(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", unreachable_database())
    job()


def test_recovery_works_without_redis(job: Job, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lose(world, "employee-1")
    monkeypatch.setenv("REDIS_URL", unreachable_redis())
    job()
    assert drain(world.engine)
    assert recorded(world) == ["employee-1"]


def test_job_without_a_token_ends_and_waits_for_its_interval(job: Job, world: World) -> None:
    world.provider.faults.add(ApiFault.answers(401, path="/oauth/token", times=1000))
    job()
    asked = len(world.provider.requests.all())
    assert asked > 0
    job()
    assert len(world.provider.requests.all()) == asked


def test_several_jobs_at_once_recover_everything_once(job: Job, world: World) -> None:
    add_managed(world, *(f"organization-{number}" for number in range(10)))
    for number in range(10):
        lose(world, f"employee-{number}", organization=f"organization-{number}")
    jobs = [threading.Thread(target=job) for _ in range(3)]
    for each in jobs:
        each.start()
    for each in jobs:
        each.join()
    assert drain(world.engine)
    assert recorded(world) == [f"employee-{number}" for number in range(10)]
    assert rows(world, "SELECT count(*) FROM receiver.deliveries") == [{"count": 10}]


def reconciler(world: World) -> Reconciler:
    access = Access(world.api_url, str(world.client.account_id), world.client.id, world.client.secret)
    return Reconciler(world.engine, Encryption(world.settings.encryption_keys), access, grace=timedelta(minutes=15))


def test_stopped_job_starts_no_further_webhook(job: Job, world: World) -> None:
    del job  # asked for so that acme is registered
    add_managed(world, *(f"organization-{number}" for number in range(3 * BATCH_SIZE)))
    run_due(
        world.engine,
        reconciler(world),
        interval=INTERVAL,
        wake=lambda: None,
        stop=lambda: logs_asked_for(world) > 0,
    )
    assert len(runs(world)) == BATCH_SIZE


@pytest.mark.long
def test_two_hundred_quiet_webhooks_cost_a_request_each(job: Job, world: World) -> None:
    add_managed(world, *(f"organization-{number}" for number in range(199)))
    job()
    assert len({run["organization"] for run in runs(world)}) == 200
    pass_time(world, INTERVAL)
    world.provider.requests.clear()
    job()
    assert logs_asked_for(world) == len(world.provider.requests.all()) == 200
    assert len(runs(world)) == 400

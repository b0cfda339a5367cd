"""The clock of PostgreSQL, or of a worker, is set: what was to wait for seconds does not wait for an hour."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from time import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from rq import Queue, Worker
from rq.utils import utcformat

from receiver.cli import main
from receiver.files.downloads import LEASE, FileKind, plan_again
from receiver.files.downloads import claim as claim_file
from receiver.files.schedule import fetch_due
from receiver.ops.workers import seen_workers
from receiver.processing.claim import Backlog, claim_alone
from receiver.queue import QUEUE
from receiver.records.write import writing_connection
from receiver.sandbox.provider import ApiFault
from tests.files.conftest import Receipts, receipts
from tests.support.factories import snapshot
from tests.support.long_job import RELEASED, STARTED, wait_until_released
from tests.support.pools import ROOT, SECONDS
from tests.support.program import set_environment
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo

    from redis import Redis

    from tests.conftest import Acme

__all__ = ["receipts"]  # a fixture

CLEARED = "card.transaction.cleared"
HOUR = timedelta(hours=1)
SOON = timedelta(seconds=15)
TIMES = {
    "receipt_downloads": ("next_attempt_at", "last_attempt_at"),
    "stored_deliveries": ("received_at", "occurred_at"),
    "queue": ("due_at", "failed_at", "leased_until"),
}


def set_the_clock_back(acme: Acme) -> None:
    """Whatever was noted until now is from an hour ahead."""
    for table, columns in TIMES.items():
        times = ", ".join(f"{column} = {column} + interval '1 hour'" for column in columns)
        acme.execute(f"UPDATE receiver.{table} SET {times}")  # noqa: S608 - of constants


# --- deliveries ------------------------------------------------------------------------------------------------------


@pytest.fixture
def failing(acme: Acme) -> Iterator[Acme]:
    """A database that refuses what is processed, as one with a bug would."""
    acme.execute("ALTER TABLE ems.transactions ADD CONSTRAINT refuses CHECK (false) NOT VALID")
    yield acme
    acme.execute("ALTER TABLE ems.transactions DROP CONSTRAINT IF EXISTS refuses")


def pause(acme: Acme) -> timedelta:
    left: timedelta = acme.value("SELECT due_at - now() FROM receiver.queue")
    return left


def test_failed_delivery_waits_only_its_pause(failing: Acme) -> None:
    failing.apply(CLEARED, snapshot("cleared"))
    assert timedelta() < pause(failing) < SOON
    set_the_clock_back(failing)
    failing.process()
    assert failing.value("SELECT attempts FROM receiver.deliveries") == 1, "it is not tried early, either"
    assert timedelta() < pause(failing) < SOON
    failing.execute("ALTER TABLE ems.transactions DROP CONSTRAINT refuses")
    failing.execute("UPDATE receiver.queue SET due_at = now()")
    failing.process()
    assert failing.statuses() == ["processed"]


def test_deliveries_of_a_failed_batch_are_tried_at_once(acme: Acme) -> None:
    for number in range(2):
        acme.deliver_ok(CLEARED, snapshot("cleared", transaction=str(number)))
    with closing(writing_connection(acme.engine)) as connection:
        claim = Backlog().claim(connection, 2)
        assert claim is not None
        connection.execute(*claim.release(alone=True))
    set_the_clock_back(acme)
    acme.process()
    assert acme.statuses() == ["processed"] * 2


@pytest.mark.parametrize("alone", [False, True])
def test_deliveries_of_a_worker_that_hangs_are_tried_at_once(acme: Acme, alone: bool) -> None:  # noqa: FBT001
    acme.deliver_ok(CLEARED, snapshot("cleared"))
    acme.execute("UPDATE receiver.queue SET alone = :alone", alone=alone)
    with closing(writing_connection(acme.engine)) as connection:
        assert claim_alone(connection) if alone else Backlog().claim(connection, 2)
    set_the_clock_back(acme)
    acme.process()
    assert acme.statuses() == ["processed"]
    assert acme.value("SELECT count(*) FROM receiver.processing_attempts") == 0, "nothing is blamed for it"


def waits(acme: Acme) -> timedelta:
    pause: timedelta = acme.value("SELECT next_attempt_at - now() FROM receiver.receipt_downloads")
    return pause


# --- downloads -------------------------------------------------------------------------------------------------------


def test_a_file_that_was_noted_before_is_downloaded_at_once(
    receipts: Receipts, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, receipts.environment(environment))
    receipts.apply()
    set_the_clock_back(receipts.acme)
    fetch_due()
    assert receipts.row()["file_key"] is not None


def test_failed_download_waits_only_its_pause(receipts: Receipts) -> None:
    receipts.apply()
    receipts.provider.faults.add(ApiFault.answers(404, path="/files/"))
    receipts.fetch()
    assert waits(receipts.acme) < SOON
    set_the_clock_back(receipts.acme)
    plan_again(receipts.acme.engine)
    assert timedelta() < waits(receipts.acme) < SOON
    receipts.be_due()
    assert receipts.fetch().stored == 1


def test_worker_with_a_fast_clock_waits_only_the_pause(receipts: Receipts, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Ahead:
            return cls.fromtimestamp(time() + HOUR.total_seconds(), tz)

    monkeypatch.setattr("receiver.files.downloads.datetime", Ahead, raising=False)
    receipts.apply()
    receipts.provider.faults.add(ApiFault.answers(404, path="/files/"))
    receipts.fetch()
    assert timedelta() < waits(receipts.acme) < SOON


def test_a_download_that_is_under_way_keeps_its_lease(receipts: Receipts) -> None:
    receipts.apply()
    assert claim_file(receipts.acme.engine, list(FileKind)) is not None
    set_the_clock_back(receipts.acme)
    plan_again(receipts.acme.engine)
    assert LEASE - SOON < waits(receipts.acme) <= LEASE
    assert claim_file(receipts.acme.engine, list(FileKind)) is None


def test_with_a_right_clock_nothing_is_rescheduled(receipts: Receipts) -> None:
    receipts.apply()
    receipts.provider.faults.add(ApiFault.answers(404, path="/files/"))
    receipts.fetch()
    before = receipts.download()
    plan_again(receipts.acme.engine)
    assert receipts.download() == before


# --- workers ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def worker(redis: Redis) -> Iterator[Worker]:
    worker = Worker([QUEUE], connection=redis)
    worker.register_birth()  # type: ignore[no-untyped-call]
    yield worker
    worker.register_death()  # type: ignore[no-untyped-call]


def test_a_worker_that_reported_in_the_future_is_named(
    acme: Acme, redis: Redis, worker: Worker, environment: dict[str, str]
) -> None:
    del acme  # asked for so that the database is migrated
    for ahead, alive, named in ((timedelta(), 1, 0), (timedelta(minutes=1), 1, 0), (HOUR, 0, 1), (-HOUR, 0, 0)):
        redis.hset(worker.key, "last_heartbeat", utcformat(datetime.now(UTC) + ahead))
        seen = seen_workers(environment["REDIS_URL"])
        assert (seen.by_queue.get(QUEUE, 0), seen.ahead) == (alive, named)
        shown = CliRunner(env=environment).invoke(main, ["status"]).stdout
        assert ("1 reported in the future: check the clocks" in shown) is bool(named)


# a worker that looks at its job process each second; its clock is set ahead once the job has begun
WORKER = f"""
import os, sys, uuid
from datetime import timedelta
from rq.worker import worker_classes
from receiver.queue import QUEUE, connect
import receiver.worker

right, redis = worker_classes.now, connect(os.environ["REDIS_URL"])

def now():
    if not redis.exists("{STARTED}"):
        return right()
    redis.incr("looked")
    return right() + timedelta(hours=int(sys.argv[1]))

worker_classes.now = receiver.worker.now = now
worker = receiver.worker.DeliveryWorker([QUEUE], connection=redis, job_monitoring_interval=1)
worker._counted_as = uuid.uuid4()
worker.register_birth()
worker._take_job()
"""


@pytest.mark.parametrize("hours", [-1, 1])
def test_job_is_not_ended_because_the_clock_was_set(
    acme: Acme, redis: Redis, environment: dict[str, str], hours: int
) -> None:
    del acme  # asked for so that the database is migrated
    job = Queue(QUEUE, connection=redis).enqueue(wait_until_released, job_timeout=100, result_ttl=100)
    given = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", WORKER, str(hours)], env=given) as worker:
        try:
            assert eventually(lambda: int(redis.get("looked") or 0) > 2 or job.is_failed, within=SECONDS)
            redis.rpush(RELEASED, 1)
            assert worker.wait(timeout=SECONDS) == 0
        finally:
            worker.kill()
    assert job.is_finished

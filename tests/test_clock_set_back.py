"""The wall clock of PostgreSQL, or of a worker, is set: what was to wait for seconds does not wait for an hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from rq import Worker
from rq.utils import utcformat

from receiver.cli import main
from receiver.files.downloads import LEASE, FileKind, claim, plan_again
from receiver.files.schedule import fetch_due
from receiver.ops.workers import seen_workers
from receiver.queue import QUEUE
from receiver.sandbox.provider import ApiFault
from tests.files.conftest import Receipts, receipts
from tests.support.program import set_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

    from tests.conftest import Acme

__all__ = ["receipts"]  # a fixture

CLEARED = "card.transaction.cleared"
HOUR = timedelta(hours=1)
SOON = timedelta(seconds=15)
TIMES = {
    "receipt_downloads": ("next_attempt_at", "last_attempt_at"),
    "stored_deliveries": ("received_at", "occurred_at"),
    "queue": ("due_at",),
}


def set_the_clock_back(acme: Acme) -> None:
    """Whatever was noted until now is from an hour ahead."""
    for table, columns in TIMES.items():
        times = ", ".join(f"{column} = {column} + interval '1 hour'" for column in columns)
        acme.execute(f"UPDATE receiver.{table} SET {times}")  # noqa: S608 - of constants


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


def test_a_download_that_is_under_way_keeps_its_lease(receipts: Receipts) -> None:
    receipts.apply()
    assert claim(receipts.acme.engine, list(FileKind)) is not None
    set_the_clock_back(receipts.acme)
    plan_again(receipts.acme.engine)
    assert LEASE - SOON < waits(receipts.acme) <= LEASE
    assert claim(receipts.acme.engine, list(FileKind)) is None


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

"""The job, its wake-ups, and the processes that run it."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from rq import Queue

from receiver.errors import DownloadError
from receiver.files.downloads import FileKind, claim, give_up_expired, record_failure
from receiver.files.schedule import fetch_due
from receiver.processing.job import process_deliveries
from receiver.queue import FILES_QUEUE
from receiver.sandbox.provider import ApiFault
from receiver.sandbox.receipt_files import signed_url
from tests.files.conftest import DAY
from tests.support.factories import enrichment
from tests.support.pools import RECEIVER, SECONDS, PoolProcess, running
from tests.support.program import set_environment
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis

    from tests.conftest import Acme
    from tests.files.conftest import Receipts


@pytest.fixture
def here(receipts: Receipts, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Receipts:
    """The environment of this process is that of a worker."""
    set_environment(monkeypatch, receipts.environment(environment))
    return receipts


def jobs(redis: Redis) -> int:
    return len(Queue(FILES_QUEUE, connection=redis))


def test_files_worker_is_woken_once_after_receipts_are_stored(here: Receipts, redis: Redis) -> None:
    for number in range(3):
        here.acme.deliver_ok("receipt.fetched", enrichment("receipt.fetched", url=f"{here.api_url}/{number}"))
    process_deliveries()
    process_deliveries()
    assert jobs(redis) == 1


def test_job_that_runs_out_of_time_wakes_the_files_worker(
    here: Receipts, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.apply()
    redis.flushdb()
    monkeypatch.setattr("receiver.processing.drain.DRAIN_SECONDS", -1.0)
    process_deliveries()
    assert jobs(redis) == 1


def test_without_receipts_no_worker_is_woken(here: Receipts, redis: Redis) -> None:
    here.acme.deliver_ok("transaction.line.items", enrichment("transaction.line.items"))
    process_deliveries()
    assert jobs(redis) == 0


def test_without_downloads_no_worker_is_woken(
    acme: Acme, redis: Redis, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, environment)
    acme.deliver_ok("receipt.fetched", enrichment("receipt.fetched"))
    process_deliveries()
    fetch_due()
    assert jobs(redis) == 0
    assert acme.value("SELECT attempts FROM receiver.receipt_downloads") == 0


def test_job_downloads_the_backlog_after_a_lost_wake_up(here: Receipts, redis: Redis) -> None:
    here.apply()
    redis.flushdb()
    fetch_due()
    assert here.row()["file_key"] is not None


def test_the_job_says_what_keeps_it_from_downloading(here: Receipts, capfd: pytest.CaptureFixture[str]) -> None:
    here.provider.clients.set_scopes(here.client.id, ["webhooks-read"])
    here.apply()
    fetch_due()
    assert "does not have the scope files-read" in here.failure()
    said = capfd.readouterr().err
    assert "signature=" not in said, "the URL's query may be a secret"


def test_attempt_of_a_dead_worker_is_repeated_after_its_lease(receipts: Receipts) -> None:
    receipts.apply()
    assert claim(receipts.acme.engine, list(FileKind)) is not None
    assert claim(receipts.acme.engine, list(FileKind)) is None, "while the lease lasts"
    receipts.be_due()
    assert receipts.fetch().stored == 1


def test_late_worker_does_not_undo_a_stored_download(receipts: Receipts) -> None:
    receipts.apply()
    receipts.provider.faults.add(ApiFault.answers(503, path="/files/"))
    late = claim(receipts.acme.engine, list(FileKind))
    assert late is not None
    receipts.be_due()
    receipts.fetch()
    receipts.be_due()
    assert receipts.fetch().stored == 1
    record_failure(receipts.acme.engine, late, DownloadError("too late"))
    row = receipts.row()
    assert row["download_error"] is None
    assert row["file_key"] is not None


def test_download_that_kills_workers_is_given_up_at_expiry(receipts: Receipts) -> None:
    receipts.apply(expires_in=-DAY)
    assert claim(receipts.acme.engine, list(FileKind)) is not None
    assert give_up_expired(receipts.acme.engine) == 0, "it may be under way"
    receipts.be_due()
    assert give_up_expired(receipts.acme.engine) == 1
    assert receipts.download()["status"] == "expired"


@pytest.fixture
def processes(receipts: Receipts, redis: Redis, environment: dict[str, str]) -> Iterator[PoolProcess]:
    """A worker and a scheduler; nothing is reconciled."""
    settings = {**receipts.environment(environment), "RECONCILE_INTERVAL": "0"}
    with running(redis, settings) as pool:
        scheduler = subprocess.Popen([RECEIVER, "scheduler"], env={**os.environ, **settings})
        try:
            assert eventually(lambda: pool.is_up(reconcile=False), within=SECONDS)
            yield pool
        finally:
            scheduler.terminate()
            scheduler.wait(timeout=SECONDS)
            pool.stop()


@pytest.mark.long
def test_receipt_is_downloaded_again_after_a_kill(receipts: Receipts, processes: PoolProcess) -> None:
    receipts.acme.deliver_ok("receipt.fetched", _receipt(receipts, "1.pdf"))
    assert eventually(lambda: len(receipts.stored()) == 1, within=SECONDS)
    receipts.provider.faults.add(ApiFault("drip", path="/files/", seconds=0.5))
    receipts.acme.deliver_ok("receipt.fetched", _receipt(receipts, "2.pdf"))
    assert eventually(lambda: receipts.provider.faults.waiting() == [], within=SECONDS)
    (worker,) = processes.workers(FILES_QUEUE)
    for process in (psutil.Process(worker), *psutil.Process(worker).children(recursive=True)):
        process.kill()
    assert _half(receipts.folder) == []
    receipts.be_due()  # its lease is over
    assert eventually(lambda: len(receipts.stored()) == 2, within=SECONDS)
    assert eventually(lambda: receipts.acme.rows("SELECT * FROM receiver.receipt_downloads") == [], within=SECONDS)


def _receipt(receipts: Receipts, name: str) -> dict[str, Any]:
    expires_at = datetime.now(UTC) + DAY
    fields = {
        "url": signed_url(receipts.api_url, name, expires_at),
        "expiration_time": f"{expires_at:%Y-%m-%d %H:%M:%S}",
    }
    return enrichment("receipt.fetched", **fields)


def _half(folder: Path) -> list[Path]:
    return list((folder / "incoming").glob("*"))

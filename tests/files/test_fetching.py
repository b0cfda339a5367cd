"""Receipts are downloaded at once, checked, and kept; failures are retried, reported, and leave nothing partial."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier, Lock
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.errors import RaiseException
from werkzeug.wrappers import Request, Response

from receiver.errors import DownloadsImpossible
from receiver.files.downloads import FileKind, claim
from receiver.files.fetch import CONCURRENT_DOWNLOADS
from receiver.sandbox.provider import ApiFault
from receiver.sandbox.receipt_files import signed_url
from receiver.tracing import stop_tracing
from tests.files.conftest import DAY, content
from tests.support.factories import snapshot
from tests.support.serving import served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.files.conftest import Receipts
    from tests.support.collector import Collector


@pytest.mark.parametrize("name", ["1.pdf", "2.png", "3.html"])
def test_receipt_is_stored_by_hash_and_its_path_is_recorded(receipts: Receipts, name: str) -> None:
    receipts.apply(name)
    assert receipts.fetch().stored == 1
    sha256 = hashlib.sha256(content(name)).hexdigest()
    key = f"sha256/{sha256[:2]}/{sha256[2:4]}/{sha256}.{name[2:]}"
    row = receipts.row()
    assert (row["file_key"], row["file_size"], row["file_sha256"]) == (key, len(content(name)), sha256)
    assert row["downloaded_at"] is not None
    assert row["download_error"] is None
    assert (receipts.folder / key).read_bytes() == content(name)
    assert receipts.acme.rows("SELECT * FROM receiver.receipt_downloads") == []
    receipts.acme.apply("card.transaction.cleared", snapshot("cleared"))
    assert receipts.acme.value("SELECT receipt_file_key FROM ems.ledger") == key


def test_download_is_recorded_by_its_id_and_size(receipts: Receipts, recorded: Collector) -> None:
    receipts.apply("1.pdf")
    (wanted,) = receipts.acme.rows("SELECT id FROM receiver.receipt_downloads")
    receipts.fetch()
    stop_tracing()
    (download,) = recorded.named("download file")
    size = len(content("1.pdf"))
    assert download.attributes == {
        "receiver.download_id": wanted["id"],
        "receiver.kind": "receipt",
        "receiver.bytes": size,
    }


def test_stored_file_is_announced_in_the_feed(receipts: Receipts) -> None:
    receipts.apply("1.pdf")
    receipts.fetch()
    sent, announced = receipts.acme.rows("SELECT * FROM ems.events ORDER BY position")
    assert (announced["type"], announced["source"]) == ("receiver.changed", "receiver")
    assert announced["payload"] == {"reason": "file_stored", "tables": ["receipts"]}
    same = ("organization_reference_id", "card_holder_reference_id", "transaction_id", "subject_id", "delivery_id")
    assert {name: announced[name] for name in same} == {name: sent[name] for name in same}


def test_stored_file_is_booked_in_the_journal(receipts: Receipts) -> None:
    receipts.acme.apply("card.transaction.cleared", snapshot("cleared"))
    receipts.apply("1.pdf")
    receipts.fetch()
    lines = receipts.acme.rows("SELECT kind, receipt_state, position FROM ems.ledger_journal ORDER BY position, line")
    assert [(line["kind"], line["receipt_state"]) for line in lines] == [
        ("booking", "none"),
        ("reversal", "none"),
        ("correction", "reported"),
        ("reversal", "reported"),
        ("correction", "stored"),
    ]
    assert lines[-1]["position"] == receipts.acme.value("SELECT max(position) FROM ems.events")


def test_the_token_can_do_nothing_but_read_files(receipts: Receipts) -> None:
    receipts.apply()
    receipts.fetch()
    assert receipts.provider.requests.scopes_asked() == {"files-read"}
    assert receipts.provider.requests.scopes_used() == {"files-read"}


def test_the_same_content_is_stored_once(receipts: Receipts) -> None:
    for name in ("1.pdf", "2.pdf"):
        receipts.provider.files[name] = content("same.pdf")
        receipts.apply(name)
    assert receipts.fetch().stored == 2
    assert len(receipts.stored()) == 1
    keys = receipts.acme.rows("SELECT DISTINCT file_key FROM ems.receipts")
    assert len(keys) == 1


def test_a_token_that_ended_early_is_replaced(receipts: Receipts) -> None:
    receipts.apply("1.pdf")
    receipts.fetch()
    receipts.apply("2.pdf")
    receipts.provider.faults.add(ApiFault("expire-token", path="/files/"))
    assert receipts.fetch().stored == 1


def test_signed_url_is_asked_without_token_after_a_refusal(receipts: Receipts) -> None:
    receipts.provider.behaviour.files_are_signed = True
    receipts.apply()
    assert receipts.fetch().stored == 1


def test_a_missing_scope_is_named_and_ends_the_run(receipts: Receipts) -> None:
    receipts.provider.clients.set_scopes(receipts.client.id, ["webhooks-read"])
    receipts.apply()
    tally = receipts.fetch()
    assert isinstance(tally.blocked[FileKind.RECEIPT], DownloadsImpossible)
    assert "does not have the scope files-read, which files fetch needs" in receipts.failure()
    receipts.provider.clients.set_scopes(receipts.client.id, ["files-read"])
    receipts.be_due()
    assert receipts.fetch().stored == 1


@pytest.mark.parametrize("status", [401, 403])
def test_refused_token_is_reported_with_the_scope(receipts: Receipts, status: int) -> None:
    receipts.provider.faults.add(ApiFault.answers(status, path="/files/", times=9))
    receipts.apply()
    assert receipts.fetch().failed == 1
    assert f"OpenCard answers {status}" in receipts.failure()
    assert "scope files-read" in receipts.failure()


@pytest.mark.parametrize("status", [403, 410])
def test_a_url_that_expired_is_tried_once_and_then_given_up(receipts: Receipts, status: int) -> None:
    receipts.provider.behaviour.expired_status = status
    receipts.apply(expires_in=-DAY)
    tally = receipts.fetch()
    assert (tally.failed, tally.given_up) == (0, 1)
    assert "expired" in receipts.failure("expired")
    assert receipts.download()["completed_at"] is not None
    receipts.be_due()
    assert receipts.fetch().given_up == 0, "nobody asks again"


def test_url_that_still_works_after_its_expiry_is_used(receipts: Receipts) -> None:
    receipts.apply(url=signed_url(receipts.api_url, "1.pdf", datetime.now(UTC) + DAY), expires_in=-timedelta(hours=2))
    assert receipts.fetch().stored == 1


def test_failed_download_is_retried_and_cleared_on_success(receipts: Receipts) -> None:
    receipts.apply()
    receipts.provider.faults.add(ApiFault.answers(503, path="/files/", retry_after="3600"))
    assert receipts.fetch().failed == 1
    assert receipts.failure() == "OpenCard answers 503"
    pause = receipts.acme.value("SELECT next_attempt_at - now() FROM receiver.receipt_downloads")
    assert pause > timedelta(minutes=59), "for OpenCard asked for an hour"
    assert receipts.fetch().stored == 0
    receipts.be_due()
    assert receipts.fetch().stored == 1
    assert receipts.row()["download_error"] is None


@contextmanager
def another_host() -> Iterator[tuple[str, list[Request]]]:
    """Serve what is not OpenCard, and keep what it was asked."""
    seen: list[Request] = []

    @Request.application
    def app(request: Request) -> Response:
        seen.append(request)
        return Response(content("1.pdf"), content_type="application/pdf")

    with served(app) as url:
        yield url, seen


def test_a_url_on_another_host_is_refused_unasked(receipts: Receipts) -> None:
    with another_host() as (url, seen):
        receipts.apply(url=f"{url}/1.pdf?signature=1")
        assert receipts.fetch().given_up == 1
    assert f"its url is at {url}, not at OpenCard's {receipts.api_url}" in receipts.failure("refused")
    assert seen == []


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/1.pdf", "file:///etc/passwd", "//127.0.0.1/1", "nonsense", "http://["]
)
def test_url_outside_opencard_is_refused(receipts: Receipts, url: str) -> None:
    receipts.apply(url=url)
    assert receipts.fetch().given_up == 1
    assert receipts.failure("refused").startswith("its url is")
    assert receipts.provider.requests.all(path="/files/") == []


def test_redirect_to_another_host_is_not_followed(receipts: Receipts) -> None:
    receipts.apply()
    with another_host() as (url, seen):
        receipts.provider.faults.add(ApiFault("redirect", path="/files/", location=f"{url}/1.pdf"))
        assert receipts.fetch().failed == 1
    assert f"redirected to {url}, which is not followed" in receipts.failure()
    assert seen == []


def test_redirects_within_opencard_are_followed_up_to_a_limit(receipts: Receipts) -> None:
    receipts.apply()
    elsewhere = signed_url("", "2.pdf", datetime.now(UTC) + DAY)
    receipts.provider.faults.add(ApiFault("redirect", path="/1.pdf", location=elsewhere))
    assert receipts.fetch().stored == 1
    assert receipts.row()["file_sha256"] == hashlib.sha256(content("2.pdf")).hexdigest()
    receipts.apply("3.pdf")
    receipts.provider.faults.add(ApiFault("redirect", path="/files/", location=elsewhere, times=99))
    assert receipts.fetch().failed == 1


def test_a_body_of_two_gigabytes_is_left_at_the_limit(receipts: Receipts) -> None:
    receipts.apply()
    receipts.provider.faults.add(ApiFault("endless", path="/files/", size=2 * 1024**3))
    assert receipts.fetch().given_up == 1
    assert "larger than 100000 bytes: raise FILES_MAX_BYTES" in receipts.failure("refused")


PROGRAM = """
import pathlib, re, sys
from receiver.cli import main
try:
    main(["files", "fetch", "--json"])
except SystemExit as ended:
    assert ended.code == 1, ended.code
print(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1], file=sys.stderr)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
def test_a_body_of_any_length_takes_little_memory(receipts: Receipts, environment: dict[str, str]) -> None:
    receipts.most = 128 * 1024**2
    receipts.apply()
    receipts.provider.faults.add(ApiFault("endless", path="/files/", size=2 * 1024**3))
    fetched = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **receipts.environment(environment)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"given_up": 1' in fetched.stdout
    assert int(fetched.stderr.split()[-1]) / 1024 < 190, "though it read 128 megabytes"


def test_a_file_that_is_said_to_be_too_large_is_not_read_at_all(receipts: Receipts) -> None:
    receipts.provider.files["1.pdf"] = content("1.pdf") + bytes(200_000)
    receipts.apply()
    assert receipts.fetch().given_up == 1
    assert "larger than" in receipts.failure("refused")


def test_the_page_of_an_error_is_no_receipt(receipts: Receipts) -> None:
    receipts.apply()
    receipts.provider.faults.add(ApiFault("error-page", path="/files/", times=2))  # again with a new token
    assert receipts.fetch().failed == 1
    assert (
        receipts.failure()
        == "OpenCard answers 200 with an HTML page instead of JSON or a file: it refuses the download"
    )


def test_a_kind_that_is_no_receipt_is_not_kept(receipts: Receipts) -> None:
    receipts.provider.files["1.pdf"] = b"MZ\x90\0\3\0\0\0" + bytes(100)
    receipts.apply()
    assert receipts.fetch().failed == 1
    assert receipts.failure() == "the file is of a kind that is not kept; announced was application/pdf"


def test_a_file_that_is_cut_off_is_not_kept(receipts: Receipts) -> None:
    receipts.apply()
    receipts.provider.faults.add(ApiFault("cut", path="/files/"))
    receipts.provider.faults.add(ApiFault("hang-up-before", path="/files/"))
    for _ in range(2):
        assert receipts.fetch().failed == 1
        assert receipts.failure().startswith("the connection failed")
        receipts.be_due()
    assert receipts.fetch().stored == 1


@pytest.mark.parametrize("kind", ["slow", "drip"])
def test_slow_server_is_left_after_a_timeout(receipts: Receipts, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr("receiver.opencard.files.OVERALL_SECONDS", 0.5)
    receipts.apply()
    receipts.provider.faults.add(ApiFault(kind, path="/files/", seconds=60 if kind == "slow" else 0.05))  # type: ignore[arg-type]
    assert receipts.fetch().failed == 1
    assert "not here as a whole within" in receipts.failure()


def test_one_bad_receipt_stops_no_other(receipts: Receipts) -> None:
    receipts.provider.files["7.pdf"] = b"\0"
    for number in range(20):
        receipts.apply(f"{number}.pdf")
    tally = receipts.fetch()
    assert (tally.stored, tally.failed) == (19, 1)


def test_two_workers_side_by_side_download_each_receipt_once(receipts: Receipts) -> None:
    for number in range(30):
        receipts.apply(f"{number}.pdf")
    with ThreadPoolExecutor(2) as workers:
        tallies = list(workers.map(lambda _: receipts.fetch(), range(2)))
    assert sum(tally.stored for tally in tallies) == 30
    assert len(receipts.provider.requests.all(path="/files/")) == 30


def test_a_flood_is_downloaded_some_at_a_time(receipts: Receipts) -> None:
    class Meeting(dict[str, bytes]):
        """Blocks each download until as many have arrived as run in parallel."""

        barrier, lock = Barrier(CONCURRENT_DOWNLOADS), Lock()
        here, most = 0, 0

        def get(self, *_: Any) -> Any:
            with self.lock:
                self.here += 1
                self.most = max(self.most, self.here)
            self.barrier.wait(timeout=60)
            with self.lock:
                self.here -= 1

    receipts.provider.files = meeting = Meeting()
    for number in range(2 * CONCURRENT_DOWNLOADS):
        receipts.apply(f"{number}.pdf")
    assert receipts.fetch().stored == 2 * CONCURRENT_DOWNLOADS
    assert meeting.most == CONCURRENT_DOWNLOADS


@pytest.mark.parametrize(
    "expires", ["9999-12-31T23:59:59-01:00", "9999-12-31 23:59:59", "0001-01-01T00:00:00+05:00"], ids=str
)
def test_an_impossible_expiry_stops_no_other_download(receipts: Receipts, expires: str) -> None:
    receipts.apply("odd.pdf", expiration_time=expires)
    for number in range(3):
        receipts.apply(f"{number}.pdf")
    tally = receipts.fetch()
    assert (tally.stored, receipts.acme.statuses()) == (4, ["processed"] * 4)


def test_a_claim_takes_one_file_under_any_plan(receipts: Receipts) -> None:
    receipts.apply("1.pdf")
    receipts.acme.execute("ANALYZE receiver.receipt_downloads")  # it counts on one row from now on
    for name in ("2.png", "3.html"):
        receipts.apply(name)
    claimed = [claim(receipts.acme.engine, list(FileKind)) for _ in range(4)]
    assert [each is not None for each in claimed] == [True, True, True, False]


def test_a_claim_survives_what_an_older_release_stored(receipts: Receipts) -> None:
    receipts.apply("odd.pdf")
    for moment in ("9999-12-31 23:59:59-01", "infinity", "0044-03-15 BC", "-infinity"):
        receipts.acme.execute("UPDATE receiver.receipt_downloads SET expires_at = CAST(:at AS timestamptz)", at=moment)
        receipts.be_due()
        assert claim(receipts.acme.engine, list(FileKind)) is not None


BREAK_THE_FIRST = """
CREATE FUNCTION receiver.break_the_first() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'this one cannot be completed'; END $$;
CREATE TRIGGER break_the_first BEFORE DELETE ON receiver.receipt_downloads FOR EACH ROW WHEN (OLD.id = {id})
    EXECUTE FUNCTION receiver.break_the_first();
"""
FIX = "DROP TRIGGER break_the_first ON receiver.receipt_downloads; DROP FUNCTION receiver.break_the_first()"


def test_download_that_cannot_be_completed_affects_no_other(receipts: Receipts) -> None:
    number = 2 * CONCURRENT_DOWNLOADS
    for each in range(number):
        receipts.apply(f"{each}.pdf")
    receipts.provider.faults.add(ApiFault("slow", path=r"/files/(?!0\.pdf)", seconds=0.5, times=CONCURRENT_DOWNLOADS))
    first = receipts.acme.value("SELECT min(id) FROM receiver.receipt_downloads")
    receipts.acme.execute(BREAK_THE_FIRST.format(id=first))
    try:
        with pytest.raises(RaiseException, match="this one cannot be completed"):
            receipts.fetch()
    finally:
        receipts.acme.execute(FIX)
    left = receipts.acme.rows("SELECT id, attempts, error FROM receiver.receipt_downloads")
    assert left == [{"id": first, "attempts": 1, "error": None}]
    assert receipts.acme.value("SELECT count(*) FROM ems.receipts WHERE file_key IS NOT NULL") == number - 1

"""The state of the downloads is reported to operators before and after a file is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from receiver.ops.receipts import ReceiptsState, find_in_receipts, read_receipts
from receiver.sandbox.provider import ApiFault
from tests.files.conftest import DAY

if TYPE_CHECKING:
    from tests.files.conftest import Receipts


def state(receipts: Receipts) -> ReceiptsState:
    return read_receipts(receipts.acme.rows)


def needs_attention(state: ReceiptsState, *, missing: str) -> list[str]:
    return [str(found) for found in find_in_receipts(state, missing=missing)]


def test_nothing_waits_and_nothing_needs_attention(receipts: Receipts) -> None:
    found = state(receipts)
    assert (found.waiting, found.oldest_waiting, found.failing, found.expired, found.refused) == (0, None, 0, 0, 0)
    assert needs_attention(found, missing="") == []
    assert needs_attention(found, missing="OPENCARD_CLIENT_ID is not set") == []


def test_waiting_downloads_need_attention_only_if_none_runs(receipts: Receipts) -> None:
    receipts.apply()
    found = state(receipts)
    assert (found.waiting, found.failing) == (1, 0)
    assert found.oldest_waiting is not None
    assert needs_attention(found, missing="") == []
    (said,) = needs_attention(found, missing="OPENCARD_CLIENT_ID is not set")
    assert said == "1 file not downloaded, and lost when the URLs expire: OPENCARD_CLIENT_ID is not set"


def test_repeated_failures_are_reported_before_the_url_expires(receipts: Receipts) -> None:
    receipts.apply()
    receipts.provider.faults.add(ApiFault.answers(403, path="/files/", times=99))
    for _ in range(3):
        assert needs_attention(state(receipts), missing="") == []
        receipts.be_due()
        receipts.fetch()
    (said,) = needs_attention(state(receipts), missing="")
    assert said.startswith("1 file not downloaded so far, the first is lost at 20")
    assert "lacks the scope files-read" in said


def test_lost_or_refused_files_are_reported_for_eight_days(receipts: Receipts) -> None:
    receipts.apply("1.pdf", expires_in=-DAY)
    receipts.apply("2.pdf", expires_in=-DAY)
    receipts.apply("3.pdf", url="https://elsewhere.example/3.pdf")
    receipts.fetch()
    lost, refused = needs_attention(state(receipts), missing="")
    assert lost.startswith("2 files lost, the URLs expired before the download")
    assert refused == "1 file refused; receiver files list --status refused"
    receipts.acme.execute("UPDATE receiver.receipt_downloads SET completed_at = now() - interval '9 days'")
    found = state(receipts)
    assert needs_attention(found, missing="") == []
    assert (found.expired, found.refused) == (2, 1)

"""The download of a file is stored in the transaction that applies the receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.factories import enrichment
from tests.support.replay_steps import ids, replay

if TYPE_CHECKING:
    from tests.conftest import Acme

NOTED = (
    "SELECT transaction_id, url, expires_at = expiration_time AS same_expiry, status, attempts"
    " FROM receiver.receipt_downloads JOIN ems.receipts USING (organization_reference_id, transaction_id, url)"
    " ORDER BY url"
)
GIVE_UP = "UPDATE receiver.receipt_downloads SET status = 'expired', attempts = 7, completed_at = now()"


def receipt(url: str = "https://files.opencard.invalid/1", **changes: Any) -> dict[str, Any]:
    return enrichment("receipt.fetched", url=url, **changes)


def test_receipt_is_due_for_download_once_it_is_stored(acme: Acme) -> None:
    acme.deliver_ok("receipt.fetched", receipt())
    acme.deliver_ok("receipt.fetched", receipt())
    acme.deliver_ok("receipt.fetched", receipt("https://files.opencard.invalid/2"))
    acme.process()
    assert [(row["url"][-1], row["same_expiry"], row["status"], row["attempts"]) for row in acme.rows(NOTED)] == [
        ("1", True, "waiting", 0),
        ("2", True, "waiting", 0),
    ]


def test_new_event_of_a_given_up_url_is_tried_again(acme: Acme) -> None:
    acme.apply("receipt.fetched", receipt())
    acme.execute(GIVE_UP)
    acme.apply("receipt.fetched", receipt(expiration_time="2030-01-01 00:00:00"))
    row = acme.row(NOTED)
    assert (row["same_expiry"], row["status"], row["attempts"]) == (True, "waiting", 0)


def test_so_does_a_replay(acme: Acme) -> None:
    acme.apply("receipt.fetched", receipt())
    acme.execute(GIVE_UP)
    replay(acme, tuple(ids(acme)))
    assert acme.row(NOTED)["status"] == "waiting"


def test_stored_file_is_not_downloaded_again(acme: Acme) -> None:
    acme.apply("receipt.fetched", receipt())
    acme.execute("UPDATE ems.receipts SET file_key = 'sha256/1'")
    acme.execute("DELETE FROM receiver.receipt_downloads")
    acme.apply("receipt.fetched", receipt(expiration_time="2030-01-01 00:00:00"))
    assert acme.rows(NOTED) == []

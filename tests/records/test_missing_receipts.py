"""``ems.missing_receipts``: receiptable purchases in the ledger that have no receipt."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.support.factories import snapshot

if TYPE_CHECKING:
    from tests.conftest import Acme


def missing(acme: Acme) -> list[str]:
    return [row["transaction_id"] for row in acme.rows("SELECT transaction_id FROM ems.missing_receipts ORDER BY 1")]


def receipt(transaction: str) -> dict[str, object]:
    return {
        "url": "https://files.invalid/1.pdf",
        "transaction": {"id": transaction, "card_issuer": "bank"},
        "card_holder": {"reference_id": "employee-17"},
        "organization": {"reference_id": "acme"},
    }


@pytest.mark.parametrize(
    ("state", "receiptable", "is_missing"),
    [
        ("cleared", True, True),
        ("invoiced", True, True),
        ("authorized", True, False),
        ("deleted", True, False),
        ("cleared", False, False),
        ("cleared", None, False),
    ],
)
def test_only_receiptable_purchases_in_the_ledger(
    acme: Acme,
    state: str,
    receiptable: bool | None,  # noqa: FBT001
    is_missing: bool,  # noqa: FBT001
) -> None:
    acme.apply(f"card.transaction.{state}", snapshot(state, transaction="t-1", receiptable=receiptable))
    assert missing(acme) == (["t-1"] if is_missing else [])


def test_a_receipt_before_or_after_the_purchase_ends_it(acme: Acme) -> None:
    acme.apply("receipt.fetched", receipt("t-1"))
    for number in (1, 2, 3):
        acme.apply("card.transaction.cleared", snapshot("cleared", transaction=f"t-{number}", receiptable=True))
    assert missing(acme) == ["t-2", "t-3"]
    acme.apply("receipt.fetched", receipt("t-2"))
    assert missing(acme) == ["t-3"]


def test_its_age_counts_from_the_clearing(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared", transaction="t-1", receiptable=True))
    acme.execute("UPDATE ems.transactions SET cleared_at = now() - interval '2 days 3 hours'")
    row = acme.row("SELECT age, days_missing FROM ems.missing_receipts")
    assert timedelta(days=2, hours=3) <= row["age"] < timedelta(days=2, hours=4)
    assert row["days_missing"] == 2


def test_purchase_that_was_only_invoiced_has_an_age(acme: Acme) -> None:
    acme.apply("card.transaction.invoiced", snapshot("invoiced", transaction="t-1", receiptable=True))
    row = acme.row("SELECT cleared_at, age, days_missing FROM ems.missing_receipts")
    assert (row["cleared_at"], row["days_missing"]) == (None, 0)
    assert row["age"] >= timedelta()

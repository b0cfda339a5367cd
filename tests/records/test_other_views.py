"""The views of pending purchases and of possible duplicates."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.factories import enrichment, snapshot

if TYPE_CHECKING:
    from tests.conftest import Acme, Organizations

PENDING = "SELECT * FROM ems.pending_transactions"
DUPLICATES = "SELECT transaction_id, other_transaction_id FROM ems.possible_duplicates ORDER BY 1, 2"


def test_an_open_authorization_is_pending_with_its_age(acme: Acme) -> None:
    acme.apply("card.transaction.authorized", snapshot("authorized"))
    acme.execute("UPDATE ems.transactions SET authorized_at = now() - interval '4 days 3 hours'")
    pending = acme.row(PENDING)
    assert (pending["transaction_id"], pending["merchant"], pending["days_open"]) == ("transaction-1", "Café Müller", 4)
    assert timedelta(days=4, hours=3) <= pending["age"] < timedelta(days=5)


def test_a_receipt_that_came_early_is_there_for_the_preview(acme: Acme) -> None:
    acme.apply("receipt.fetched", enrichment("receipt.fetched"))
    acme.apply("card.transaction.authorized", snapshot("authorized"))
    assert acme.row(PENDING)["receipt_url"] == "https://files.opencard.invalid/receipts/9f2c"


@pytest.mark.parametrize("end", ["deleted", "cleared", "invoiced"])
def test_deleted_or_final_purchase_is_not_pending(acme: Acme, end: str) -> None:
    acme.apply("card.transaction.authorized", snapshot("authorized"))
    acme.apply(f"card.transaction.{end}", snapshot(end))
    acme.apply("card.transaction.authorized", snapshot("authorized", purchase_city="Potsdam"))
    assert acme.rows(PENDING) == []


def clear(organization: Acme, transaction: str, **changes: object) -> None:
    payload = snapshot("cleared", transaction=transaction, **changes)
    payload["organization"] = {"reference_id": organization.registration.organization_reference_id}
    organization.apply("card.transaction.cleared", payload)


def pairs(acme: Acme) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in acme.rows(DUPLICATES)]


def test_same_reference_amount_and_day_may_be_one_purchase(acme: Acme) -> None:
    clear(acme, "of-this-feed")
    clear(acme, "of-that-feed", accounting_amount=Decimal("1250.00"), purchase_time="12:41:00")
    assert pairs(acme) == [("of-that-feed", "of-this-feed"), ("of-this-feed", "of-that-feed")]


@pytest.mark.parametrize(
    "difference",
    [
        {"card_issuer_reference": "CLR-other"},
        {"card_issuer_reference": None},
        {"card_issuer": "another-bank"},
        {"original_amount": Decimal("109.39")},
        {"original_currency": "CHF"},
        {"purchase_date": "2026-02-14"},
    ],
    ids=lambda difference: next(iter(difference)),
)
def test_purchase_that_differs_in_one_field_is_no_duplicate(acme: Acme, difference: dict[str, Any]) -> None:
    clear(acme, "one")
    clear(acme, "other", **difference)
    assert pairs(acme) == []


@pytest.mark.parametrize("reference", ["", "  "])
def test_an_empty_reference_is_none(acme: Acme, reference: str) -> None:
    clear(acme, "one", card_issuer_reference=reference)
    clear(acme, "other", card_issuer_reference=reference)
    assert pairs(acme) == []


def test_authorization_is_no_duplicate(acme: Acme) -> None:
    clear(acme, "one")
    acme.apply("card.transaction.authorized", snapshot("authorized", transaction="other"))
    assert pairs(acme) == []


def test_two_organizations_do_not_have_each_others_duplicates(organizations: Organizations) -> None:
    acme, globex = organizations.adopt("acme"), organizations.adopt("globex")
    clear(acme, "one")
    clear(globex, "other")
    assert pairs(acme) == []

"""Payment product and funding of a purchase: columns that describe, and never keep its money out of the ledger."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tests.support.factories import snapshot

if TYPE_CHECKING:
    from tests.conftest import Acme

COLUMNS = "payment_product_id, payment_product_name, card_funding"


def columns_of(acme: Acme, relation: str) -> list[object]:
    return list(acme.row(f"SELECT {COLUMNS} FROM ems.{relation}").values())  # noqa: S608


def test_product_and_funding_are_columns(acme: Acme) -> None:
    product = {"id": "pp-7", "name": "Nordkort Business"}
    acme.apply("card.transaction.authorized", snapshot("authorized", payment_product=product, card_funding="credit"))
    assert columns_of(acme, "transactions") == ["pp-7", "Nordkort Business", "credit"]
    assert columns_of(acme, "pending_transactions") == ["pp-7", "Nordkort Business", "credit"]
    acme.apply("card.transaction.cleared", snapshot("cleared", payment_product=product, card_funding="debit"))
    assert columns_of(acme, "ledger") == ["pp-7", "Nordkort Business", "debit"]


def test_without_them_they_are_null(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    assert columns_of(acme, "ledger") == [None, None, None]


@pytest.mark.parametrize(
    ("product", "funding", "columns"),
    [
        (None, None, [None, None, None]),
        ({"id": 12, "name": None}, "prepaid", ["12", None, "prepaid"]),
        ({}, 7, [None, None, None]),
        ("Business", ["credit"], [None, "Business", None]),
        ([{"id": 1}], {"type": "credit"}, [None, None, None]),
        ({"id": {"deep": 1}, "name": ["a"]}, True, [None, None, None]),
        ({"id": "a\0b", "name": "\0"}, "cre\0dit", ["a\ufffdb", "\ufffd", "cre\ufffddit"]),
    ],
)
def test_any_form_of_them_leaves_the_money(acme: Acme, product: object, funding: object, columns: list[object]) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared", payment_product=product, card_funding=funding))
    assert columns_of(acme, "ledger") == columns
    assert acme.value("SELECT accounting_amount FROM ems.ledger") == Decimal("1249.06")


def test_items_under_the_other_name_with_a_fraction(acme: Acme) -> None:
    payload = {
        "transaction": {"id": "t-1", "card_issuer": "bank"},
        "payment_product": {"id": "pp-7", "name": "Nordkort Business"},
        "card_holder": {"reference_id": "employee-17"},
        "organization": {"reference_id": "acme"},
        "line_items": [
            {"description": "Gouda", "amount": 4.1, "total_amount": 4.1, "quantity": 0.195, "currency": "EUR"}
        ],
    }
    acme.apply("transaction.line_items", payload)
    assert acme.statuses() == ["processed"]
    line = acme.row("SELECT quantity, amount, total_amount FROM ems.line_items")
    assert line == {"quantity": Decimal("0.195"), "amount": Decimal("4.1"), "total_amount": Decimal("4.1")}
    assert acme.value("SELECT type FROM ems.events") == "transaction.line.items"


@pytest.mark.parametrize(
    "event", ["receipt.fetched", "transaction.true.vat", "transaction.line.items", "environmental.impact.deedster"]
)
def test_a_product_on_an_enrichment_is_no_error(acme: Acme, event: str) -> None:
    own: dict[str, dict[str, object]] = {
        "receipt.fetched": {"url": "https://files.invalid/1.pdf"},
        "transaction.true.vat": {"totals": []},
        "transaction.line.items": {"line_items": []},
        "environmental.impact.deedster": {"carbon_emission_in_grams": 7},
    }
    payload = {
        "transaction": {"id": "t-1", "card_issuer": "bank"},
        "payment_product": {"id": 7, "name": "Nordkort Business"},
        "card_holder": {"reference_id": "employee-17"},
        "organization": {"reference_id": "acme"},
        **own[event],
    }
    acme.apply(event, payload)
    assert acme.statuses() == ["processed"]

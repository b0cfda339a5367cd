"""A descriptive field that cannot be read is null or text, and listed; the purchase stays in the ledger."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.factories import body, enrichment, sample, snapshot
from tests.support.processing_steps import NOON, occurred, process_in_order

if TYPE_CHECKING:
    from tests.conftest import Acme

CLEARED = "card.transaction.cleared"
ODD: dict[str, list[object]] = {
    "purchase_time": ["24:00:00", "23:59:60", "12:41", "", "12:00:00+01:00", 1241],
    "purchase_date": ["", "13.02.2026", "2026-02-13T12:00:00Z", "2026-02-30", 20260213],
    "invoice_date": ["soon", []],
    "receiptable": ["yes", 1],
    "card_id": [2**70, "seventeen"],
    "purchase_merchant": [["Café"], {"name": "Café"}, True],
    "vat_rate": ["a quarter", Decimal("1e40")],
    "exchange_rate": ["1.0", Decimal("0." + 60 * "3")],
    "card_issuer_reference": ["r" * 501],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in ODD.items() for value in values])
def test_an_unreadable_description_is_null_and_listed(acme: Acme, name: str, value: object) -> None:
    acme.apply(CLEARED, {**snapshot("cleared"), name: value})
    row = acme.row("SELECT * FROM ems.transactions")
    assert (row[name], row["unreadable"], row["accounting_amount"]) == (None, [name], Decimal("1249.06"))
    assert acme.value("SELECT accounting_amount FROM ems.ledger") == Decimal("1249.06")
    payload = acme.value("SELECT payload FROM ems.events")
    assert payload[name] == (pytest.approx(float(value)) if isinstance(value, Decimal) else value), "as it arrived"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [("mcc_code", 5812, "5812"), ("invoice_number", 20261129, "20261129"), ("card_last_four", 17, "17")],
)
def test_a_number_in_the_place_of_a_text_is_its_text(acme: Acme, name: str, value: object, text: str) -> None:
    acme.apply(CLEARED, {**snapshot("cleared"), name: value})
    row = acme.row("SELECT * FROM ems.transactions")
    assert (row[name], row["unreadable"]) == (text, None)


def test_several_unreadable_fields_are_all_listed(acme: Acme) -> None:
    acme.apply(
        CLEARED, snapshot("cleared", purchase_time="24:00:00", mcc_code=5812, card_id=Decimal("45.0"), vat_rate="")
    )
    row = acme.row("SELECT unreadable, card_id, mcc_code FROM ems.transactions")
    assert row == {"unreadable": ["purchase_time", "vat_rate"], "card_id": 45, "mcc_code": "5812"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("original_amount", "109.38"), ("accounting_currency", 752), ("id", 7), ("state", "lost"), ("vat_amount", "")],
)
def test_money_and_ids_stay_strict(acme: Acme, name: str, value: object) -> None:
    acme.apply(CLEARED, {**snapshot("cleared", purchase_time="24:00:00"), name: value})
    assert acme.statuses() == ["dead"]
    assert acme.value("SELECT error FROM receiver.deliveries").startswith(f"{name}: ")


def test_a_later_snapshot_that_can_be_read_clears_the_list(acme: Acme) -> None:
    acme.apply(CLEARED, snapshot("cleared", purchase_time=""))
    acme.apply("card.transaction.invoiced", snapshot("invoiced"))
    assert acme.value("SELECT unreadable FROM ems.transactions") is None


def test_rows_rebuilt_from_history_read_alike(acme: Acme) -> None:
    """The retry of the odd one is processed before its original, which then dates it back."""
    odd = body(snapshot("cleared", purchase_time="24:00:00", mcc_code=5812, card_id=Decimal("45.0")))
    for number, content in enumerate([odd, body(snapshot("cleared", accounting_amount=1)), odd]):
        acme.deliver_ok(CLEARED, content)
        occurred(acme, number + 1, NOON.replace(minute=number))
    process_in_order(acme, [3, 2, 1])
    row = acme.row("SELECT accounting_amount, unreadable FROM ems.transactions")
    assert row == {"accounting_amount": Decimal(1), "unreadable": None}


@pytest.mark.parametrize(
    ("event", "changes", "query"),
    [
        ("receipt.fetched", {"purchase_time": "24:00:00"}, "SELECT purchase_time FROM ems.receipts"),
        ("receipt.fetched", {"expiration_time": "never"}, "SELECT expiration_time FROM ems.receipts"),
        ("invoice.created", {"due_date": ""}, "SELECT due_date FROM ems.invoices"),
        ("tpa.signed", {"name": ["Acme"]}, "SELECT name FROM ems.tpas"),
    ],
)
def test_other_events_are_as_tolerant(acme: Acme, event: str, changes: dict[str, Any], query: str) -> None:
    acme.apply(event, {**(enrichment(event) if event.startswith("receipt") else sample(event)), **changes})
    assert acme.statuses() == ["processed"]
    assert acme.value(query) is None


@pytest.mark.parametrize(
    ("event", "changes"),
    [
        ("receipt.fetched", {"url": 7}),
        ("transaction.line.items", {"line_items": "none"}),
        ("transaction.true.vat", {"totals": {}}),
        ("tpa.signed", {"url": 7}),
    ],
)
def test_identifying_fields_stay_strict(acme: Acme, event: str, changes: dict[str, Any]) -> None:
    acme.apply(event, {**(sample(event) if event == "tpa.signed" else enrichment(event)), **changes})
    assert acme.statuses() == ["dead"]

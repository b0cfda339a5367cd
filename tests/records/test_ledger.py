"""The view that accounting books from, and the related records."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tests.support.factories import enrichment, sample, snapshot
from tests.support.processing_steps import process_in_order

if TYPE_CHECKING:
    from tests.conftest import Acme

LEDGER = "SELECT * FROM ems.ledger"


@pytest.mark.parametrize("states", [["authorized"], ["authorized", "deleted"], ["deleted"]], ids="-".join)
def test_purchase_that_is_not_final_is_not_in_the_ledger(acme: Acme, states: list[str]) -> None:
    for state in states:
        acme.apply(f"card.transaction.{state}", snapshot(state))
    assert acme.rows(LEDGER) == []


@pytest.mark.parametrize("states", [["cleared"], ["invoiced"], ["authorized", "cleared", "invoiced"]], ids="-".join)
def test_a_final_purchase_is_one_line(acme: Acme, states: list[str]) -> None:
    for state in states:
        acme.apply(f"card.transaction.{state}", snapshot(state))
    line = acme.row(LEDGER)
    assert (line["state"], line["accounting_amount"]) == (states[-1], Decimal("1249.06"))
    assert line["merchant"] == "Café Müller"


def test_network_vat_is_marked_as_such(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    line = acme.row(LEDGER)
    assert (line["vat_amount"], line["vat_currency"], line["vat_source"]) == (Decimal("21.88"), "EUR", "network")


@pytest.mark.parametrize("vat_first", [True, False])
def test_the_merchants_vat_is_preferred_whichever_comes_first(acme: Acme, *, vat_first: bool) -> None:
    events = [
        ("transaction.true.vat", enrichment("transaction.true.vat")),
        ("card.transaction.cleared", snapshot("cleared")),
    ]
    for event, payload in events if vat_first else reversed(events):
        acme.apply(event, payload)
    line = acme.row(LEDGER)
    assert (line["vat_amount"], line["vat_currency"], line["vat_source"]) == (Decimal("15.57"), "EUR", "merchant")


def test_rates_are_added_up_when_there_are_no_totals(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    acme.apply("transaction.true.vat", enrichment("transaction.true.vat", totals=[]))
    line = acme.row(LEDGER)
    assert (line["vat_amount"], line["vat_source"]) == (Decimal("15.57"), "merchant")


def test_a_total_without_an_amount_is_no_total(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    acme.apply("transaction.true.vat", enrichment("transaction.true.vat", totals=[{"currency": "EUR"}]))
    line = acme.row(LEDGER)
    assert (line["vat_amount"], line["vat_source"]) == (Decimal("15.57"), "merchant")


@pytest.mark.parametrize(
    ("amounts", "currency", "vat"),
    [
        ([("SEK", "177.81"), ("EUR", "15.57")], "EUR", "15.57"),
        ([("DKK", "116.10"), ("SEK", "177.81")], "SEK", "177.81"),
        ([("NOK", "181.00"), ("DKK", "116.10")], "DKK", "116.10"),
    ],
    ids=["of the purchase", "else the home currency", "else the first by name"],
)
def test_of_vat_in_several_currencies_one_counts(
    acme: Acme, amounts: list[tuple[str, str]], currency: str, vat: str
) -> None:
    totals = [{"vat_amount": Decimal(amount), "currency": name} for name, amount in amounts]
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    acme.apply("transaction.true.vat", enrichment("transaction.true.vat", totals=totals))
    line = acme.row(LEDGER)
    assert (line["vat_currency"], line["vat_amount"], line["vat_source"]) == (currency, Decimal(vat), "merchant")


def test_network_vat_is_kept_next_to_the_merchants(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    acme.apply("transaction.true.vat", enrichment("transaction.true.vat"))
    line = acme.row(LEDGER)
    assert (line["network_vat_rate"], line["network_vat_amount"], line["network_vat_currency"]) == (
        Decimal(25),
        Decimal("21.88"),
        "EUR",
    )


def test_without_any_vat_the_ledger_says_so(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared", vat_amount=None, vat_currency=None))
    line = acme.row(LEDGER)
    assert (line["vat_amount"], line["vat_currency"], line["vat_source"]) == (None, None, None)


def test_items_and_receipt_stand_on_the_line(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    acme.apply("transaction.line.items", enrichment("transaction.line.items"))
    acme.apply("receipt.fetched", enrichment("receipt.fetched"))
    line = acme.row(LEDGER)
    assert line["number_of_items"] == 2
    assert line["receipt_url"] == "https://files.opencard.invalid/receipts/9f2c"
    assert line["receipt_file_key"] is None


def test_a_refund_is_negative(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared", accounting_amount=Decimal("-12.00")))
    assert acme.value("SELECT accounting_amount FROM ems.ledger") == Decimal("-12.00")


def test_newer_set_of_lines_replaces_the_older_even_if_empty(acme: Acme) -> None:
    acme.apply("transaction.line.items", enrichment("transaction.line.items"))
    acme.apply("transaction.line.items", enrichment("transaction.line.items", line_items=[]))
    assert acme.rows("SELECT * FROM ems.line_items") == []


def test_older_set_of_lines_does_not_return_after_an_empty_one(acme: Acme) -> None:
    acme.deliver_ok("transaction.line.items", enrichment("transaction.line.items"))
    acme.deliver_ok("transaction.line.items", enrichment("transaction.line.items", line_items=[]))
    process_in_order(acme, [2, 1])
    assert acme.statuses() == ["processed", "processed"]
    assert acme.rows("SELECT * FROM ems.line_items") == []


def test_a_receipts_expiry_without_a_zone_is_utc(acme: Acme) -> None:
    acme.apply("receipt.fetched", enrichment("receipt.fetched"))
    assert acme.value("SELECT expiration_time FROM ems.receipts") == datetime(2026, 2, 20, 8, 15, tzinfo=UTC)


def test_each_co2_provider_has_one_row_with_its_newest_figure(acme: Acme) -> None:
    acme.apply("environmental.impact.aland_index", enrichment("environmental.impact.aland_index"))
    acme.apply(
        "environmental.impact.aland_index",
        enrichment("environmental.impact.aland_index", carbon_emission_in_grams=17),
    )
    acme.apply("environmental_impact.deedster", enrichment("environmental.impact.deedster"))
    acme.apply("card.transaction.environmental_impact", enrichment("card.transaction.environmental_impact"))
    figures = acme.rows("SELECT provider, carbon_emission_in_grams FROM ems.environmental_impacts ORDER BY provider")
    assert [tuple(figure.values()) for figure in figures] == [
        ("aland_index", 17),
        ("deedster", Decimal("4120.5")),
        ("unspecified", Decimal("4120.5")),
    ]


def test_a_tpa_keeps_the_time_of_its_first_signing(acme: Acme) -> None:
    acme.apply("tpa.signed", sample("tpa.signed"))
    acme.apply("tpa.signed", sample("tpa.signed", name="Acme Group AB"))
    tpa = acme.row("SELECT name, signed_at < occurred_at AS first FROM ems.tpas")
    assert tpa == {"name": "Acme Group AB", "first": True}


def test_purchase_cleared_after_deletion_is_booked_and_marked(acme: Acme) -> None:
    for state in ("authorized", "deleted"):
        acme.apply(f"card.transaction.{state}", snapshot(state))
    assert acme.rows(LEDGER) == []
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    line = acme.row(LEDGER)
    assert (line["state"], line["authorized_at"] < line["deleted_at"] < line["cleared_at"]) == ("cleared", True)


def test_foreign_purchase_has_both_amounts_and_the_rate(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    line = acme.row(LEDGER)
    assert (line["original_amount"], line["original_currency"]) == (Decimal("109.38"), "EUR")
    assert (line["accounting_amount"], line["accounting_currency"]) == (Decimal("1249.06"), "SEK")
    assert line["exchange_rate"] == Decimal("11.4195")


def test_issuer_reference_of_clearing_survives_the_invoice(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared", card_issuer_reference="CLR-1"))
    acme.apply("card.transaction.invoiced", snapshot("invoiced", card_issuer_reference="INV-1"))
    line = acme.row(LEDGER)
    assert (line["state"], line["cleared_card_issuer_reference"]) == ("invoiced", "CLR-1")


def test_line_has_the_receipt_with_a_file_or_the_newest(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    for number in (1, 2, 3):
        acme.apply("receipt.fetched", enrichment("receipt.fetched", url=f"https://files.opencard.invalid/{number}"))
    line = acme.row(LEDGER)
    assert (line["receipt_url"], line["number_of_receipts"]) == ("https://files.opencard.invalid/3", 3)
    acme.execute("UPDATE ems.receipts SET file_key = 'stored' WHERE url LIKE '%/2'")
    line = acme.row(LEDGER)
    assert (line["receipt_url"], line["receipt_file_key"]) == ("https://files.opencard.invalid/2", "stored")
    assert line["receipt_content_type"] == "application/pdf"


def test_snapshot_leaves_the_lines_of_its_purchase_alone(acme: Acme) -> None:
    acme.apply("transaction.line.items", enrichment("transaction.line.items"))
    before = acme.rows("SELECT * FROM ems.line_items")
    acme.deliver_ok("card.transaction.cleared", snapshot("cleared"))
    acme.deliver_ok("transaction.line.items", enrichment("transaction.line.items", transaction="transaction-2"))
    acme.process()
    assert acme.rows("SELECT * FROM ems.line_items WHERE transaction_id = 'transaction-1'") == before != []


# --- the day by which a purchase is booked ----------------------------------------------------------------------------

BOOKED = "SELECT booked_on FROM ems.ledger"


def test_purchase_is_booked_on_its_day(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    assert acme.value(BOOKED) == date(2026, 2, 13)


@pytest.mark.parametrize("day", [None, "", "the 13th"])
def test_purchase_without_a_day_is_booked_on_its_clearing_day(acme: Acme, day: str | None) -> None:
    for state in ("cleared", "invoiced"):
        acme.apply(f"card.transaction.{state}", snapshot(state, purchase_date=day))
        same = acme.value("SELECT booked_on = (cleared_at AT TIME ZONE 'UTC')::date FROM ems.ledger")
        assert same is True


def test_invoiced_purchase_never_cleared_is_booked_as_invoiced(acme: Acme) -> None:
    acme.apply("card.transaction.invoiced", snapshot("invoiced", purchase_date=None))
    assert acme.value("SELECT booked_on = (invoiced_at AT TIME ZONE 'UTC')::date FROM ems.ledger") is True


def test_invoice_without_a_day_leaves_the_day_of_the_clearing(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared", purchase_date="2026-02-12"))
    acme.apply("card.transaction.invoiced", snapshot("invoiced", purchase_date=None))
    assert acme.value(BOOKED) == date(2026, 2, 12)


@pytest.mark.parametrize("state", ["authorized", "deleted"])
def test_purchase_that_is_not_final_has_no_booking_day(acme: Acme, state: str) -> None:
    acme.apply(f"card.transaction.{state}", snapshot(state))
    assert acme.value("SELECT booked_on FROM ems.transactions") is None


def test_line_says_whether_there_is_a_receipt(acme: Acme) -> None:
    state = "SELECT receipt_state FROM ems.ledger"
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    assert acme.value(state) == "none"
    acme.apply("receipt.fetched", enrichment("receipt.fetched"))
    assert acme.value(state) == "reported"
    acme.execute("UPDATE ems.receipts SET file_key = 'stored'")
    assert acme.value(state) == "stored"

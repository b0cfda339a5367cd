"""The view that accounting books from, and the records beside it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tests.factories import enrichment, sample, snapshot

if TYPE_CHECKING:
    from tests.conftest import Acme

LEDGER = "SELECT * FROM ems.ledger"


@pytest.mark.parametrize("states", [["authorized"], ["authorized", "deleted"], ["deleted"]], ids="-".join)
def test_what_is_not_final_is_not_in_the_ledger(acme: Acme, states: list[str]) -> None:
    for state in states:
        acme.tell(f"card.transaction.{state}", snapshot(state))
    assert acme.rows(LEDGER) == []


@pytest.mark.parametrize("states", [["cleared"], ["invoiced"], ["authorized", "cleared", "invoiced"]], ids="-".join)
def test_a_final_purchase_is_one_line(acme: Acme, states: list[str]) -> None:
    for state in states:
        acme.tell(f"card.transaction.{state}", snapshot(state))
    line = acme.row(LEDGER)
    assert (line["state"], line["accounting_amount"]) == (states[-1], Decimal("1249.06"))
    assert line["merchant"] == "Café Müller"


def test_network_vat_is_marked_as_such(acme: Acme) -> None:
    acme.tell("card.transaction.cleared", snapshot("cleared"))
    line = acme.row(LEDGER)
    assert (line["vat_amount"], line["vat_currency"], line["vat_source"]) == (Decimal("21.88"), "EUR", "network")


@pytest.mark.parametrize("vat_first", [True, False])
def test_the_merchants_vat_is_preferred_whichever_comes_first(acme: Acme, *, vat_first: bool) -> None:
    told = [
        ("transaction.true.vat", enrichment("transaction.true.vat")),
        ("card.transaction.cleared", snapshot("cleared")),
    ]
    for event, payload in told if vat_first else reversed(told):
        acme.tell(event, payload)
    line = acme.row(LEDGER)
    assert (line["vat_amount"], line["vat_currency"], line["vat_source"]) == (Decimal("15.57"), "EUR", "merchant")


def test_where_the_merchant_gives_no_totals_the_rates_are_added_up(acme: Acme) -> None:
    acme.tell("card.transaction.cleared", snapshot("cleared"))
    acme.tell("transaction.true.vat", enrichment("transaction.true.vat", totals=[]))
    line = acme.row(LEDGER)
    assert (line["vat_amount"], line["vat_source"]) == (Decimal("15.57"), "merchant")


def test_without_any_vat_the_ledger_says_so(acme: Acme) -> None:
    acme.tell("card.transaction.cleared", snapshot("cleared", vat_amount=None, vat_currency=None))
    line = acme.row(LEDGER)
    assert (line["vat_amount"], line["vat_currency"], line["vat_source"]) == (None, None, None)


def test_items_and_receipt_stand_on_the_line(acme: Acme) -> None:
    acme.tell("card.transaction.cleared", snapshot("cleared"))
    acme.tell("transaction.line.items", enrichment("transaction.line.items"))
    acme.tell("receipt.fetched", enrichment("receipt.fetched"))
    line = acme.row(LEDGER)
    assert line["number_of_items"] == 2
    assert line["receipt_url"] == "https://files.opencard.invalid/receipts/9f2c"
    assert line["receipt_file_key"] is None


def test_a_refund_is_negative(acme: Acme) -> None:
    acme.tell("card.transaction.cleared", snapshot("cleared", accounting_amount=Decimal("-12.00")))
    assert acme.value("SELECT accounting_amount FROM ems.ledger") == Decimal("-12.00")


def test_a_newer_set_of_lines_replaces_the_older_an_empty_one_too(acme: Acme) -> None:
    acme.tell("transaction.line.items", enrichment("transaction.line.items"))
    acme.tell("transaction.line.items", enrichment("transaction.line.items", line_items=[]))
    assert acme.rows("SELECT * FROM ems.line_items") == []


def test_an_older_set_of_lines_does_not_come_back_after_an_empty_one(acme: Acme) -> None:
    acme.take("transaction.line.items", enrichment("transaction.line.items"))
    acme.take("transaction.line.items", enrichment("transaction.line.items", line_items=[]))
    acme.execute(
        "UPDATE receiver.deliveries SET next_attempt_at = now() + interval '1 hour' "
        "WHERE id = (SELECT min(id) FROM receiver.deliveries)"
    )
    acme.process()
    acme.execute("UPDATE receiver.deliveries SET next_attempt_at = now() WHERE status = 'pending'")
    acme.process()
    assert acme.statuses() == ["processed", "processed"]
    assert acme.rows("SELECT * FROM ems.line_items") == []


def test_a_receipts_expiry_without_a_zone_is_utc(acme: Acme) -> None:
    acme.tell("receipt.fetched", enrichment("receipt.fetched"))
    assert acme.value("SELECT expiration_time FROM ems.receipts") == datetime(2026, 2, 20, 8, 15, tzinfo=UTC)


def test_each_provider_of_a_co2_figure_has_its_row_and_its_newest_figure(acme: Acme) -> None:
    acme.tell("environmental.impact.aland_index", enrichment("environmental.impact.aland_index"))
    acme.tell(
        "environmental.impact.aland_index",
        enrichment("environmental.impact.aland_index", carbon_emission_in_grams=17),
    )
    acme.tell("environmental_impact.deedster", enrichment("environmental.impact.deedster"))
    acme.tell("card.transaction.environmental_impact", enrichment("card.transaction.environmental_impact"))
    figures = acme.rows("SELECT provider, carbon_emission_in_grams FROM ems.environmental_impacts ORDER BY provider")
    assert [tuple(figure.values()) for figure in figures] == [
        ("aland_index", 17),
        ("deedster", Decimal("4120.5")),
        ("unspecified", Decimal("4120.5")),
    ]


def test_a_tpa_keeps_the_time_of_its_first_signing(acme: Acme) -> None:
    acme.tell("tpa.signed", sample("tpa.signed"))
    acme.tell("tpa.signed", sample("tpa.signed", name="Acme Group AB"))
    tpa = acme.row("SELECT name, signed_at < occurred_at AS first FROM ems.tpas")
    assert tpa == {"name": "Acme Group AB", "first": True}

"""What is fresh overtakes what is old: in whatever order deliveries are processed, the same is recorded."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.records.folds.transactions import RANKS
from tests.support.factories import card_holder, enrichment, sample, snapshot
from tests.support.processing_steps import NOON, occurred, process_in_order

if TYPE_CHECKING:
    from tests.conftest import Acme

Told = tuple[str, dict[str, Any]]

SNAPSHOTS = st.builds(
    lambda state, amount: (f"card.transaction.{state}", snapshot(state, original_amount=amount)),
    st.sampled_from(RANKS),
    st.sampled_from([100, 110]),
)
CARD_HOLDERS = st.builds(
    lambda happened: (f"card_holder.{happened}", card_holder()), st.sampled_from(["created", "identified", "deleted"])
)
LINE_ITEMS = st.builds(
    lambda words: (
        "transaction.line.items",
        enrichment("transaction.line.items", line_items=[{"description": word} for word in words]),
    ),
    st.sampled_from([[], ["old"], ["new", "newer"]]),
)
VAT = st.builds(
    lambda country: ("transaction.true.vat", enrichment("transaction.true.vat", purchase_country=country)),
    st.sampled_from(["SE", "NO"]),
)
RECEIPTS = st.builds(
    lambda merchant: ("receipt.fetched", enrichment("receipt.fetched", purchase_merchant=merchant)),
    st.sampled_from(["one", "other"]),
)
IMPACTS = st.builds(
    lambda event, grams: (event, enrichment("environmental.impact.deedster", carbon_emission_in_grams=grams)),
    st.sampled_from(["environmental.impact.deedster", "environmental_impact.deedster"]),
    st.sampled_from([1, 2]),
)
TPAS = st.builds(lambda name: ("tpa.signed", sample("tpa.signed", name=name)), st.sampled_from(["one", "other"]))
INVOICES = st.builds(
    lambda number: ("invoice.created", {**sample("invoice.created"), "invoice_number": number}),
    st.sampled_from(["1", "2"]),
)
KINDS = {
    "snapshots": SNAPSHOTS,
    "people": CARD_HOLDERS,
    "line items": LINE_ITEMS,
    "vat": VAT,
    "receipts": RECEIPTS,
    "co2": IMPACTS,
    "tpas": TPAS,
    "invoices": INVOICES,
}

TABLES = (
    "transactions",
    "transaction_states",
    "card_holders",
    "tpas",
    "receipts",
    "vat_rates",
    "vat_totals",
    "line_items",
    "environmental_impacts",
    "invoices",
)
VIEW = "transaction_states"
OF_OPENCARD = "SELECT type, payload FROM ems.events WHERE type <> 'receiver.changed'"
OF_ARRIVAL = ("delivery_id", "updated_at")


def emptied(acme: Acme) -> None:
    acme.execute("TRUNCATE receiver.stored_deliveries, receiver.bodies, receiver.queue, receiver.outcomes")
    acme.execute(f"TRUNCATE ems.events, {', '.join(f'ems.{table}' for table in TABLES if table != VIEW)}")


def recorded(acme: Acme, told: list[Told], order: list[int]) -> dict[str, list[str]]:
    """Return what is recorded of deliveries that came one a minute, processed in *order* (numbers from 1)."""
    emptied(acme)
    for number, (event, payload) in enumerate(told, start=1):
        acme.take(event, payload)
        occurred(acme, number, NOON + timedelta(minutes=number))
    process_in_order(acme, order)
    found = {
        table: [
            repr(
                {
                    name: value
                    for name, value in row.items()
                    if not (name in OF_ARRIVAL or (name, table) == ("id", VIEW))
                }
            )
            for row in acme.rows(f"SELECT * FROM ems.{table}")  # noqa: S608 - a constant
        ]
        for table in TABLES
    }
    found["events"] = [repr(row) for row in acme.rows(OF_OPENCARD)]
    assert set(acme.statuses()) <= {"processed", "duplicate"}
    return {name: sorted(rows) for name, rows in found.items()}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_the_order_of_processing_does_not_show(acme: Acme, kind: str, data: st.DataObject) -> None:
    told = data.draw(st.lists(KINDS[kind], min_size=2, max_size=5), label="told")
    in_order = list(range(1, len(told) + 1))
    order = data.draw(st.permutations(in_order), label="order")
    assert recorded(acme, told, order) == recorded(acme, told, in_order)


def test_a_retry_of_an_old_set_that_overtakes_its_original_and_the_newer_set_undoes_nothing(acme: Acme) -> None:
    old, new = (
        ("transaction.line.items", enrichment("transaction.line.items", line_items=[{"description": words}]))
        for words in ("old", "new")
    )
    recorded(acme, [old, new, old], [3, 2, 1])
    assert acme.rows("SELECT description, occurred_at FROM ems.line_items") == [
        {"description": "new", "occurred_at": NOON + timedelta(minutes=2)}
    ]
    assert acme.statuses() == ["duplicate", "processed", "processed"]

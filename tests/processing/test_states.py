"""The state of a transaction, in every order of arrival."""

from __future__ import annotations

from decimal import Decimal
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.records.folds.transactions import RANKS, STATE_TIMES
from tests.support.factories import enrichment, snapshot

if TYPE_CHECKING:
    from tests.conftest import Acme

ROW = "SELECT * FROM ems.transactions"


def test_a_cleared_purchase_bears_the_final_amounts(acme: Acme) -> None:
    acme.apply("card.transaction.authorized", snapshot("authorized"))
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    row = acme.row(ROW)
    assert row["state"] == "cleared"
    assert row["accounting_amount"] == Decimal("1249.06")
    assert row["card_issuer_reference"] == row["cleared_card_issuer_reference"] == "CLR-20260216-004410"
    assert row["authorized_at"] < row["cleared_at"]


def test_late_authorized_keeps_cleared_state(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    acme.apply("card.transaction.authorized", snapshot("authorized"))
    row = acme.row(ROW)
    assert row["state"] == "cleared"
    assert row["accounting_amount"] == Decimal("1249.06")
    assert row["cleared_at"] < row["authorized_at"]
    assert acme.statuses() == ["processed", "processed"]


def test_late_authorized_does_not_revive_a_deleted_purchase(acme: Acme) -> None:
    acme.apply("card.transaction.deleted", snapshot("deleted"))
    acme.apply("card.transaction.authorized", snapshot("authorized"))
    row = acme.row(ROW)
    assert row["state"] == "deleted"
    assert row["deleted_at"] is not None
    assert row["authorized_at"] is not None


def test_clearing_revives_a_deleted_purchase_and_keeps_the_fact(acme: Acme) -> None:
    acme.apply("card.transaction.deleted", snapshot("deleted"))
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    row = acme.row(ROW)
    assert row["state"] == "cleared"
    assert row["deleted_at"] is not None


def test_late_clearing_sets_its_reference_on_an_invoiced_one(acme: Acme) -> None:
    acme.apply("card.transaction.invoiced", snapshot("invoiced"))
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    row = acme.row(ROW)
    assert row["state"] == "invoiced"
    assert row["card_issuer_reference"] == "INV-20260228-117700"
    assert row["cleared_card_issuer_reference"] == "CLR-20260216-004410"


def test_a_newer_snapshot_of_the_same_state_replaces_the_older(acme: Acme) -> None:
    acme.apply("card.transaction.authorized", snapshot("authorized", original_amount=Decimal("100.00")))
    acme.apply("card.transaction.authorized", snapshot("authorized", original_amount=Decimal("110.00")))
    row = acme.row(ROW)
    assert row["original_amount"] == Decimal("110.00")
    assert acme.value("SELECT count(*) FROM ems.transaction_states") == 2


def test_history_and_feed_have_snapshots_of_every_rank(acme: Acme) -> None:
    for state in ("invoiced", "cleared", "authorized"):
        acme.deliver_ok(f"card.transaction.{state}", snapshot(state))
    acme.process()
    history = acme.rows("SELECT state FROM ems.transaction_states ORDER BY id")
    feed = acme.rows("SELECT type FROM ems.events ORDER BY position")
    assert [row["state"] for row in history] == ["invoiced", "cleared", "authorized"]
    assert [row["type"].rpartition(".")[2] for row in feed] == ["invoiced", "cleared", "authorized"]


@pytest.mark.parametrize("order", list(permutations(RANKS)), ids="-".join)
def test_any_order_of_the_states_ends_in_the_same_row(acme: Acme, order: tuple[str, ...]) -> None:
    for state in order:
        acme.deliver_ok(f"card.transaction.{state}", snapshot(state))
        acme.deliver_ok(f"card.transaction.{state}", snapshot(state))
    acme.process()
    row = acme.row(ROW)
    assert row["state"] == "invoiced"
    assert row["invoice_number"] == "2026-02-88"
    assert row["cleared_card_issuer_reference"] == "CLR-20260216-004410"
    assert all(row[name] is not None for name in STATE_TIMES)
    assert sorted(acme.statuses()) == ["duplicate"] * 4 + ["processed"] * 4


# --- what a higher state leaves out ----------------------------------------------------------------------------------


def test_null_in_a_higher_state_does_not_erase_what_a_lower_said(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    nothing_but = ("id", "state", "card_holder", "organization", "invoice_number", "invoice_date")
    invoiced = {name: value for name, value in snapshot("invoiced").items() if name in nothing_but}
    acme.apply("card.transaction.invoiced", {**invoiced, "purchase_merchant": None})
    row = acme.row(ROW)
    assert (row["state"], row["invoice_number"]) == ("invoiced", "2026-02-88")
    assert row["accounting_amount"] == Decimal("1249.06")
    assert row["purchase_merchant"] == snapshot("cleared")["purchase_merchant"]


def test_newer_snapshot_of_a_state_replaces_every_field(acme: Acme) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared", purchase_city="Oslo"))
    acme.apply("card.transaction.cleared", snapshot("cleared", purchase_city=None, mcc_code="1"))
    assert acme.row(ROW)["purchase_city"] is None


# --- any order --------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_order_and_repetition_gives_the_same_row(acme: Acme, data: st.DataObject) -> None:
    events = [f"card.transaction.{state}" for state in RANKS] + ["transaction.line.items", "transaction.true.vat"]
    order = data.draw(st.permutations(events + data.draw(st.lists(st.sampled_from(events), max_size=6))))
    pause = data.draw(st.integers(1, len(order)))
    transaction = data.draw(st.uuids()).hex
    for number, event in enumerate(order):
        acme.deliver_ok(event, _payload(event, transaction))
        if number % pause == 0:
            acme.process()
    acme.process()
    row = acme.row(ROW + " WHERE id = :id", id=transaction)
    assert row["state"] == "invoiced"
    assert row["accounting_amount"] == Decimal("1249.06")
    assert row["cleared_card_issuer_reference"] == "CLR-20260216-004410"
    assert acme.value("SELECT count(*) FROM ems.events WHERE transaction_id = :id", id=transaction) == len(events)
    assert acme.value("SELECT count(*) FROM ems.line_items WHERE transaction_id = :id", id=transaction) == 2
    assert acme.value("SELECT count(*) FROM ems.vat_rates WHERE transaction_id = :id", id=transaction) == 2


def _payload(event: str, transaction: str) -> dict[str, Any]:
    if event.startswith("card.transaction."):
        return snapshot(event.rpartition(".")[2], transaction=transaction)
    return enrichment(event, transaction=transaction)

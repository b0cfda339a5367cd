"""New deliveries are processed before older ones: every order of processing gives the same rows."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.factories import enrichment
from tests.support.processing_steps import NOON, occurred, process_in_order
from tests.support.stories import SENT, Sent

if TYPE_CHECKING:
    from tests.conftest import Acme

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


def recorded(acme: Acme, sent: list[Sent], order: list[int]) -> dict[str, list[str]]:
    """Return what is recorded of deliveries that came one a minute, processed in *order* (numbers from 1)."""
    emptied(acme)
    for number, (event, payload) in enumerate(sent, start=1):
        acme.deliver_ok(event, payload)
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


@pytest.mark.parametrize("kind", SENT)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_rows_do_not_depend_on_the_order_of_processing(acme: Acme, kind: str, data: st.DataObject) -> None:
    sent = data.draw(st.lists(SENT[kind], min_size=2, max_size=5), label="sent")
    in_order = list(range(1, len(sent) + 1))
    order = data.draw(st.permutations(in_order), label="order")
    assert recorded(acme, sent, order) == recorded(acme, sent, in_order)


def test_early_retry_of_an_old_set_undoes_nothing(acme: Acme) -> None:
    old, new = (
        Sent("transaction.line.items", enrichment("transaction.line.items", line_items=[{"description": words}]))
        for words in ("old", "new")
    )
    recorded(acme, [old, new, old], [3, 2, 1])
    assert acme.rows("SELECT description, occurred_at FROM ems.line_items") == [
        {"description": "new", "occurred_at": NOON + timedelta(minutes=2)}
    ]
    assert acme.statuses() == ["duplicate", "processed", "processed"]

"""Deliveries that were not applied are found by what is in their bodies."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from receiver.ops.purchases import PurchaseFilter, held_deliveries
from receiver.ops.purchases.held import may_be
from tests.support.factories import enrichment, snapshot
from tests.support.replay_steps import ids

if TYPE_CHECKING:
    from receiver.ops.purchases import HeldDeliveries
    from tests.conftest import Acme, Organizations

TICKET: dict[str, Any] = {
    "merchant": "café müller",
    "amount": Decimal("245.50"),
    "first_day": date(2026, 10, 12),
    "last_day": date(2026, 10, 12),
}
CLEARED = "card.transaction.cleared"


def payload(**changes: object) -> dict[str, Any]:
    of_ticket = {"purchase_date": "2026-10-12", "original_amount": Decimal("245.50"), "accounting_amount": "much"}
    return {**snapshot("cleared"), **of_ticket, **changes}


def held(acme: Acme, *, most: int = 200, **wanted: Any) -> HeldDeliveries:
    with acme.engine.connect() as connection:
        return held_deliveries(connection, PurchaseFilter(organizations=("acme",), **wanted), most=most)


def test_dead_delivery_of_the_ticket_is_found(acme: Acme) -> None:
    acme.apply(CLEARED, payload())
    acme.apply(CLEARED, payload(purchase_merchant="Kiosk", purchase_merchant_common=None))
    first, _ = ids(acme)
    found = held(acme, **TICKET)
    assert [each.id for each in found.matching] == [first]
    assert (found.compared, found.unreadable, found.more) == (2, 0, False)


def test_applied_deliveries_are_not_compared(acme: Acme) -> None:
    acme.apply(CLEARED, payload(accounting_amount=Decimal("1249.06")))
    assert held(acme, **TICKET).compared == 0


def test_backlog_is_compared(acme: Acme) -> None:
    acme.deliver_ok(CLEARED, payload(accounting_amount=Decimal("1249.06")))
    assert [each.status for each in held(acme, **TICKET).matching] == ["pending"]


def test_quarantined_delivery_counts_by_its_payload(organizations: Organizations) -> None:
    acme, globex = organizations.adopt("acme"), organizations.adopt("globex")
    globex.apply(CLEARED, payload(accounting_amount=Decimal("1249.06")))
    globex.apply(CLEARED, payload(organization={"reference_id": "other"}))
    found = held(acme, **TICKET)
    assert [(each.id, each.status) for each in found.matching] == [(ids(globex)[0], "quarantined")]


def test_bodies_that_cannot_be_read_are_counted(acme: Acme) -> None:
    acme.apply(CLEARED, b"no json")
    acme.apply(CLEARED, payload())
    acme.execute("DELETE FROM receiver.bodies WHERE delivery_id = :id", id=ids(acme)[1])
    assert (held(acme, **TICKET).matching, held(acme, **TICKET).unreadable) == ((), 2)


def test_older_ones_are_said_to_be_there(acme: Acme) -> None:
    for number in range(3):
        acme.deliver_ok(CLEARED, payload(id=f"t{number}"))
    acme.process()
    found = held(acme, most=2, **TICKET)
    assert [each.id for each in found.matching] == ids(acme)[:0:-1]
    assert found.more


@pytest.mark.parametrize(
    ("wanted", "changes", "expected"),
    [
        (TICKET, {}, True),
        (TICKET, {"purchase_merchant": None, "purchase_merchant_common": None}, True),
        (TICKET, {"purchase_date": "12 October"}, True),
        (TICKET, {"purchase_date": "2026-10-13"}, False),
        (TICKET, {"original_amount": "245.50"}, True),
        (TICKET, {"original_amount": Decimal(1), "accounting_amount": Decimal(2)}, False),
        (TICKET, {"original_amount": Decimal(1), "accounting_amount": Decimal("-245.5")}, True),
        ({"amount": Decimal("245.50")}, {"original_amount": None}, False),
        ({"amount": Decimal(246), "tolerance": Decimal("0.5")}, {}, True),
        ({"amount": Decimal("245.50"), "currency": "SEK"}, {}, False),
        ({"transaction_id": "transaction-1"}, {}, True),
        ({"transaction_id": "transaction-2"}, {}, False),
        ({"card_holder_reference_id": "employee-17"}, {}, True),
        ({"card_holder_reference_id": "employee-17"}, {"card_holder": "employee-17"}, False),
        ({"last_four": "4242"}, {}, True),
        ({"invoice_number": "inv-7"}, {}, False),
    ],
)
def test_payload_may_be_what_nothing_contradicts(
    wanted: dict[str, Any], changes: dict[str, object], *, expected: bool
) -> None:
    assert may_be(PurchaseFilter(**wanted), payload(**changes)) is expected


def test_enrichment_is_found_by_its_transaction() -> None:
    assert may_be(PurchaseFilter(transaction_id="t9"), enrichment("receipt.fetched", transaction="t9"))

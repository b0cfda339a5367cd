"""The issuer's invoices compared with what was booked for them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from receiver.ops.invoices import find_different_invoices, read_different_invoices
from tests.support.factories import sample, snapshot

if TYPE_CHECKING:
    from tests.conftest import Acme

CONTROL = "SELECT * FROM ems.invoice_control"


@pytest.fixture
def invoiced(acme: Acme) -> Acme:
    """Two invoiced transactions of the invoice F-1, one of another, and one that is only cleared."""
    for transaction, number, amount in (("one", "F-1", "10.00"), ("two", "F-1", "-2.50"), ("three", "F-2", "7.00")):
        changes: dict[str, Any] = {"invoice_number": number, "accounting_amount": Decimal(amount)}
        acme.deliver_ok("card.transaction.invoiced", snapshot("invoiced", transaction=transaction, **changes))
    acme.deliver_ok("card.transaction.cleared", snapshot("cleared", transaction="four"))
    acme.process()
    return acme


def invoice(acme: Acme, **changes: Any) -> dict[str, Any]:
    invoice = {"invoice_number": "F-1", "no_of_transactions": 2, "invoice_amount": Decimal("7.50")}
    acme.apply("invoice.created", sample("invoice.created", **{**invoice, "invoice_currency": "SEK", **changes}))
    return acme.row(CONTROL)


def test_invoice_that_agrees(invoiced: Acme) -> None:
    row = invoice(invoiced)
    assert (row["booked_transactions"], row["booked_amount"], row["difference"]) == (2, Decimal("7.50"), 0)
    assert row["agrees"] is True


def test_an_invoice_that_differs_needs_attention_after_a_day(invoiced: Acme) -> None:
    def found() -> list[str]:
        return [each.text for each in find_different_invoices(read_different_invoices(invoiced.rows))]

    invoice(invoiced, invoice_amount=Decimal("8.00"), no_of_transactions=3)
    assert found() == []
    invoiced.execute("UPDATE ems.invoices SET occurred_at = occurred_at - interval '25 hours'")
    (said,) = found()
    assert said == (
        "invoice F-1 (acme) does not agree with the ledger: it names 3 transactions, 2 are booked, "
        "the difference is 0.50 SEK; see ems.invoice_control"
    )
    invoiced.execute("UPDATE ems.invoices SET occurred_at = occurred_at - interval '62 days'")
    assert found() == []


def test_an_invoice_without_an_amount_says_so(invoiced: Acme) -> None:
    invoice(invoiced, invoice_amount=None)
    invoiced.execute("UPDATE ems.invoices SET occurred_at = occurred_at - interval '25 hours'")
    (found,) = find_different_invoices(read_different_invoices(invoiced.rows))
    assert "2 are booked, the invoice has no amount; see" in found.text


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"no_of_transactions": 3}, "0.00"),
        ({"invoice_amount": Decimal("8.00")}, "0.50"),
        ({"invoice_currency": "EUR"}, "7.50"),
        ({"invoice_number": "F-9"}, "7.50"),
        ({"invoice_amount": None}, None),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)
def test_invoice_that_differs(invoiced: Acme, changes: dict[str, Any], difference: str | None) -> None:
    row = invoice(invoiced, **changes)
    assert (row["agrees"], row["difference"]) == (False, difference and Decimal(difference))

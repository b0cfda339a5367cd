"""The issuer's invoices that do not agree with what is booked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from receiver.ops.findings import Finding, FindingKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from decimal import Decimal

    from receiver.ops.retention.record import Query

MAX_INVOICES: Final = 100
"""How many invoices are read, the newest."""

# an invoice may come before the last of its transactions; after two months it has had attention, or never will
_DIFFERENT: Final = f"""
SELECT control.organization_reference_id, control.invoice_id, control.invoice_number, control.no_of_transactions,
    control.booked_transactions, control.difference, control.invoice_currency
FROM ems.invoices AS invoice JOIN ems.invoice_control AS control
    ON control.organization_reference_id = invoice.organization_reference_id AND control.invoice_id = invoice.id
WHERE invoice.occurred_at BETWEEN now() - interval '62 days' AND now() - interval '1 day' AND NOT control.agrees
ORDER BY invoice.occurred_at DESC, invoice.id LIMIT {MAX_INVOICES}
"""  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True)
class DifferentInvoice:
    """An invoice of the last two months, a day old at least, that differs from its transactions."""

    organization_reference_id: str
    invoice_id: str
    invoice_number: str | None
    no_of_transactions: int | None
    """As the invoice says."""
    booked_transactions: int
    difference: Decimal | None
    """The invoice's amount less what is booked, in major units; ``None`` if it has no amount."""
    invoice_currency: str | None


def read_different_invoices(query: Query) -> tuple[DifferentInvoice, ...]:
    """Read which invoices differ."""
    return tuple(DifferentInvoice(**row) for row in query(_DIFFERENT))


def find_different_invoices(invoices: Sequence[DifferentInvoice]) -> Iterable[Finding]:
    """Yield which invoices differ, and by how much."""
    for each in invoices:
        name = each.invoice_number or f"with OpenCard's id {each.invoice_id}"
        named = "an unknown number of" if each.no_of_transactions is None else each.no_of_transactions
        if each.difference is None:
            amount = "the invoice has no amount"
        else:
            amount = f"the difference is {each.difference} {each.invoice_currency or ''}".strip()
        text = (
            f"invoice {name} ({each.organization_reference_id}) does not agree with the ledger: it names {named} "
            f"transactions, {each.booked_transactions} are booked, {amount}; see ems.invoice_control"
        )
        subject = f"invoice {each.invoice_id}"
        yield Finding(FindingKind.INVOICE, text, subject, each.organization_reference_id)

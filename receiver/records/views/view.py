"""A view, with the meaning of the whole and of each column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from receiver.db import EMS

if TYPE_CHECKING:
    from collections.abc import Mapping

ORGANIZATION: Final = "The EMS's own id of the organization (source: organization.reference_id)"
TRANSACTION: Final = "OpenCard's id of the transaction (ems.transactions.id)"
CARD_HOLDER: Final = "The EMS's own id of the card holder (source: card_holder.reference_id)"
DAY: Final = "Day of the purchase in the zone purchase_timezone; null when not sent"
BOOKED: Final = (
    "Day on which the purchase is booked: purchase_date, in its own zone; if none was reported, the day (UTC) on which "
    "it was first reported as cleared, else as invoiced; never null"
)
CLOCK: Final = "Time of day in the zone purchase_timezone; null when not sent"
MERCHANT: Final = "Merchant's normalized name, else the card network's; null when neither was sent"
UPDATED: Final = (
    "When the purchase's row last changed in this database, in UTC; VAT, receipts and items that arrive later do not "
    "change it"
)

PAYMENT_PRODUCT_ID: Final = "OpenCard's id of the payment product that the card belongs to; null when not reported"
PAYMENT_PRODUCT_NAME: Final = "Name of the payment product; null when not reported"
CARD_FUNDING: Final = "debit or credit, as sent; null when not reported"


@dataclass(frozen=True, slots=True)
class View:
    """A view of schema ``ems``."""

    name: str
    query: str
    comment: str
    columns: Mapping[str, str]
    """Column → its meaning, unit or zone, and when it is null; in the view's order."""

    def definition(self, name: str | None = None) -> str:
        """Return the statement that makes the view; *name*: under another name."""
        return f"CREATE OR REPLACE VIEW {EMS}.{name or self.name} AS{self.query}"

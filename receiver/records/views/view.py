"""A view, with the meaning of the whole and of each column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from receiver.db import EMS
from receiver.records.models.columns import CREDIT, ISO_COUNTRY, ISO_CURRENCY

if TYPE_CHECKING:
    from collections.abc import Mapping

ORGANIZATION: Final = "The EMS's own id of the organization (source: organization.reference_id)"
TRANSACTION: Final = "OpenCard's id of the transaction (ems.transactions.id)"
CARD_HOLDER: Final = (
    "The EMS's own id of the card holder (source: card_holder.reference_id); a pseudonym (erased-...) once the card "
    "holder is erased"
)
DAY: Final = (
    "Day of the purchase in the zone purchase_timezone (unknown where that is null); null when no state reports it"
)
BOOKED: Final = (
    "Accounting date: the day of the purchase (purchase_date), in its own zone, not the issuer's booking or posting "
    "date; if none was reported, the day (UTC) on which it was first reported as cleared, else as invoiced; never null"
)
CLOCK: Final = "Time of day in the zone purchase_timezone (unknown where that is null); null when no state reports it"
TIMEZONE: Final = "Time zone of purchase_date and purchase_time; null when no state reports it"
MERCHANT: Final = "Merchant's normalized name, else the card network's; null when no state reports one"
UPDATED: Final = (
    "When the transaction's row last changed in this database; VAT, receipts and items that arrive later do not change "
    "it"
)
ORIGINAL_AMOUNT: Final = (
    f"Amount in the currency of the purchase, in major units, VAT included; {CREDIT}; from the highest state that "
    "reports it, so possibly from the authorization; null when no state reports it"
)
ORIGINAL_CURRENCY: Final = f"Currency of the purchase, {ISO_CURRENCY}; null when no state reports it"
ACCOUNTING_AMOUNT: Final = (
    f"Amount in accounting_currency, in major units, VAT included; {CREDIT}; from the highest state that reports it, "
    "so possibly from the authorization; null when no state reports it"
)
ACCOUNTING_CURRENCY: Final = (
    f"Currency of accounting_amount: the customer's home currency, {ISO_CURRENCY}; an organization may have several; "
    "null when no state reports it"
)
EXCHANGE_RATE: Final = (
    "Rate between original and accounting amount, as sent; its direction is not documented by OpenCard; from the "
    "highest state that reports it; null when no state reports it"
)
COUNTRY: Final = f"Country, {ISO_COUNTRY}; null when no state reports it"
ERASED: Final = "null when no state reports it, or once the card holder is erased"
CARD_ID: Final = (
    "OpenCard's id of the card; whether it is unique across issuers, and stays the same when a card is renewed, is not "
    f"documented; {ERASED}"
)
LAST_FOUR: Final = f"Last four digits of the card number (personal), not unique; {ERASED}"

PAYMENT_PRODUCT_ID: Final = f"OpenCard's id of the payment product that the card belongs to; {ERASED}"
PAYMENT_PRODUCT_NAME: Final = f"Name of the payment product; {ERASED}"
CARD_FUNDING: Final = f"debit or credit, as sent; {ERASED}"


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

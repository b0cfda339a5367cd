"""The types of OpenCard's payloads. Unknown fields are no error: they are stored with the event.

Amounts are JSON numbers and become ``Decimal`` with the digits as sent; a text instead is an error
that an operator must see. Fields that may be null may also be missing. Lengths are bounded where a column is indexed.
Source: the provider's event pages.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cache
from typing import Annotated, Final, Literal

import msgspec

from receiver.events.content import LONGEST_ID

Reference = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_ID)]
IssuerReference = Annotated[str, msgspec.Meta(max_length=500)]
Url = Annotated[str, msgspec.Meta(min_length=1)]
WholeNumber = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Number = Decimal | WholeNumber
Clock = Annotated[time, msgspec.Meta(tz=False)]
EARLIEST: Final = datetime(1, 1, 3, tzinfo=UTC)
LATEST: Final = datetime(9999, 12, 29, tzinfo=UTC)
"""Between these, a moment can be read in every time zone."""


def _check_length(name: str, number: str | int) -> None:
    """Raise ``ValueError``, which msgspec reports with the field, for a number that is too long for a key."""
    if isinstance(number, int) and abs(number) >= 10**LONGEST_ID:
        raise ValueError(f"{name} has more than {LONGEST_ID} digits")


class Owner(msgspec.Struct, frozen=True):
    """The EMS's own id of an organization or a card holder, sent as a text or as a whole number."""

    sent: Reference | int = msgspec.field(name="reference_id")

    def __post_init__(self) -> None:
        _check_length("reference_id", self.sent)

    @property
    def reference_id(self) -> str:
        """The id as text."""
        return str(self.sent)


class Payload(msgspec.Struct, frozen=True):
    """Base of all payloads; no field is common to all."""


class CardHolderPayload(Payload, frozen=True):
    """``card_holder.*``."""

    card_holder: Owner
    organization: Owner


class TpaPayload(Payload, frozen=True):
    """``tpa.signed``."""

    id: Reference
    organization: Owner
    name: str | None = None
    organization_number: str | None = None
    url: str | None = None


class TransactionPayload(Payload, frozen=True):
    """``card.transaction.*``: a snapshot of the transaction in one state."""

    id: Reference
    state: Literal["authorized", "deleted", "cleared", "invoiced"]
    card_holder: Owner
    organization: Owner
    receiptable: bool | None = None
    card_issuer: str | None = None
    card_issuer_reference: IssuerReference | None = None
    card_issuer_customer_number: str | None = None
    type: str | None = None
    invoice_number: str | None = None
    invoice_date: date | None = None
    original_amount: Number | None = None
    original_currency: str | None = None
    vat_rate: Number | None = None
    vat_amount: Number | None = None
    vat_currency: str | None = None
    accounting_amount: Number | None = None
    accounting_currency: str | None = None
    exchange_rate: Number | None = None
    purchase_merchant: str | None = None
    purchase_merchant_common: str | None = None
    purchase_date: date | None = None
    purchase_time: Clock | None = None
    purchase_timezone: str | None = None
    purchase_country: str | None = None
    purchase_city: str | None = None
    card_id: WholeNumber | None = None
    card_product: str | None = None
    card_type: str | None = None
    card_last_four: str | None = None
    mcc_code: str | None = None
    mcc_text: str | None = None
    mcc_top_level: str | None = None
    branch_code: str | None = None
    branch_text: str | None = None
    category_text: str | None = None


class AuthorizedPayload(TransactionPayload, frozen=True):
    """``card.transaction.authorized``."""

    state: Literal["authorized"]


class ClearedPayload(TransactionPayload, frozen=True):
    """``card.transaction.cleared``."""

    state: Literal["cleared"]


class DeletedPayload(TransactionPayload, frozen=True):
    """``card.transaction.deleted``."""

    state: Literal["deleted"]


class InvoicedPayload(TransactionPayload, frozen=True):
    """``card.transaction.invoiced``."""

    state: Literal["invoiced"]


class TransactionLink(msgspec.Struct, frozen=True):
    """The transaction that an enrichment belongs to."""

    id: Reference
    card_issuer: str | None = None


class EnrichmentPayload(Payload, frozen=True):
    """The fields that every enrichment of a transaction has."""

    transaction: TransactionLink
    card_holder: Owner
    organization: Owner


class ReceiptPayload(EnrichmentPayload, frozen=True):
    """``receipt.fetched``."""

    url: Url
    content_type: str | None = None
    expiration_time: datetime | None = None
    purchase_merchant: str | None = None
    original_amount: Number | None = None
    original_currency: str | None = None
    purchase_date: date | None = None
    purchase_time: Clock | None = None

    def expires_at(self) -> datetime | None:
        """Return until when the URL works, in UTC; a time without a zone is taken as UTC.

        A time at either end of the calendar, which overflows in some time zones, becomes ``EARLIEST`` or ``LATEST``.
        """
        moment = self.expiration_time
        if moment is None:
            return None
        aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return max(EARLIEST, min(LATEST, aware)).astimezone(UTC)  # PostgreSQL refuses offsets of 16 hours and more


class VatTotalLine(msgspec.Struct, frozen=True):
    """One of ``totals[]``."""

    vat_amount: Number | None = None
    taxable_amount: Number | None = None
    total_amount: Number | None = None
    currency: str | None = None


class VatRateLine(VatTotalLine, frozen=True):
    """One of ``vat_rates[]``."""

    percentage: Number | None = None


class VatPayload(EnrichmentPayload, frozen=True):
    """``transaction.true.vat``."""

    purchase_country: str | None = None
    vat_rates: list[VatRateLine] | None = None
    totals: list[VatTotalLine] | None = None


class ItemLine(msgspec.Struct, frozen=True):
    """One of ``line_items[]``."""

    description: str | None = None
    amount: Number | None = None
    total_amount: Number | None = None
    quantity: Number | None = None
    currency: str | None = None


class LineItemsPayload(EnrichmentPayload, frozen=True):
    """``transaction.line.items``."""

    line_items: list[ItemLine] | None = None


class EnvironmentalImpactPayload(EnrichmentPayload, frozen=True):
    """``environmental.impact.*``."""

    carbon_emission_in_grams: Number | None = None
    carbon_social_cost_amount: Number | None = None
    carbon_social_cost_currency: str | None = None


class InvoicePayload(Payload, frozen=True):
    """``invoice.created``: announced by OpenCard, not sent yet; it names no organization of the EMS."""

    id: Reference | int

    def __post_init__(self) -> None:
        _check_length("id", self.id)

    organization_number: str | None = None
    invoice_number: str | None = None
    no_of_transactions: WholeNumber | None = None
    invoice_amount: Number | None = None
    invoice_currency: str | None = None
    invoice_date: date | None = None
    due_date: date | None = None


OWN_FIELDS: Final[dict[type[Payload], tuple[str, ...]]] = {
    TpaPayload: ("url", "name", "organization_number"),
    VatPayload: ("vat_rates", "totals"),
    LineItemsPayload: ("line_items",),
    EnvironmentalImpactPayload: ("carbon_emission_in_grams", "carbon_social_cost_amount"),
    InvoicePayload: ("invoice_amount", "no_of_transactions", "due_date"),
}
"""A payload has at least one of these fields, possibly null; without any, it belongs to another event."""
ENRICHMENTS_OWN: Final = frozenset(
    {"url", *(name for kind, names in OWN_FIELDS.items() if issubclass(kind, EnrichmentPayload) for name in names)}
)
"""Every enrichment has one of these."""
ABOUT_PURCHASES: Final = (
    frozenset({"state", "id", "original_amount"}),
    *(frozenset({"transaction", name}) for name in ENRICHMENTS_OWN),
)
"""Sets of fields: a payload with all fields of one set is about a purchase, not about a card holder."""


@cache
def descriptive(payload_type: type[Payload]) -> frozenset[str]:
    """Return the descriptive fields. One that cannot be read becomes null, so that the amounts still reach the ledger.

    They may be null, and are neither amounts nor currencies nor the content of an enrichment.
    """
    return frozenset(
        field.name
        for field in msgspec.structs.fields(payload_type)
        if not (field.required or field.name in ENRICHMENTS_OWN or field.name.endswith(("_amount", "_currency")))
    )

"""What is known of a purchase besides the card network's data: receipt, VAT, items, CO2, and the issuer's invoices.

No foreign keys to ``transactions``: an enrichment may arrive before its transaction.
"""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal

from sqlalchemy import Integer
from sqlalchemy.orm import Mapped, mapped_column

from receiver.db import EMS, Base
from receiver.records.models import columns as c

ISSUER = "Issuer of the card (source: transaction.card_issuer); null when not reported"
VAT_SIGN = "sign as sent, which may be positive for a refund (ledger and ledger_vat correct it)"
ITEM_SIGN = "whether VAT is included, and the sign of discounts and refunds, are not documented by OpenCard"
LINE = "Position in the merchant's list, from 1; the order as sent"


def _line_number() -> Mapped[int]:
    return mapped_column(Integer, primary_key=True, autoincrement=False, comment=LINE)


class _OfPurchase:
    """What every row about a purchase has: whose it is, and which delivery it comes from."""

    organization_reference_id: Mapped[str] = c.key(c.ORGANIZATION, place=-2)
    transaction_id: Mapped[str] = c.key(c.TRANSACTION, place=-1)
    card_holder_reference_id: Mapped[str] = c.column(
        f"{c.CARD_HOLDER}, as in this event; ems.transactions has that of the transaction"
    )
    card_issuer: Mapped[str | None] = c.column(ISSUER)
    delivery_id: Mapped[int] = c.whole_number(c.DELIVERY)


class Receipt(_OfPurchase, Base):
    """A digital receipt matched to a purchase."""

    __tablename__ = "receipts"
    __table_args__ = (
        {
            "schema": EMS,
            "comment": "Digital receipts matched to transactions, and the stored file of each once downloaded. A "
            "transaction may have several: one with another url replaces none. A receipt may arrive before its "
            "transaction.",
        },
    )

    url: Mapped[str] = c.column("Address of the file at OpenCard; expires (source: url)")
    content_type: Mapped[str | None] = c.column("Media type of the file; null when not reported")
    expiration_time: Mapped[datetime | None] = c.column(
        "Expiry time of url (OpenCard sends no zone; read as UTC); null when not reported"
    )
    purchase_merchant: Mapped[str | None] = c.column("Merchant on the receipt; null when not reported")
    original_amount: Mapped[Decimal | None] = c.column(
        "Amount on the receipt, in major units of original_currency; whether VAT is included, and the sign of a "
        "refund, are not documented by OpenCard; null when not reported"
    )
    original_currency: Mapped[str | None] = c.column(
        f"Currency of original_amount, {c.ISO_CURRENCY}; null when not reported"
    )
    purchase_date: Mapped[date | None] = c.column("Day on the receipt, in the zone of the shop; null when not reported")
    purchase_time: Mapped[time | None] = c.column(
        "Time of day on the receipt, in the zone of the shop; null when not reported"
    )
    fetched_at: Mapped[datetime] = c.column(c.RECEIPT_LEARNED)
    file_key: Mapped[str | None] = c.column("Name of the stored file; null until downloaded")
    file_size: Mapped[int | None] = c.whole_number("Size of the stored file in bytes; null until downloaded")
    file_sha256: Mapped[str | None] = c.column("SHA-256 of the stored file, hexadecimal; null until downloaded")
    downloaded_at: Mapped[datetime | None] = c.column("When the file was stored; null until downloaded")
    download_error: Mapped[str | None] = c.column(
        "Why the last attempt to download failed; null if none failed, and once the file is stored"
    )
    updated_at: Mapped[datetime] = c.column(c.UPDATED)
    url_sha256: Mapped[bytes] = c.url_hash("SHA-256 of url (UTF-8), which may be longer than a key can be")


class VatRate(_OfPurchase, Base):
    """VAT of one rate on the merchant's receipt."""

    __tablename__ = "vat_rates"
    __table_args__ = (
        {
            "schema": EMS,
            "comment": "VAT by rate from the merchant's receipt; a newer event replaces all rows of a transaction. May "
            "arrive before the transaction.",
        },
    )

    line_number: Mapped[int] = _line_number()
    vat_amount: Mapped[Decimal | None] = c.column(
        f"VAT of this rate, in major units of currency (source: vat_rates[].vat_amount); {VAT_SIGN}; null when not "
        "reported"
    )
    taxable_amount: Mapped[Decimal | None] = c.column(
        f"Amount without VAT, in major units of currency; {VAT_SIGN}; null when not reported"
    )
    total_amount: Mapped[Decimal | None] = c.column(
        f"Amount with VAT, in major units of currency; {VAT_SIGN}; null when not reported"
    )
    percentage: Mapped[Decimal | None] = c.column("The rate in percent (25 means 25 %); null when not reported")
    currency: Mapped[str | None] = c.column(f"Currency of the amounts, {c.ISO_CURRENCY}; null when not reported")
    purchase_country: Mapped[str | None] = c.column(f"Country of the purchase, {c.ISO_COUNTRY}; null when not reported")
    occurred_at: Mapped[datetime] = c.column(c.LEARNED)


class VatTotal(_OfPurchase, Base):
    """VAT in total on the merchant's receipt."""

    __tablename__ = "vat_totals"
    __table_args__ = (
        {
            "schema": EMS,
            "comment": "Total VAT from the merchant's receipt, usually one row for each currency; a newer event "
            "replaces all rows of a transaction. May arrive before the transaction.",
        },
    )

    line_number: Mapped[int] = _line_number()
    vat_amount: Mapped[Decimal | None] = c.column(
        f"VAT in total, in major units of currency (source: totals[].vat_amount); {VAT_SIGN}; null when not reported"
    )
    taxable_amount: Mapped[Decimal | None] = c.column(
        f"Amount without VAT, in major units of currency; {VAT_SIGN}; null when not reported"
    )
    total_amount: Mapped[Decimal | None] = c.column(
        f"Amount with VAT, in major units of currency; {VAT_SIGN}; null when not reported"
    )
    currency: Mapped[str | None] = c.column(f"Currency of the amounts, {c.ISO_CURRENCY}; null when not reported")
    purchase_country: Mapped[str | None] = c.column(f"Country of the purchase, {c.ISO_COUNTRY}; null when not reported")
    occurred_at: Mapped[datetime] = c.column(c.LEARNED)


class LineItem(_OfPurchase, Base):
    """An item bought."""

    __tablename__ = "line_items"
    __table_args__ = (
        {
            "schema": EMS,
            "comment": "Items bought; a newer event replaces all items of a transaction. May arrive before the "
            "transaction.",
        },
    )

    line_number: Mapped[int] = _line_number()
    description: Mapped[str | None] = c.column("What was bought; null when not reported")
    amount: Mapped[Decimal | None] = c.column(
        "Price of one unit, in major units of currency; for weighed goods the price of the whole line, as "
        f"total_amount; {ITEM_SIGN}; null when not reported"
    )
    total_amount: Mapped[Decimal | None] = c.column(
        f"Price of the line, in major units of currency; {ITEM_SIGN}; null when not reported"
    )
    quantity: Mapped[Decimal | None] = c.column(
        "How many, or how much: may be a fraction (0.195 of a weighed good); null when not reported"
    )
    currency: Mapped[str | None] = c.column(f"Currency of the amounts, {c.ISO_CURRENCY}; null when not reported")
    occurred_at: Mapped[datetime] = c.column(c.LEARNED)


class EnvironmentalImpact(_OfPurchase, Base):
    """The CO2 of a purchase as one provider reckons it."""

    __tablename__ = "environmental_impacts"
    __table_args__ = ({"schema": EMS, "comment": "CO2 of transactions, one row for each provider of the figure."},)

    provider: Mapped[str] = c.key("aland_index, deedster, or unspecified if the event names none")
    carbon_emission_in_grams: Mapped[Decimal | None] = c.column("Emission in grams of CO2; null when not reported")
    carbon_social_cost_amount: Mapped[Decimal | None] = c.column(
        "Social cost of the emission, in major units of carbon_social_cost_currency; null when not reported"
    )
    carbon_social_cost_currency: Mapped[str | None] = c.column(
        f"Currency of the cost, {c.ISO_CURRENCY}; null when not reported"
    )
    occurred_at: Mapped[datetime] = c.column(c.LEARNED)
    updated_at: Mapped[datetime] = c.column(c.UPDATED)


class Invoice(Base):
    """An invoice of the card issuer."""

    __tablename__ = "invoices"
    __table_args__ = (
        {
            "schema": EMS,
            "comment": "Invoices of the card issuer (OpenCard has announced their event and does not send it yet).",
        },
    )

    organization_reference_id: Mapped[str] = c.key(
        "The EMS's own id of the organization (source: the webhook that brought it)"
    )
    id: Mapped[str] = c.key("OpenCard's id of the invoice")
    organization_number: Mapped[str | None] = c.column("Company registration number; null when not reported")
    invoice_number: Mapped[str | None] = c.column(
        "Number of the invoice; whether it is unique across issuers is not documented; null when not reported"
    )
    no_of_transactions: Mapped[int | None] = c.whole_number("How many transactions it bills; null when not reported")
    invoice_amount: Mapped[Decimal | None] = c.column(
        "Amount of the invoice, in major units of invoice_currency; whether it includes fees and payments, and the "
        "sign of a credit note, are not documented by OpenCard; null when not reported"
    )
    invoice_currency: Mapped[str | None] = c.column(
        f"Currency of the invoice, {c.ISO_CURRENCY}; null when not reported"
    )
    invoice_date: Mapped[date | None] = c.column("Date of the invoice, a day without a zone; null when not reported")
    due_date: Mapped[date | None] = c.column(
        "Date by which it is to be paid, a day without a zone; null when not reported"
    )
    occurred_at: Mapped[datetime] = c.column(c.LEARNED)
    delivery_id: Mapped[int] = c.whole_number(c.DELIVERY)
    updated_at: Mapped[datetime] = c.column(c.UPDATED)

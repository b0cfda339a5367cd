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

ISSUER = "Issuer of the card (source: transaction.card_issuer); null when not sent"
LINE = "Position in the merchant's list, from 1; the order as sent"


def _line_number() -> Mapped[int]:
    return mapped_column(Integer, primary_key=True, autoincrement=False, comment=LINE)


class _OfPurchase:
    """What every row about a purchase has: whose it is, and which delivery it comes from."""

    organization_reference_id: Mapped[str] = c.key(c.ORGANIZATION, place=-2)
    transaction_id: Mapped[str] = c.key(c.TRANSACTION, place=-1)
    card_holder_reference_id: Mapped[str] = c.column(c.CARD_HOLDER)
    card_issuer: Mapped[str | None] = c.column(ISSUER)
    delivery_id: Mapped[int] = c.whole_number(c.DELIVERY)


class Receipt(_OfPurchase, Base):
    """A digital receipt matched to a purchase."""

    __tablename__ = "receipts"
    __table_args__ = (
        {
            "schema": EMS,
            "comment": "Digital receipts matched to purchases, and the stored file of each once downloaded. A "
            "purchase may have several, and a receipt may arrive before its purchase.",
        },
    )

    url: Mapped[str] = c.column("Address of the file at OpenCard; expires (source: url)")
    content_type: Mapped[str | None] = c.column("Media type of the file; null when not sent")
    expiration_time: Mapped[datetime | None] = c.column(
        "Until when url works, in UTC (OpenCard sends no zone; read as UTC); null when not sent"
    )
    purchase_merchant: Mapped[str | None] = c.column("Merchant on the receipt; null when not sent")
    original_amount: Mapped[Decimal | None] = c.column("Amount on the receipt, in major units; null when not sent")
    original_currency: Mapped[str | None] = c.column("Currency of original_amount (ISO 4217); null when not sent")
    purchase_date: Mapped[date | None] = c.column("Day on the receipt, in the zone of the shop; null when not sent")
    purchase_time: Mapped[time | None] = c.column(
        "Time of day on the receipt, in the zone of the shop; null when not sent"
    )
    fetched_at: Mapped[datetime] = c.column(
        "When OpenCard first tried to send the receipt's event: its arrival, "
        "or an earlier attempt in the delivery log; in UTC"
    )
    file_key: Mapped[str | None] = c.column("Name of the stored file; null until downloaded")
    file_size: Mapped[int | None] = c.whole_number("Size of the stored file in bytes; null until downloaded")
    file_sha256: Mapped[str | None] = c.column("SHA-256 of the stored file, hexadecimal; null until downloaded")
    downloaded_at: Mapped[datetime | None] = c.column("When the file was stored, in UTC; null until downloaded")
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
            "comment": "VAT by rate from the merchant's receipt; a newer event replaces all rows of a purchase. May "
            "arrive before the purchase.",
        },
    )

    line_number: Mapped[int] = _line_number()
    vat_amount: Mapped[Decimal | None] = c.column(
        "VAT of this rate, in major units of currency (source: vat_rates[].vat_amount); null when not sent"
    )
    taxable_amount: Mapped[Decimal | None] = c.column(
        "Amount without VAT, in major units of currency; null when not sent"
    )
    total_amount: Mapped[Decimal | None] = c.column("Amount with VAT, in major units of currency; null when not sent")
    percentage: Mapped[Decimal | None] = c.column("The rate in percent (25 means 25 %); null when not sent")
    currency: Mapped[str | None] = c.column("Currency of the amounts (ISO 4217); null when not sent")
    purchase_country: Mapped[str | None] = c.column("Country of the purchase (ISO 3166 alpha-2); null when not sent")
    occurred_at: Mapped[datetime] = c.column(c.LEARNED)


class VatTotal(_OfPurchase, Base):
    """VAT in total on the merchant's receipt."""

    __tablename__ = "vat_totals"
    __table_args__ = (
        {
            "schema": EMS,
            "comment": "Total VAT from the merchant's receipt, usually one row for each currency; a newer event "
            "replaces all rows of a purchase. May arrive before the purchase.",
        },
    )

    line_number: Mapped[int] = _line_number()
    vat_amount: Mapped[Decimal | None] = c.column(
        "VAT in total, in major units of currency (source: totals[].vat_amount); null when not sent"
    )
    taxable_amount: Mapped[Decimal | None] = c.column(
        "Amount without VAT, in major units of currency; null when not sent"
    )
    total_amount: Mapped[Decimal | None] = c.column("Amount with VAT, in major units of currency; null when not sent")
    currency: Mapped[str | None] = c.column("Currency of the amounts (ISO 4217); null when not sent")
    purchase_country: Mapped[str | None] = c.column("Country of the purchase (ISO 3166 alpha-2); null when not sent")
    occurred_at: Mapped[datetime] = c.column(c.LEARNED)


class LineItem(_OfPurchase, Base):
    """An item bought."""

    __tablename__ = "line_items"
    __table_args__ = (
        {
            "schema": EMS,
            "comment": "Items of purchases; a newer event replaces all items of a purchase. May arrive before the "
            "purchase.",
        },
    )

    line_number: Mapped[int] = _line_number()
    description: Mapped[str | None] = c.column("What was bought; null when not sent")
    amount: Mapped[Decimal | None] = c.column(
        "Price of one unit, in major units of currency; for weighed goods the price of the whole line, as "
        "total_amount; null when not reported"
    )
    total_amount: Mapped[Decimal | None] = c.column("Price of the line, in major units of currency; null when not sent")
    quantity: Mapped[Decimal | None] = c.column(
        "How many, or how much: may be a fraction (0.195 of a weighed good); null when not reported"
    )
    currency: Mapped[str | None] = c.column("Currency of the amounts (ISO 4217); null when not sent")
    occurred_at: Mapped[datetime] = c.column(c.LEARNED)


class EnvironmentalImpact(_OfPurchase, Base):
    """The CO2 of a purchase as one provider reckons it."""

    __tablename__ = "environmental_impacts"
    __table_args__ = ({"schema": EMS, "comment": "CO2 of purchases, one row for each provider of the figure."},)

    provider: Mapped[str] = c.key("aland_index, deedster, or unspecified if the event names none")
    carbon_emission_in_grams: Mapped[Decimal | None] = c.column("Emission in grams of CO2; null when not sent")
    carbon_social_cost_amount: Mapped[Decimal | None] = c.column(
        "Social cost of the emission, in major units of carbon_social_cost_currency; null when not sent"
    )
    carbon_social_cost_currency: Mapped[str | None] = c.column("Currency of the cost (ISO 4217); null when not sent")
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
    organization_number: Mapped[str | None] = c.column("Company registration number; null when not sent")
    invoice_number: Mapped[str | None] = c.column("Number of the invoice; null when not sent")
    no_of_transactions: Mapped[int | None] = c.whole_number("How many transactions it bills; null when not sent")
    invoice_amount: Mapped[Decimal | None] = c.column(
        "Amount of the invoice, in major units of invoice_currency; null when not sent"
    )
    invoice_currency: Mapped[str | None] = c.column("Currency of the invoice (ISO 4217); null when not sent")
    invoice_date: Mapped[date | None] = c.column("Date of the invoice, a day without a zone; null when not sent")
    due_date: Mapped[date | None] = c.column("Date by which it is to be paid, a day without a zone; null when not sent")
    occurred_at: Mapped[datetime] = c.column(c.LEARNED)
    delivery_id: Mapped[int] = c.whole_number(c.DELIVERY)
    updated_at: Mapped[datetime] = c.column(c.UPDATED)

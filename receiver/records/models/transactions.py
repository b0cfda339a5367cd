"""Card transactions: the current row of each."""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal

from sqlalchemy import ARRAY, CheckConstraint, Index, Text
from sqlalchemy import text as sql
from sqlalchemy.orm import Mapped, mapped_column

from receiver.db import EMS, Base
from receiver.records.models import columns as c

STATE_CHECK = "state IN ('authorized', 'deleted', 'cleared', 'invoiced')"
PURCHASED_ON = "COALESCE(purchase_date, (snapshot_at AT TIME ZONE 'UTC'::text)::date)"
"""The day by which operators search, never null; written as PostgreSQL shows it."""


class Transaction(Base):
    """The current state of a card purchase: the snapshot of the highest state, the newest among equals."""

    __tablename__ = "transactions"
    __table_args__ = (
        CheckConstraint(STATE_CHECK, name="state"),
        CheckConstraint("booked_on IS NOT NULL OR state IN ('authorized', 'deleted')", name="booked_on"),
        Index(
            "ix_transactions_booked_on",
            "organization_reference_id",
            "booked_on",
            postgresql_where=sql("booked_on IS NOT NULL"),
        ),
        Index(
            "ix_transactions_invoice_number",
            "organization_reference_id",
            "invoice_number",
            postgresql_where=sql("invoice_number IS NOT NULL"),
        ),
        Index("ix_transactions_card_holder", "card_holder_reference_id", "organization_reference_id"),
        Index("ix_transactions_state_updated_at", "state", "updated_at"),
        # by day first: what is new is written at one end, whatever its organization
        Index("ix_transactions_purchased_on", sql(PURCHASED_ON), "organization_reference_id"),
        Index(
            "ix_transactions_cleared_card_issuer_reference",
            "cleared_card_issuer_reference",
            postgresql_where=sql("cleared_card_issuer_reference IS NOT NULL"),
        ),
        {
            "schema": EMS,
            "comment": "Card transactions (purchases, refunds, fees, withdrawals), one row each, in their current "
            "state: the highest that was reported (authorized < deleted < cleared < invoiced). Of each state only the "
            "newest snapshot counts, by the time of OpenCard's first attempt to deliver it, of equal times the one "
            "received last; a field that is missing or null there comes from the state below it. A deleted transaction "
            "keeps its row. A column with the name of a field of OpenCard's card.transaction.* payload contains that "
            "field.",
        },
    )

    organization_reference_id: Mapped[str] = c.key(c.ORGANIZATION)
    id: Mapped[str] = c.key("OpenCard's id of the transaction, the same through all its states")
    state: Mapped[str] = c.column("Current state: authorized, deleted, cleared or invoiced")
    card_holder_reference_id: Mapped[str] = c.column(c.CARD_HOLDER)
    receiptable: Mapped[bool | None] = c.column(
        "Whether a partner of OpenCard has a digital receipt (its older documentation says: may have one); null when "
        "no state reports it"
    )
    card_issuer: Mapped[str | None] = c.column("Issuer of the card; null when no state reports it")
    card_issuer_reference: Mapped[str | None] = c.column(
        "The issuer's reference of the highest state that has one; different in each state, not unique; null when no "
        "state reports it"
    )
    card_issuer_customer_number: Mapped[str | None] = c.column(
        "The issuer's number of the customer; null when no state reports it, or once the card holder is erased"
    )
    type: Mapped[str | None] = c.column(
        "Kind of transaction as the issuer names it; card, CARD_PURCHASE, CASH_WITHDRAWAL and FEE_AND_DISCOUNT have "
        "been seen, and the list is open; null when no state reports it"
    )
    invoice_number: Mapped[str | None] = c.column(
        "Number of the issuer's invoice; whether it is unique across issuers is not documented; null until invoiced"
    )
    invoice_date: Mapped[date | None] = c.column(
        "Date of the issuer's invoice, a day without a zone; null until invoiced"
    )
    original_amount: Mapped[Decimal | None] = c.column(
        f"Amount in the currency of the purchase, in major units, VAT included; {c.CREDIT}; may change until cleared; "
        "null when no state reports it"
    )
    original_currency: Mapped[str | None] = c.column(
        f"Currency of the purchase, {c.ISO_CURRENCY}; null when no state reports it"
    )
    vat_rate: Mapped[Decimal | None] = c.column(
        "VAT rate from the card network, as sent, often wrong; whether it is percent (25) or a fraction (0.25) is not "
        "documented; the ledger prefers the merchant's VAT; null when no state reports it"
    )
    vat_amount: Mapped[Decimal | None] = c.column(
        "VAT from the card network, in major units of vat_currency, often wrong; sign as sent, which may be positive "
        "for a refund; the ledger corrects the sign, and prefers the merchant's; null when no state reports it"
    )
    vat_currency: Mapped[str | None] = c.column(
        f"Currency of vat_amount, {c.ISO_CURRENCY}; null when no state reports it"
    )
    accounting_amount: Mapped[Decimal | None] = c.column(
        f"Amount in accounting_currency, in major units, VAT included; {c.CREDIT}; as a rule final once cleared; null "
        "when no state reports it"
    )
    accounting_currency: Mapped[str | None] = c.column(
        f"Currency of accounting_amount: the customer's home currency, {c.ISO_CURRENCY}; an organization may have "
        "several; null when no state reports it"
    )
    exchange_rate: Mapped[Decimal | None] = c.column(
        "Rate between original and accounting amount, as sent; its direction is not documented by OpenCard; null when "
        "no state reports it"
    )
    purchase_merchant: Mapped[str | None] = c.column(
        "Merchant as the card network names it; null when no state reports it"
    )
    purchase_merchant_common: Mapped[str | None] = c.column("Merchant's normalized name; null when no state reports it")
    purchase_date: Mapped[date | None] = c.column(
        "Day of the purchase in the zone purchase_timezone (unknown where that is null); null when no state reports it"
    )
    purchase_time: Mapped[time | None] = c.column(
        "Time of day in the zone purchase_timezone (unknown where that is null); null when no state reports it"
    )
    purchase_timezone: Mapped[str | None] = c.column(
        "Time zone of purchase_date and purchase_time (IANA name as a rule); null when no state reports it"
    )
    purchase_country: Mapped[str | None] = c.column(f"Country, {c.ISO_COUNTRY}; null when no state reports it")
    purchase_city: Mapped[str | None] = c.column("City; null when no state reports it")
    card_id: Mapped[int | None] = c.whole_number(
        "OpenCard's id of the card; whether it is unique across issuers, and stays the same when a card is renewed, is "
        "not documented; null when no state reports it, or once the card holder is erased"
    )
    card_product: Mapped[str | None] = c.column("Product name of the card; null when no state reports it")
    card_type: Mapped[str | None] = c.column(
        "private, corporate or corporate_with_private_invoice; null when no state reports it"
    )
    card_last_four: Mapped[str | None] = c.column(
        "Last four digits of the card number (personal), not unique; null when no state reports it, or once the card "
        "holder is erased"
    )
    mcc_code: Mapped[str | None] = c.column("Merchant category code (ISO 18245); null when no state reports it")
    mcc_text: Mapped[str | None] = c.column("Name of the merchant category; null when no state reports it")
    mcc_top_level: Mapped[str | None] = c.column("Top level of the merchant category; null when no state reports it")
    branch_code: Mapped[str | None] = c.column("Code of the merchant's line of business; null when no state reports it")
    branch_text: Mapped[str | None] = c.column("Name of the merchant's line of business; null when no state reports it")
    category_text: Mapped[str | None] = c.column("OpenCard's spending category; null when no state reports it")
    cleared_card_issuer_reference: Mapped[str | None] = c.column(
        "Clearing reference of the issuer, kept in later states; compare it with the clearing reference in another "
        "source, such as the bank's own file; null until cleared, and when not reported"
    )
    cleared_snapshot_at: Mapped[datetime | None] = c.column(
        "When the newest cleared snapshot was reported, which cleared_card_issuer_reference is from; null until cleared"
    )
    authorized_at: Mapped[datetime | None] = c.column("When first reported as authorized; null when never reported")
    cleared_at: Mapped[datetime | None] = c.column("When first reported as cleared; null when never reported")
    invoiced_at: Mapped[datetime | None] = c.column("When first reported as invoiced; null when never reported")
    deleted_at: Mapped[datetime | None] = c.column(
        "When first reported as deleted; kept if the transaction is cleared later; null when never reported"
    )
    snapshot_at: Mapped[datetime] = c.column(c.LEARNED)
    delivery_id: Mapped[int] = c.whole_number(c.DELIVERY)
    updated_at: Mapped[datetime] = c.column(c.UPDATED)
    payment_product_id: Mapped[str | None] = c.column(
        "OpenCard's id of the payment product that the card belongs to (source: payment_product.id); null when not "
        "reported, or once the card holder is erased"
    )
    payment_product_name: Mapped[str | None] = c.column(
        "Name of the payment product (source: payment_product.name); null when no state reports it, or once the card "
        "holder is erased"
    )
    card_funding: Mapped[str | None] = c.column(
        "debit or credit, as sent; null when no state reports it, or once the card holder is erased"
    )
    unreadable: Mapped[list[str] | None] = mapped_column(
        ARRAY(Text),
        comment="Names of columns that are null because their field of the payload could not be read; the event's "
        "payload has the field as sent; null when every field could be read",
    )
    booked_on: Mapped[date | None] = c.column(
        "Accounting date: the day of the purchase (purchase_date), in its own zone, not the issuer's booking or "
        "posting date; if none was reported, the day (UTC) on which it was first reported as cleared, else as "
        "invoiced; null only while authorized or deleted"
    )

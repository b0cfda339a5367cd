"""Schema ``ems`` as models of SQLAlchemy. Written by ``make docs`` from the migrated database.

What the columns mean is in ``rows.py``. Amounts within JSON are exact with an engine that is made with
``create_engine(url, json_deserializer=exact_json)``.
"""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import ARRAY, BigInteger, DateTime, MetaData, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Model(DeclarativeBase):
    """Base of all models."""

    metadata = MetaData(schema="ems")
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        int: BigInteger,
        str: Text,
        datetime: DateTime(timezone=True),
        list[str]: ARRAY(Text),
        dict[str, Any]: JSONB,
    }


class CardHolder(Model):
    """``ems.card_holders``."""

    __tablename__ = "card_holders"

    organization_reference_id: Mapped[str] = mapped_column(primary_key=True)
    reference_id: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime | None]
    identified_at: Mapped[datetime | None]
    signed_pdpc_at: Mapped[datetime | None]
    email_delivered_at: Mapped[datetime | None]
    email_failed_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    erased_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]


class Closing(Model):
    """``ems.closings``."""

    __tablename__ = "closings"

    organization_reference_id: Mapped[str] = mapped_column(primary_key=True)
    month: Mapped[date] = mapped_column(primary_key=True)
    closed_at: Mapped[datetime]
    closed_by: Mapped[str]
    complete_from: Mapped[datetime]
    complete_through: Mapped[datetime]
    acknowledged_gaps: Mapped[int]
    position: Mapped[int]
    lines: Mapped[int]
    sums: Mapped[dict[str, Any]]
    vat_sums: Mapped[dict[str, Any]]
    sha256: Mapped[str]


class Consumer(Model):
    """``ems.consumers``."""

    __tablename__ = "consumers"

    name: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str | None]
    position: Mapped[int]
    registered_at: Mapped[datetime]
    updated_at: Mapped[datetime | None]


class EnvironmentalImpact(Model):
    """``ems.environmental_impacts``."""

    __tablename__ = "environmental_impacts"

    organization_reference_id: Mapped[str] = mapped_column(primary_key=True)
    transaction_id: Mapped[str] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(primary_key=True)
    carbon_emission_in_grams: Mapped[Decimal | None]
    carbon_social_cost_amount: Mapped[Decimal | None]
    carbon_social_cost_currency: Mapped[str | None]
    card_holder_reference_id: Mapped[str]
    card_issuer: Mapped[str | None]
    occurred_at: Mapped[datetime]
    delivery_id: Mapped[int]
    updated_at: Mapped[datetime]
    transaction: Mapped["Transaction | None"] = relationship(
        primaryjoin="and_("
        "foreign(EnvironmentalImpact.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(EnvironmentalImpact.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    card_holder: Mapped["CardHolder | None"] = relationship(
        primaryjoin="and_("
        "foreign(EnvironmentalImpact.organization_reference_id) == CardHolder.organization_reference_id, "
        "foreign(EnvironmentalImpact.card_holder_reference_id) == CardHolder.reference_id)",
        viewonly=True,
    )


class Event(Model):
    """``ems.events``."""

    __tablename__ = "events"

    position: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str]
    organization_reference_id: Mapped[str]
    card_holder_reference_id: Mapped[str | None]
    transaction_id: Mapped[str | None]
    occurred_at: Mapped[datetime]
    recorded_at: Mapped[datetime]
    source: Mapped[str]
    delivery_id: Mapped[int]
    payload: Mapped[dict[str, Any]]
    subject_id: Mapped[str]
    fingerprint: Mapped[bytes | None]
    retracted_at: Mapped[datetime | None]
    transaction: Mapped["Transaction | None"] = relationship(
        primaryjoin="and_("
        "foreign(Event.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(Event.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    card_holder: Mapped["CardHolder | None"] = relationship(
        primaryjoin="and_("
        "foreign(Event.organization_reference_id) == CardHolder.organization_reference_id, "
        "foreign(Event.card_holder_reference_id) == CardHolder.reference_id)",
        viewonly=True,
    )


class FeedHorizon(Model):
    """``ems.feed_horizon``."""

    __tablename__ = "feed_horizon"

    id: Mapped[int] = mapped_column(primary_key=True)
    deleted_through: Mapped[int]
    deleted_at: Mapped[datetime]
    epoch: Mapped[int]
    epoch_start: Mapped[int]


class Invoice(Model):
    """``ems.invoices``."""

    __tablename__ = "invoices"

    organization_reference_id: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    organization_number: Mapped[str | None]
    invoice_number: Mapped[str | None]
    no_of_transactions: Mapped[int | None]
    invoice_amount: Mapped[Decimal | None]
    invoice_currency: Mapped[str | None]
    invoice_date: Mapped[date | None]
    due_date: Mapped[date | None]
    occurred_at: Mapped[datetime]
    delivery_id: Mapped[int]
    updated_at: Mapped[datetime]


class LedgerJournal(Model):
    """``ems.ledger_journal``."""

    __tablename__ = "ledger_journal"

    position: Mapped[int] = mapped_column(primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True)
    organization_reference_id: Mapped[str]
    transaction_id: Mapped[str]
    kind: Mapped[str]
    sign: Mapped[int]
    changed: Mapped[list[str] | None]
    booked_on: Mapped[date]
    card_holder_reference_id: Mapped[str]
    original_amount: Mapped[Decimal | None]
    original_currency: Mapped[str | None]
    accounting_amount: Mapped[Decimal | None]
    accounting_currency: Mapped[str | None]
    vat_amount: Mapped[Decimal | None]
    vat_currency: Mapped[str | None]
    vat_source: Mapped[str | None]
    receipt_state: Mapped[str]
    recorded_at: Mapped[datetime]
    transaction: Mapped["Transaction | None"] = relationship(
        primaryjoin="and_("
        "foreign(LedgerJournal.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(LedgerJournal.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    card_holder: Mapped["CardHolder | None"] = relationship(
        primaryjoin="and_("
        "foreign(LedgerJournal.organization_reference_id) == CardHolder.organization_reference_id, "
        "foreign(LedgerJournal.card_holder_reference_id) == CardHolder.reference_id)",
        viewonly=True,
    )


class LineItem(Model):
    """``ems.line_items``."""

    __tablename__ = "line_items"

    organization_reference_id: Mapped[str] = mapped_column(primary_key=True)
    transaction_id: Mapped[str] = mapped_column(primary_key=True)
    line_number: Mapped[int] = mapped_column(primary_key=True)
    description: Mapped[str | None]
    amount: Mapped[Decimal | None]
    total_amount: Mapped[Decimal | None]
    quantity: Mapped[Decimal | None]
    currency: Mapped[str | None]
    card_holder_reference_id: Mapped[str]
    card_issuer: Mapped[str | None]
    occurred_at: Mapped[datetime]
    delivery_id: Mapped[int]
    transaction: Mapped["Transaction | None"] = relationship(
        primaryjoin="and_("
        "foreign(LineItem.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(LineItem.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    card_holder: Mapped["CardHolder | None"] = relationship(
        primaryjoin="and_("
        "foreign(LineItem.organization_reference_id) == CardHolder.organization_reference_id, "
        "foreign(LineItem.card_holder_reference_id) == CardHolder.reference_id)",
        viewonly=True,
    )


class Organization(Model):
    """``ems.organizations``."""

    __tablename__ = "organizations"

    organization_reference_id: Mapped[str] = mapped_column(primary_key=True)
    added_at: Mapped[datetime]
    log_begins_at: Mapped[datetime]


class Receipt(Model):
    """``ems.receipts``."""

    __tablename__ = "receipts"

    organization_reference_id: Mapped[str] = mapped_column(primary_key=True)
    transaction_id: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str]
    card_holder_reference_id: Mapped[str]
    card_issuer: Mapped[str | None]
    content_type: Mapped[str | None]
    expiration_time: Mapped[datetime | None]
    purchase_merchant: Mapped[str | None]
    original_amount: Mapped[Decimal | None]
    original_currency: Mapped[str | None]
    purchase_date: Mapped[date | None]
    purchase_time: Mapped[time | None]
    fetched_at: Mapped[datetime]
    file_key: Mapped[str | None]
    file_size: Mapped[int | None]
    file_sha256: Mapped[str | None]
    downloaded_at: Mapped[datetime | None]
    download_error: Mapped[str | None]
    delivery_id: Mapped[int]
    updated_at: Mapped[datetime]
    url_sha256: Mapped[bytes] = mapped_column(primary_key=True)
    transaction: Mapped["Transaction | None"] = relationship(
        primaryjoin="and_("
        "foreign(Receipt.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(Receipt.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    card_holder: Mapped["CardHolder | None"] = relationship(
        primaryjoin="and_("
        "foreign(Receipt.organization_reference_id) == CardHolder.organization_reference_id, "
        "foreign(Receipt.card_holder_reference_id) == CardHolder.reference_id)",
        viewonly=True,
    )


class Tpa(Model):
    """``ems.tpas``."""

    __tablename__ = "tpas"

    organization_reference_id: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    organization_number: Mapped[str | None]
    url: Mapped[str | None]
    signed_at: Mapped[datetime]
    occurred_at: Mapped[datetime]
    delivery_id: Mapped[int]
    updated_at: Mapped[datetime]
    file_key: Mapped[str | None]
    file_size: Mapped[int | None]
    file_sha256: Mapped[str | None]
    downloaded_at: Mapped[datetime | None]
    download_error: Mapped[str | None]


class Transaction(Model):
    """``ems.transactions``."""

    __tablename__ = "transactions"

    organization_reference_id: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    card_holder_reference_id: Mapped[str]
    receiptable: Mapped[bool | None]
    card_issuer: Mapped[str | None]
    card_issuer_reference: Mapped[str | None]
    card_issuer_customer_number: Mapped[str | None]
    type: Mapped[str | None]
    invoice_number: Mapped[str | None]
    invoice_date: Mapped[date | None]
    original_amount: Mapped[Decimal | None]
    original_currency: Mapped[str | None]
    vat_rate: Mapped[Decimal | None]
    vat_amount: Mapped[Decimal | None]
    vat_currency: Mapped[str | None]
    accounting_amount: Mapped[Decimal | None]
    accounting_currency: Mapped[str | None]
    exchange_rate: Mapped[Decimal | None]
    purchase_merchant: Mapped[str | None]
    purchase_merchant_common: Mapped[str | None]
    purchase_date: Mapped[date | None]
    purchase_time: Mapped[time | None]
    purchase_timezone: Mapped[str | None]
    purchase_country: Mapped[str | None]
    purchase_city: Mapped[str | None]
    card_id: Mapped[int | None]
    card_product: Mapped[str | None]
    card_type: Mapped[str | None]
    card_last_four: Mapped[str | None]
    mcc_code: Mapped[str | None]
    mcc_text: Mapped[str | None]
    mcc_top_level: Mapped[str | None]
    branch_code: Mapped[str | None]
    branch_text: Mapped[str | None]
    category_text: Mapped[str | None]
    cleared_card_issuer_reference: Mapped[str | None]
    cleared_snapshot_at: Mapped[datetime | None]
    authorized_at: Mapped[datetime | None]
    cleared_at: Mapped[datetime | None]
    invoiced_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    snapshot_at: Mapped[datetime]
    delivery_id: Mapped[int]
    updated_at: Mapped[datetime]
    payment_product_id: Mapped[str | None]
    payment_product_name: Mapped[str | None]
    card_funding: Mapped[str | None]
    unreadable: Mapped[list[str] | None]
    booked_on: Mapped[date | None]
    card_holder: Mapped["CardHolder | None"] = relationship(
        primaryjoin="and_("
        "foreign(Transaction.organization_reference_id) == CardHolder.organization_reference_id, "
        "foreign(Transaction.card_holder_reference_id) == CardHolder.reference_id)",
        viewonly=True,
    )
    environmental_impacts: Mapped[list["EnvironmentalImpact"]] = relationship(
        primaryjoin="and_("
        "foreign(EnvironmentalImpact.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(EnvironmentalImpact.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    events: Mapped[list["Event"]] = relationship(
        primaryjoin="and_("
        "foreign(Event.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(Event.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    ledger_journal: Mapped[list["LedgerJournal"]] = relationship(
        primaryjoin="and_("
        "foreign(LedgerJournal.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(LedgerJournal.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    line_items: Mapped[list["LineItem"]] = relationship(
        primaryjoin="and_("
        "foreign(LineItem.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(LineItem.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    receipts: Mapped[list["Receipt"]] = relationship(
        primaryjoin="and_("
        "foreign(Receipt.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(Receipt.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    vat_rates: Mapped[list["VatRate"]] = relationship(
        primaryjoin="and_("
        "foreign(VatRate.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(VatRate.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    vat_totals: Mapped[list["VatTotal"]] = relationship(
        primaryjoin="and_("
        "foreign(VatTotal.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(VatTotal.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    late_changes: Mapped[list["LateChange"]] = relationship(
        primaryjoin="and_("
        "foreign(LateChange.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(LateChange.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    ledger: Mapped["Ledger | None"] = relationship(
        primaryjoin="and_("
        "foreign(Ledger.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(Ledger.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    ledger_vat: Mapped[list["LedgerVat"]] = relationship(
        primaryjoin="and_("
        "foreign(LedgerVat.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(LedgerVat.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    missing_receipts: Mapped["MissingReceipt | None"] = relationship(
        primaryjoin="and_("
        "foreign(MissingReceipt.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(MissingReceipt.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    pending_transactions: Mapped["PendingTransaction | None"] = relationship(
        primaryjoin="and_("
        "foreign(PendingTransaction.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(PendingTransaction.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    possible_duplicates: Mapped[list["PossibleDuplicate"]] = relationship(
        primaryjoin="and_("
        "foreign(PossibleDuplicate.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(PossibleDuplicate.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    transaction_states: Mapped[list["TransactionState"]] = relationship(
        primaryjoin="and_("
        "foreign(TransactionState.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(TransactionState.transaction_id) == Transaction.id)",
        viewonly=True,
    )


class VatRate(Model):
    """``ems.vat_rates``."""

    __tablename__ = "vat_rates"

    organization_reference_id: Mapped[str] = mapped_column(primary_key=True)
    transaction_id: Mapped[str] = mapped_column(primary_key=True)
    line_number: Mapped[int] = mapped_column(primary_key=True)
    vat_amount: Mapped[Decimal | None]
    taxable_amount: Mapped[Decimal | None]
    total_amount: Mapped[Decimal | None]
    percentage: Mapped[Decimal | None]
    currency: Mapped[str | None]
    purchase_country: Mapped[str | None]
    card_holder_reference_id: Mapped[str]
    card_issuer: Mapped[str | None]
    occurred_at: Mapped[datetime]
    delivery_id: Mapped[int]
    transaction: Mapped["Transaction | None"] = relationship(
        primaryjoin="and_("
        "foreign(VatRate.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(VatRate.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    card_holder: Mapped["CardHolder | None"] = relationship(
        primaryjoin="and_("
        "foreign(VatRate.organization_reference_id) == CardHolder.organization_reference_id, "
        "foreign(VatRate.card_holder_reference_id) == CardHolder.reference_id)",
        viewonly=True,
    )


class VatTotal(Model):
    """``ems.vat_totals``."""

    __tablename__ = "vat_totals"

    organization_reference_id: Mapped[str] = mapped_column(primary_key=True)
    transaction_id: Mapped[str] = mapped_column(primary_key=True)
    line_number: Mapped[int] = mapped_column(primary_key=True)
    vat_amount: Mapped[Decimal | None]
    taxable_amount: Mapped[Decimal | None]
    total_amount: Mapped[Decimal | None]
    currency: Mapped[str | None]
    purchase_country: Mapped[str | None]
    card_holder_reference_id: Mapped[str]
    card_issuer: Mapped[str | None]
    occurred_at: Mapped[datetime]
    delivery_id: Mapped[int]
    transaction: Mapped["Transaction | None"] = relationship(
        primaryjoin="and_("
        "foreign(VatTotal.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(VatTotal.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    card_holder: Mapped["CardHolder | None"] = relationship(
        primaryjoin="and_("
        "foreign(VatTotal.organization_reference_id) == CardHolder.organization_reference_id, "
        "foreign(VatTotal.card_holder_reference_id) == CardHolder.reference_id)",
        viewonly=True,
    )


class Completeness(Model):
    """``ems.completeness``."""

    __tablename__ = "completeness"

    organization_reference_id: Mapped[str] = mapped_column(primary_key=True)
    complete_through: Mapped[datetime | None]
    open_gaps: Mapped[int]
    checked_at: Mapped[datetime | None]
    acknowledged_gaps: Mapped[int]
    complete_from: Mapped[datetime]


class InvoiceControl(Model):
    """``ems.invoice_control``."""

    __tablename__ = "invoice_control"

    organization_reference_id: Mapped[str] = mapped_column(primary_key=True)
    invoice_id: Mapped[str] = mapped_column(primary_key=True)
    invoice_number: Mapped[str | None]
    invoice_date: Mapped[date | None]
    no_of_transactions: Mapped[int | None]
    booked_transactions: Mapped[int]
    invoice_amount: Mapped[Decimal | None]
    invoice_currency: Mapped[str | None]
    booked_amount: Mapped[Decimal]
    transactions_in_other_currencies: Mapped[int]
    difference: Mapped[Decimal | None]
    agrees: Mapped[bool]


class LateChange(Model):
    """``ems.late_changes``."""

    __tablename__ = "late_changes"

    organization_reference_id: Mapped[str] = mapped_column(primary_key=True)
    month: Mapped[date] = mapped_column(primary_key=True)
    transaction_id: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    changed_at: Mapped[datetime]
    kind: Mapped[str]
    changed: Mapped[list[str] | None]
    booked_on_before: Mapped[date | None]
    booked_on_after: Mapped[date | None]
    card_holder_reference_id_before: Mapped[str | None]
    card_holder_reference_id_after: Mapped[str | None]
    original_amount_before: Mapped[Decimal | None]
    original_amount_after: Mapped[Decimal | None]
    original_currency_before: Mapped[str | None]
    original_currency_after: Mapped[str | None]
    accounting_amount_before: Mapped[Decimal | None]
    accounting_amount_after: Mapped[Decimal | None]
    accounting_currency_before: Mapped[str | None]
    accounting_currency_after: Mapped[str | None]
    vat_amount_before: Mapped[Decimal | None]
    vat_amount_after: Mapped[Decimal | None]
    vat_currency_before: Mapped[str | None]
    vat_currency_after: Mapped[str | None]
    receipt_state_before: Mapped[str | None]
    receipt_state_after: Mapped[str | None]
    transaction: Mapped["Transaction | None"] = relationship(
        primaryjoin="and_("
        "foreign(LateChange.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(LateChange.transaction_id) == Transaction.id)",
        viewonly=True,
    )


class Ledger(Model):
    """``ems.ledger``."""

    __tablename__ = "ledger"

    organization_reference_id: Mapped[str] = mapped_column(primary_key=True)
    transaction_id: Mapped[str] = mapped_column(primary_key=True)
    card_holder_reference_id: Mapped[str]
    state: Mapped[str]
    purchase_date: Mapped[date | None]
    purchase_time: Mapped[time | None]
    purchase_timezone: Mapped[str | None]
    merchant: Mapped[str | None]
    purchase_country: Mapped[str | None]
    purchase_city: Mapped[str | None]
    mcc_code: Mapped[str | None]
    category_text: Mapped[str | None]
    accounting_amount: Mapped[Decimal | None]
    accounting_currency: Mapped[str | None]
    original_amount: Mapped[Decimal | None]
    original_currency: Mapped[str | None]
    exchange_rate: Mapped[Decimal | None]
    vat_amount: Mapped[Decimal | None]
    vat_currency: Mapped[str | None]
    vat_source: Mapped[str | None]
    receipt_url: Mapped[str | None]
    receipt_file_key: Mapped[str | None]
    number_of_items: Mapped[int]
    card_issuer: Mapped[str | None]
    cleared_card_issuer_reference: Mapped[str | None]
    invoice_number: Mapped[str | None]
    invoice_date: Mapped[date | None]
    card_id: Mapped[int | None]
    card_type: Mapped[str | None]
    cleared_at: Mapped[datetime | None]
    invoiced_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]
    network_vat_rate: Mapped[Decimal | None]
    network_vat_amount: Mapped[Decimal | None]
    network_vat_currency: Mapped[str | None]
    receipt_content_type: Mapped[str | None]
    number_of_receipts: Mapped[int]
    type: Mapped[str | None]
    mcc_text: Mapped[str | None]
    card_product: Mapped[str | None]
    card_last_four: Mapped[str | None]
    card_issuer_customer_number: Mapped[str | None]
    authorized_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    payment_product_id: Mapped[str | None]
    payment_product_name: Mapped[str | None]
    card_funding: Mapped[str | None]
    booked_on: Mapped[date]
    receipt_state: Mapped[str]
    transaction: Mapped["Transaction | None"] = relationship(
        primaryjoin="and_("
        "foreign(Ledger.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(Ledger.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    card_holder: Mapped["CardHolder | None"] = relationship(
        primaryjoin="and_("
        "foreign(Ledger.organization_reference_id) == CardHolder.organization_reference_id, "
        "foreign(Ledger.card_holder_reference_id) == CardHolder.reference_id)",
        viewonly=True,
    )


class LedgerVat(Model):
    """``ems.ledger_vat``."""

    __tablename__ = "ledger_vat"

    organization_reference_id: Mapped[str] = mapped_column(primary_key=True)
    transaction_id: Mapped[str] = mapped_column(primary_key=True)
    card_holder_reference_id: Mapped[str]
    vat_source: Mapped[str]
    percentage: Mapped[Decimal | None] = mapped_column(primary_key=True)
    vat_amount: Mapped[Decimal]
    taxable_amount: Mapped[Decimal | None]
    total_amount: Mapped[Decimal | None]
    vat_currency: Mapped[str | None]
    purchase_date: Mapped[date | None]
    purchase_country: Mapped[str | None]
    state: Mapped[str]
    updated_at: Mapped[datetime]
    booked_on: Mapped[date]
    transaction: Mapped["Transaction | None"] = relationship(
        primaryjoin="and_("
        "foreign(LedgerVat.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(LedgerVat.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    card_holder: Mapped["CardHolder | None"] = relationship(
        primaryjoin="and_("
        "foreign(LedgerVat.organization_reference_id) == CardHolder.organization_reference_id, "
        "foreign(LedgerVat.card_holder_reference_id) == CardHolder.reference_id)",
        viewonly=True,
    )


class MissingReceipt(Model):
    """``ems.missing_receipts``."""

    __tablename__ = "missing_receipts"

    organization_reference_id: Mapped[str] = mapped_column(primary_key=True)
    transaction_id: Mapped[str] = mapped_column(primary_key=True)
    card_holder_reference_id: Mapped[str]
    state: Mapped[str]
    purchase_date: Mapped[date | None]
    purchase_time: Mapped[time | None]
    purchase_timezone: Mapped[str | None]
    merchant: Mapped[str | None]
    accounting_amount: Mapped[Decimal | None]
    accounting_currency: Mapped[str | None]
    original_amount: Mapped[Decimal | None]
    original_currency: Mapped[str | None]
    card_issuer: Mapped[str | None]
    cleared_at: Mapped[datetime | None]
    invoiced_at: Mapped[datetime | None]
    age: Mapped[timedelta]
    days_missing: Mapped[int]
    updated_at: Mapped[datetime]
    transaction: Mapped["Transaction | None"] = relationship(
        primaryjoin="and_("
        "foreign(MissingReceipt.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(MissingReceipt.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    card_holder: Mapped["CardHolder | None"] = relationship(
        primaryjoin="and_("
        "foreign(MissingReceipt.organization_reference_id) == CardHolder.organization_reference_id, "
        "foreign(MissingReceipt.card_holder_reference_id) == CardHolder.reference_id)",
        viewonly=True,
    )


class PendingTransaction(Model):
    """``ems.pending_transactions``."""

    __tablename__ = "pending_transactions"

    organization_reference_id: Mapped[str] = mapped_column(primary_key=True)
    transaction_id: Mapped[str] = mapped_column(primary_key=True)
    card_holder_reference_id: Mapped[str]
    purchase_date: Mapped[date | None]
    purchase_time: Mapped[time | None]
    purchase_timezone: Mapped[str | None]
    merchant: Mapped[str | None]
    purchase_country: Mapped[str | None]
    purchase_city: Mapped[str | None]
    mcc_code: Mapped[str | None]
    category_text: Mapped[str | None]
    accounting_amount: Mapped[Decimal | None]
    accounting_currency: Mapped[str | None]
    original_amount: Mapped[Decimal | None]
    original_currency: Mapped[str | None]
    exchange_rate: Mapped[Decimal | None]
    card_issuer: Mapped[str | None]
    card_id: Mapped[int | None]
    card_last_four: Mapped[str | None]
    receipt_url: Mapped[str | None]
    receipt_file_key: Mapped[str | None]
    authorized_at: Mapped[datetime]
    age: Mapped[timedelta]
    days_open: Mapped[int]
    updated_at: Mapped[datetime]
    payment_product_id: Mapped[str | None]
    payment_product_name: Mapped[str | None]
    card_funding: Mapped[str | None]
    transaction: Mapped["Transaction | None"] = relationship(
        primaryjoin="and_("
        "foreign(PendingTransaction.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(PendingTransaction.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    card_holder: Mapped["CardHolder | None"] = relationship(
        primaryjoin="and_("
        "foreign(PendingTransaction.organization_reference_id) == CardHolder.organization_reference_id, "
        "foreign(PendingTransaction.card_holder_reference_id) == CardHolder.reference_id)",
        viewonly=True,
    )


class PossibleDuplicate(Model):
    """``ems.possible_duplicates``."""

    __tablename__ = "possible_duplicates"

    organization_reference_id: Mapped[str] = mapped_column(primary_key=True)
    transaction_id: Mapped[str] = mapped_column(primary_key=True)
    other_transaction_id: Mapped[str] = mapped_column(primary_key=True)
    card_issuer: Mapped[str]
    cleared_card_issuer_reference: Mapped[str]
    purchase_date: Mapped[date]
    original_amount: Mapped[Decimal]
    original_currency: Mapped[str]
    merchant: Mapped[str | None]
    other_merchant: Mapped[str | None]
    card_holder_reference_id: Mapped[str]
    other_card_holder_reference_id: Mapped[str]
    cleared_at: Mapped[datetime]
    other_cleared_at: Mapped[datetime]
    transaction: Mapped["Transaction | None"] = relationship(
        primaryjoin="and_("
        "foreign(PossibleDuplicate.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(PossibleDuplicate.transaction_id) == Transaction.id)",
        viewonly=True,
    )
    card_holder: Mapped["CardHolder | None"] = relationship(
        primaryjoin="and_("
        "foreign(PossibleDuplicate.organization_reference_id) == CardHolder.organization_reference_id, "
        "foreign(PossibleDuplicate.card_holder_reference_id) == CardHolder.reference_id)",
        viewonly=True,
    )


class TransactionState(Model):
    """``ems.transaction_states``."""

    __tablename__ = "transaction_states"

    id: Mapped[int] = mapped_column(primary_key=True)
    organization_reference_id: Mapped[str]
    transaction_id: Mapped[str]
    state: Mapped[str]
    card_issuer_reference: Mapped[str | None]
    original_amount: Mapped[Decimal | None]
    original_currency: Mapped[str | None]
    accounting_amount: Mapped[Decimal | None]
    accounting_currency: Mapped[str | None]
    vat_amount: Mapped[Decimal | None]
    vat_currency: Mapped[str | None]
    payload: Mapped[dict[str, Any]]
    occurred_at: Mapped[datetime]
    delivery_id: Mapped[int]
    transaction: Mapped["Transaction | None"] = relationship(
        primaryjoin="and_("
        "foreign(TransactionState.organization_reference_id) == Transaction.organization_reference_id, "
        "foreign(TransactionState.transaction_id) == Transaction.id)",
        viewonly=True,
    )

"""The two schemas: how the service works, and what the EMS reads."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


LEDGER = """
CREATE OR REPLACE VIEW ems.ledger AS
SELECT
    t.organization_reference_id,
    t.id AS transaction_id,
    t.card_holder_reference_id,
    t.state,
    t.purchase_date,
    t.purchase_time,
    t.purchase_timezone,
    coalesce(t.purchase_merchant_common, t.purchase_merchant) AS merchant,
    t.purchase_country,
    t.purchase_city,
    t.mcc_code,
    t.category_text,
    t.accounting_amount,
    t.accounting_currency,
    t.original_amount,
    t.original_currency,
    t.exchange_rate,
    CASE WHEN merchant_vat.currency IS NOT NULL THEN merchant_vat.vat_amount ELSE t.vat_amount END AS vat_amount,
    CASE WHEN merchant_vat.currency IS NOT NULL THEN merchant_vat.currency ELSE t.vat_currency END AS vat_currency,
    CASE
        WHEN merchant_vat.currency IS NOT NULL THEN 'merchant'
        WHEN t.vat_amount IS NOT NULL THEN 'network'
    END AS vat_source,
    receipt.url AS receipt_url,
    receipt.file_key AS receipt_file_key,
    coalesce(items.number, 0) AS number_of_items,
    t.card_issuer,
    t.cleared_card_issuer_reference,
    t.invoice_number,
    t.invoice_date,
    t.card_id,
    t.card_type,
    t.cleared_at,
    t.invoiced_at,
    t.updated_at
FROM ems.transactions AS t
LEFT JOIN LATERAL (
    SELECT sum(line.vat_amount) AS vat_amount, line.currency
    FROM (
        SELECT vat_amount, currency FROM ems.vat_totals AS total
        WHERE total.organization_reference_id = t.organization_reference_id AND total.transaction_id = t.id
        UNION ALL
        SELECT vat_amount, currency FROM ems.vat_rates AS rate
        WHERE rate.organization_reference_id = t.organization_reference_id AND rate.transaction_id = t.id
            AND NOT EXISTS (
                SELECT FROM ems.vat_totals AS total
                WHERE total.organization_reference_id = t.organization_reference_id AND total.transaction_id = t.id
            )
    ) AS line
    WHERE line.vat_amount IS NOT NULL AND line.currency IS NOT NULL
    GROUP BY line.currency
    ORDER BY line.currency = t.original_currency DESC NULLS LAST,
        line.currency = t.accounting_currency DESC NULLS LAST, line.currency
    LIMIT 1
) AS merchant_vat ON true
LEFT JOIN LATERAL (
    SELECT url, file_key FROM ems.receipts AS r
    WHERE r.organization_reference_id = t.organization_reference_id AND r.transaction_id = t.id
    ORDER BY (r.file_key IS NOT NULL) DESC, r.fetched_at DESC, r.url
    LIMIT 1
) AS receipt ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS number FROM ems.line_items AS item
    WHERE item.organization_reference_id = t.organization_reference_id AND item.transaction_id = t.id
) AS items ON true
WHERE t.state IN ('cleared', 'invoiced')
"""

LEDGER_COMMENT = "What accounting books: cleared and invoiced purchases only, one row each, with final amounts. VAT is the merchant's where a receipt gave it (vat_source tells); its split by rate is in vat_rates."

LEDGER_COLUMN_COMMENTS = {
    "organization_reference_id": "The EMS's own id of the organization",
    "transaction_id": "OpenCard's id of the transaction (ems.transactions.id)",
    "card_holder_reference_id": "The EMS's own id of the card holder",
    "state": "cleared or invoiced",
    "purchase_date": "Day of the purchase at the place of the purchase; null when not told",
    "purchase_time": "Time of day in purchase_timezone; null when not told",
    "purchase_timezone": "Time zone of purchase_time; null when not told",
    "merchant": "Merchant's normalized name, else the card network's; null when neither was told",
    "purchase_country": "Country (ISO 3166 alpha-2); null when not told",
    "purchase_city": "City; null when not told",
    "mcc_code": "Merchant category code (ISO 18245); null when not told",
    "category_text": "OpenCard's spending category; null when not told",
    "accounting_amount": "Final amount in the customer's home currency, in major units; negative for a refund",
    "accounting_currency": "The customer's home currency (ISO 4217)",
    "original_amount": "Final amount in the currency of the purchase, in major units; negative for a refund",
    "original_currency": "Currency of the purchase (ISO 4217)",
    "exchange_rate": "Rate between original and accounting amount; null when not told",
    "vat_amount": "VAT in major units of vat_currency, from vat_source; null when nobody told",
    "vat_currency": "Currency of vat_amount (ISO 4217); null when nobody told",
    "vat_source": "merchant: from the receipt; network: from the card network, often wrong; null when nobody told",
    "receipt_url": "Address of the receipt at OpenCard, expires; null without a receipt",
    "receipt_file_key": "Name of the stored receipt file; null until downloaded",
    "number_of_items": "How many lines ems.line_items has for the purchase; 0 without any",
    "card_issuer": "Issuer of the card; null when not told",
    "cleared_card_issuer_reference": "The issuer's reference of the cleared state, for matching with another feed; null where a purchase was invoiced without being told as cleared",
    "invoice_number": "Number of the issuer's invoice; null until invoiced",
    "invoice_date": "Date of the issuer's invoice; null until invoiced",
    "card_id": "OpenCard's id of the card; null when not told",
    "card_type": "private, corporate or corporate_with_private_invoice; null when not told",
    "cleared_at": "When first learned as cleared, in UTC; null when only told as invoiced",
    "invoiced_at": "When first learned as invoiced, in UTC; null until invoiced",
    "updated_at": "When the purchase's row last changed here, in UTC",
}


def comment(on: str, words: str) -> None:
    quoted = words.replace("'", "''")
    op.execute(sa.text(f"COMMENT ON {on} IS '{quoted}'".replace(":", "\\:")))


def upgrade() -> None:
    op.execute("CREATE SCHEMA IF NOT EXISTS ems")
    comment("SCHEMA ems", "What the EMS reads. Columns are added, never renamed or retyped.")
    comment("SCHEMA receiver", "How the receiver works. May change with any release; not for reading.")
    op.create_table(
        "card_holders",
        sa.Column(
            "organization_reference_id",
            sa.Text(),
            nullable=False,
            comment="The EMS's own id of the organization (source: organization.reference_id)",
        ),
        sa.Column(
            "reference_id",
            sa.Text(),
            nullable=False,
            comment="The EMS's own id of the card holder (source: card_holder.reference_id)",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When created through the API, in UTC; null when never told",
        ),
        sa.Column(
            "identified_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When the identity was linked, in UTC: transactions follow; null when never told",
        ),
        sa.Column(
            "signed_pdpc_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When the consent (PDPC) was signed, in UTC; null when never told",
        ),
        sa.Column(
            "email_delivered_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When the consent e-mail was delivered, in UTC; null when never told",
        ),
        sa.Column(
            "email_failed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When the consent e-mail bounced, in UTC; null when never told",
        ),
        sa.Column(
            "deleted_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When deleted, in UTC; null again once created anew",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When this row last changed here, in UTC; follows arrival, not the purchase",
        ),
        sa.PrimaryKeyConstraint("organization_reference_id", "reference_id", name=op.f("pk_card_holders")),
        schema="ems",
        comment="Card holders and what has happened to each. OpenCard's events carry no time, so the times are those at which we learned of them. Where an event happened more than once, its newest time.",
    )
    op.create_table(
        "environmental_impacts",
        sa.Column(
            "organization_reference_id",
            sa.Text(),
            nullable=False,
            comment="The EMS's own id of the organization (source: organization.reference_id)",
        ),
        sa.Column(
            "transaction_id",
            sa.Text(),
            nullable=False,
            comment="OpenCard's id of the transaction, the same through all its states (source: transaction.id)",
        ),
        sa.Column(
            "provider",
            sa.Text(),
            nullable=False,
            comment="aland_index, deedster, or unspecified where the event names none",
        ),
        sa.Column(
            "carbon_emission_in_grams",
            sa.Numeric(),
            nullable=True,
            comment="Emission in grams of CO2; null when not told",
        ),
        sa.Column(
            "carbon_social_cost_amount",
            sa.Numeric(),
            nullable=True,
            comment="Social cost, in major units; null when not told",
        ),
        sa.Column(
            "carbon_social_cost_currency",
            sa.Text(),
            nullable=True,
            comment="Currency of the cost (ISO 4217); null when not told",
        ),
        sa.Column(
            "card_holder_reference_id",
            sa.Text(),
            nullable=False,
            comment="The EMS's own id of the card holder (source: card_holder.reference_id)",
        ),
        sa.Column(
            "card_issuer",
            sa.Text(),
            nullable=True,
            comment="Issuer of the card (source: transaction.card_issuer); null when not told",
        ),
        sa.Column(
            "occurred_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the event that these values come from reached us, or OpenCard's first attempt at it, in UTC",
        ),
        sa.Column(
            "delivery_id",
            sa.BigInteger(),
            nullable=False,
            comment="Delivery that the current values come from (receiver.deliveries.id)",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When this row last changed here, in UTC; follows arrival, not the purchase",
        ),
        sa.PrimaryKeyConstraint(
            "organization_reference_id", "transaction_id", "provider", name=op.f("pk_environmental_impacts")
        ),
        schema="ems",
        comment="CO2 of purchases, one row for each provider of the figure.",
    )
    op.create_table(
        "events",
        sa.Column(
            "position",
            sa.BigInteger(),
            sa.Identity(always=True),
            nullable=False,
            comment="Grows in commit order: what commits later has a higher position. Numbers may be left out",
        ),
        sa.Column("type", sa.Text(), nullable=False, comment="Name of the event in OpenCard's catalogue"),
        sa.Column(
            "organization_reference_id",
            sa.Text(),
            nullable=False,
            comment="The EMS's own id of the organization (source: organization.reference_id)",
        ),
        sa.Column(
            "card_holder_reference_id",
            sa.Text(),
            nullable=True,
            comment="The EMS's own id of the card holder; null for events of an organization",
        ),
        sa.Column(
            "transaction_id",
            sa.Text(),
            nullable=True,
            comment="OpenCard's id of the transaction; null for other events",
        ),
        sa.Column(
            "occurred_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the event reached us, or OpenCard's first attempt, in UTC",
        ),
        sa.Column(
            "recorded_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it took effect here, in UTC",
        ),
        sa.Column(
            "source",
            sa.Text(),
            nullable=False,
            comment="push: delivered to us; log: recovered from OpenCard's delivery log",
        ),
        sa.Column(
            "delivery_id", sa.BigInteger(), nullable=False, comment="Delivery that brought it (receiver.deliveries.id)"
        ),
        sa.Column(
            "payload",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="The event's whole payload, unknown fields included",
        ),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_events")),
        sa.UniqueConstraint("delivery_id", name=op.f("uq_events_delivery_id")),
        schema="ems",
        comment="The change feed: each event once, in the order in which it took effect here. Follow it with WHERE position > :last ORDER BY position; wait with LISTEN ems_events.",
    )
    op.create_table(
        "invoices",
        sa.Column(
            "organization_reference_id",
            sa.Text(),
            nullable=False,
            comment="The EMS's own id of the organization (source: the webhook that brought it)",
        ),
        sa.Column("id", sa.Text(), nullable=False, comment="OpenCard's id of the invoice"),
        sa.Column(
            "organization_number", sa.Text(), nullable=True, comment="Company registration number; null when not told"
        ),
        sa.Column("invoice_number", sa.Text(), nullable=True, comment="Number of the invoice; null when not told"),
        sa.Column(
            "no_of_transactions",
            sa.BigInteger(),
            nullable=True,
            comment="How many transactions it bills; null when not told",
        ),
        sa.Column(
            "invoice_amount",
            sa.Numeric(),
            nullable=True,
            comment="Amount of the invoice, in major units; null when not told",
        ),
        sa.Column(
            "invoice_currency",
            sa.Text(),
            nullable=True,
            comment="Currency of the invoice (ISO 4217); null when not told",
        ),
        sa.Column("invoice_date", sa.Date(), nullable=True, comment="Date of the invoice; null when not told"),
        sa.Column("due_date", sa.Date(), nullable=True, comment="Date by which it is to be paid; null when not told"),
        sa.Column(
            "occurred_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the event that these values come from reached us, or OpenCard's first attempt at it, in UTC",
        ),
        sa.Column(
            "delivery_id",
            sa.BigInteger(),
            nullable=False,
            comment="Delivery that the current values come from (receiver.deliveries.id)",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When this row last changed here, in UTC; follows arrival, not the purchase",
        ),
        sa.PrimaryKeyConstraint("organization_reference_id", "id", name=op.f("pk_invoices")),
        schema="ems",
        comment="Invoices of the card issuer (announced by OpenCard, not live yet).",
    )
    op.create_table(
        "line_items",
        sa.Column(
            "organization_reference_id",
            sa.Text(),
            nullable=False,
            comment="The EMS's own id of the organization (source: organization.reference_id)",
        ),
        sa.Column(
            "transaction_id",
            sa.Text(),
            nullable=False,
            comment="OpenCard's id of the transaction, the same through all its states (source: transaction.id)",
        ),
        sa.Column(
            "line_number",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="Position in the merchant's list, from 1",
        ),
        sa.Column("description", sa.Text(), nullable=True, comment="What was bought; null when not told"),
        sa.Column("amount", sa.Numeric(), nullable=True, comment="Price of one, in major units; null when not told"),
        sa.Column(
            "total_amount", sa.Numeric(), nullable=True, comment="Price of the line, in major units; null when not told"
        ),
        sa.Column("quantity", sa.Numeric(), nullable=True, comment="How many, or how much; null when not told"),
        sa.Column(
            "currency", sa.Text(), nullable=True, comment="Currency of the amounts (ISO 4217); null when not told"
        ),
        sa.Column(
            "card_holder_reference_id",
            sa.Text(),
            nullable=False,
            comment="The EMS's own id of the card holder (source: card_holder.reference_id)",
        ),
        sa.Column(
            "card_issuer",
            sa.Text(),
            nullable=True,
            comment="Issuer of the card (source: transaction.card_issuer); null when not told",
        ),
        sa.Column(
            "occurred_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the event that these values come from reached us, or OpenCard's first attempt at it, in UTC",
        ),
        sa.Column(
            "delivery_id",
            sa.BigInteger(),
            nullable=False,
            comment="Delivery that the current values come from (receiver.deliveries.id)",
        ),
        sa.PrimaryKeyConstraint(
            "organization_reference_id", "transaction_id", "line_number", name=op.f("pk_line_items")
        ),
        schema="ems",
        comment="Items bought; a newer event replaces a purchase's set.",
    )
    op.create_table(
        "receipts",
        sa.Column(
            "organization_reference_id",
            sa.Text(),
            nullable=False,
            comment="The EMS's own id of the organization (source: organization.reference_id)",
        ),
        sa.Column(
            "transaction_id",
            sa.Text(),
            nullable=False,
            comment="OpenCard's id of the transaction, the same through all its states (source: transaction.id)",
        ),
        sa.Column("url", sa.Text(), nullable=False, comment="Address of the file at OpenCard; expires"),
        sa.Column(
            "card_holder_reference_id",
            sa.Text(),
            nullable=False,
            comment="The EMS's own id of the card holder (source: card_holder.reference_id)",
        ),
        sa.Column(
            "card_issuer",
            sa.Text(),
            nullable=True,
            comment="Issuer of the card (source: transaction.card_issuer); null when not told",
        ),
        sa.Column("content_type", sa.Text(), nullable=True, comment="Media type of the file; null when not told"),
        sa.Column(
            "expiration_time",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Until when url works, in UTC (OpenCard tells no zone; taken as UTC); null when not told",
        ),
        sa.Column("purchase_merchant", sa.Text(), nullable=True, comment="Merchant on the receipt; null when not told"),
        sa.Column(
            "original_amount",
            sa.Numeric(),
            nullable=True,
            comment="Amount on the receipt, in major units; null when not told",
        ),
        sa.Column(
            "original_currency",
            sa.Text(),
            nullable=True,
            comment="Currency of original_amount (ISO 4217); null when not told",
        ),
        sa.Column("purchase_date", sa.Date(), nullable=True, comment="Day on the receipt; null when not told"),
        sa.Column(
            "purchase_time",
            sa.Time(),
            nullable=True,
            comment="Time of day on the receipt, local to the shop; null when not told",
        ),
        sa.Column(
            "fetched_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the receipt's event was learned, in UTC",
        ),
        sa.Column("file_key", sa.Text(), nullable=True, comment="Name of the stored file; null until downloaded"),
        sa.Column(
            "file_size",
            sa.BigInteger(),
            nullable=True,
            comment="Size of the stored file in bytes; null until downloaded",
        ),
        sa.Column(
            "file_sha256",
            sa.Text(),
            nullable=True,
            comment="SHA-256 of the stored file, hexadecimal; null until downloaded",
        ),
        sa.Column(
            "downloaded_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When the file was stored, in UTC; null until downloaded",
        ),
        sa.Column(
            "download_error", sa.Text(), nullable=True, comment="Why the last download failed; null when none failed"
        ),
        sa.Column(
            "delivery_id",
            sa.BigInteger(),
            nullable=False,
            comment="Delivery that the current values come from (receiver.deliveries.id)",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When this row last changed here, in UTC; follows arrival, not the purchase",
        ),
        sa.PrimaryKeyConstraint("organization_reference_id", "transaction_id", "url", name=op.f("pk_receipts")),
        schema="ems",
        comment="Digital receipts matched to purchases, and the stored file of each once downloaded.",
    )
    op.create_table(
        "tpas",
        sa.Column(
            "organization_reference_id",
            sa.Text(),
            nullable=False,
            comment="The EMS's own id of the organization (source: organization.reference_id)",
        ),
        sa.Column("id", sa.Text(), nullable=False, comment="OpenCard's id of the TPA"),
        sa.Column("name", sa.Text(), nullable=True, comment="Name of the organization on the TPA; null when not told"),
        sa.Column(
            "organization_number", sa.Text(), nullable=True, comment="Company registration number; null when not told"
        ),
        sa.Column("url", sa.Text(), nullable=True, comment="Address of the signed PDF at OpenCard; null when not told"),
        sa.Column(
            "signed_at", sa.DateTime(timezone=True), nullable=False, comment="When first learned as signed, in UTC"
        ),
        sa.Column(
            "occurred_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the event that these values come from reached us, or OpenCard's first attempt at it, in UTC",
        ),
        sa.Column(
            "delivery_id",
            sa.BigInteger(),
            nullable=False,
            comment="Delivery that the current values come from (receiver.deliveries.id)",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When this row last changed here, in UTC; follows arrival, not the purchase",
        ),
        sa.PrimaryKeyConstraint("organization_reference_id", "id", name=op.f("pk_tpas")),
        schema="ems",
        comment="Processing authorizations (TPAs) of organizations, once fully signed.",
    )
    op.create_table(
        "transaction_states",
        sa.Column(
            "id",
            sa.BigInteger(),
            sa.Identity(always=True),
            nullable=False,
            comment="Number of the snapshot; no order is meant by it",
        ),
        sa.Column(
            "organization_reference_id",
            sa.Text(),
            nullable=False,
            comment="The EMS's own id of the organization (source: organization.reference_id)",
        ),
        sa.Column(
            "transaction_id",
            sa.Text(),
            nullable=False,
            comment="OpenCard's id of the transaction, the same through all its states (source: transaction.id)",
        ),
        sa.Column(
            "state",
            sa.Text(),
            nullable=False,
            comment="authorized, deleted, cleared or invoiced: what this snapshot tells",
        ),
        sa.Column(
            "card_issuer_reference",
            sa.Text(),
            nullable=True,
            comment="The issuer's reference of this state; null when not told",
        ),
        sa.Column(
            "original_amount",
            sa.Numeric(),
            nullable=True,
            comment="Amount in the currency of the purchase, in major units",
        ),
        sa.Column("original_currency", sa.Text(), nullable=True, comment="Currency of the purchase (ISO 4217)"),
        sa.Column(
            "accounting_amount",
            sa.Numeric(),
            nullable=True,
            comment="Amount in the customer's home currency, in major units",
        ),
        sa.Column("accounting_currency", sa.Text(), nullable=True, comment="The customer's home currency (ISO 4217)"),
        sa.Column(
            "vat_amount", sa.Numeric(), nullable=True, comment="VAT from the card network in major units, often wrong"
        ),
        sa.Column("vat_currency", sa.Text(), nullable=True, comment="Currency of vat_amount (ISO 4217)"),
        sa.Column(
            "payload",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="The whole snapshot, unknown fields included",
        ),
        sa.Column(
            "occurred_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the event that these values come from reached us, or OpenCard's first attempt at it, in UTC",
        ),
        sa.Column(
            "delivery_id",
            sa.BigInteger(),
            nullable=False,
            comment="Delivery that brought the snapshot (receiver.deliveries.id)",
        ),
        sa.CheckConstraint(
            "state IN ('authorized', 'deleted', 'cleared', 'invoiced')", name=op.f("ck_transaction_states_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transaction_states")),
        sa.UniqueConstraint("delivery_id", name=op.f("uq_transaction_states_delivery_id")),
        schema="ems",
        comment="Every distinct snapshot of a transaction, as told, also those that came late and changed nothing. Retries are not repeated here.",
    )
    op.create_index(
        "ix_transaction_states_transaction",
        "transaction_states",
        ["organization_reference_id", "transaction_id"],
        unique=False,
        schema="ems",
    )
    op.create_table(
        "transactions",
        sa.Column(
            "organization_reference_id",
            sa.Text(),
            nullable=False,
            comment="The EMS's own id of the organization (source: organization.reference_id)",
        ),
        sa.Column(
            "id", sa.Text(), nullable=False, comment="OpenCard's id of the transaction, the same through all its states"
        ),
        sa.Column(
            "state", sa.Text(), nullable=False, comment="authorized, deleted, cleared or invoiced: what holds now"
        ),
        sa.Column(
            "card_holder_reference_id",
            sa.Text(),
            nullable=False,
            comment="The EMS's own id of the card holder (source: card_holder.reference_id)",
        ),
        sa.Column(
            "receiptable",
            sa.Boolean(),
            nullable=True,
            comment="Whether a digital receipt can be fetched; null when not told",
        ),
        sa.Column("card_issuer", sa.Text(), nullable=True, comment="Issuer of the card; null when not told"),
        sa.Column(
            "card_issuer_reference",
            sa.Text(),
            nullable=True,
            comment="The issuer's reference of the current state; differs per state, not unique; null when not told",
        ),
        sa.Column(
            "card_issuer_customer_number",
            sa.Text(),
            nullable=True,
            comment="The issuer's number of the customer; null when not told",
        ),
        sa.Column(
            "type", sa.Text(), nullable=True, comment="Kind of transaction as the issuer names it; null when not told"
        ),
        sa.Column(
            "invoice_number", sa.Text(), nullable=True, comment="Number of the issuer's invoice; null until invoiced"
        ),
        sa.Column(
            "invoice_date", sa.Date(), nullable=True, comment="Date of the issuer's invoice; null until invoiced"
        ),
        sa.Column(
            "original_amount",
            sa.Numeric(),
            nullable=True,
            comment="Amount in the currency of the purchase, in major units; negative for a refund; may change until cleared",
        ),
        sa.Column(
            "original_currency",
            sa.Text(),
            nullable=True,
            comment="Currency of the purchase (ISO 4217); null when not told",
        ),
        sa.Column(
            "vat_rate",
            sa.Numeric(),
            nullable=True,
            comment="VAT rate from the card network, often wrong; the ledger prefers the merchant's; null when not told",
        ),
        sa.Column(
            "vat_amount",
            sa.Numeric(),
            nullable=True,
            comment="VAT from the card network in major units, often wrong; the ledger prefers the merchant's; null when not told",
        ),
        sa.Column(
            "vat_currency", sa.Text(), nullable=True, comment="Currency of vat_amount (ISO 4217); null when not told"
        ),
        sa.Column(
            "accounting_amount",
            sa.Numeric(),
            nullable=True,
            comment="Amount in the customer's home currency, in major units; final once cleared; null when not told",
        ),
        sa.Column(
            "accounting_currency",
            sa.Text(),
            nullable=True,
            comment="The customer's home currency (ISO 4217); null when not told",
        ),
        sa.Column(
            "exchange_rate",
            sa.Numeric(),
            nullable=True,
            comment="Rate between original and accounting amount; null when not told",
        ),
        sa.Column(
            "purchase_merchant",
            sa.Text(),
            nullable=True,
            comment="Merchant as the card network names it; null when not told",
        ),
        sa.Column(
            "purchase_merchant_common",
            sa.Text(),
            nullable=True,
            comment="Merchant's normalized name; null when not told",
        ),
        sa.Column(
            "purchase_date",
            sa.Date(),
            nullable=True,
            comment="Day of the purchase at the place of the purchase; null when not told",
        ),
        sa.Column(
            "purchase_time", sa.Time(), nullable=True, comment="Time of day in purchase_timezone; null when not told"
        ),
        sa.Column(
            "purchase_timezone", sa.Text(), nullable=True, comment="Time zone of purchase_time; null when not told"
        ),
        sa.Column(
            "purchase_country", sa.Text(), nullable=True, comment="Country (ISO 3166 alpha-2); null when not told"
        ),
        sa.Column("purchase_city", sa.Text(), nullable=True, comment="City; null when not told"),
        sa.Column("card_id", sa.BigInteger(), nullable=True, comment="OpenCard's id of the card; null when not told"),
        sa.Column("card_product", sa.Text(), nullable=True, comment="Product name of the card; null when not told"),
        sa.Column(
            "card_type",
            sa.Text(),
            nullable=True,
            comment="private, corporate or corporate_with_private_invoice; null when not told",
        ),
        sa.Column(
            "card_last_four",
            sa.Text(),
            nullable=True,
            comment="Last four digits of the card number (personal); null when not told",
        ),
        sa.Column(
            "mcc_code", sa.Text(), nullable=True, comment="Merchant category code (ISO 18245); null when not told"
        ),
        sa.Column("mcc_text", sa.Text(), nullable=True, comment="Name of the merchant category; null when not told"),
        sa.Column(
            "mcc_top_level", sa.Text(), nullable=True, comment="Top level of the merchant category; null when not told"
        ),
        sa.Column(
            "branch_code",
            sa.Text(),
            nullable=True,
            comment="Code of the merchant's line of business; null when not told",
        ),
        sa.Column(
            "branch_text",
            sa.Text(),
            nullable=True,
            comment="Name of the merchant's line of business; null when not told",
        ),
        sa.Column(
            "category_text", sa.Text(), nullable=True, comment="OpenCard's spending category; null when not told"
        ),
        sa.Column(
            "cleared_card_issuer_reference",
            sa.Text(),
            nullable=True,
            comment="The issuer's reference of the cleared state, kept through later states: matches purchases of another feed, cleared against cleared; null until cleared",
        ),
        sa.Column(
            "cleared_snapshot_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When the snapshot of cleared_card_issuer_reference was learned, in UTC; null until cleared",
        ),
        sa.Column(
            "authorized_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When first learned as authorized, in UTC; null when never told",
        ),
        sa.Column(
            "cleared_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When first learned as cleared, in UTC; null when never told",
        ),
        sa.Column(
            "invoiced_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When first learned as invoiced, in UTC; null when never told",
        ),
        sa.Column(
            "deleted_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When first learned as deleted, in UTC; stays as a fact when a later clearing revives the purchase",
        ),
        sa.Column(
            "snapshot_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the event that these values come from reached us, or OpenCard's first attempt at it, in UTC",
        ),
        sa.Column(
            "delivery_id",
            sa.BigInteger(),
            nullable=False,
            comment="Delivery that the current values come from (receiver.deliveries.id)",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When this row last changed here, in UTC; follows arrival, not the purchase",
        ),
        sa.CheckConstraint(
            "state IN ('authorized', 'deleted', 'cleared', 'invoiced')", name=op.f("ck_transactions_state")
        ),
        sa.PrimaryKeyConstraint("organization_reference_id", "id", name=op.f("pk_transactions")),
        schema="ems",
        comment="Card purchases, one row each, as they stand now: the snapshot of the highest state (authorized < deleted < cleared < invoiced), the newest among equals. A deleted purchase stays as a row.",
    )
    op.create_index(
        "ix_transactions_card_holder",
        "transactions",
        ["organization_reference_id", "card_holder_reference_id"],
        unique=False,
        schema="ems",
    )
    op.create_index(
        "ix_transactions_cleared_card_issuer_reference",
        "transactions",
        ["cleared_card_issuer_reference"],
        unique=False,
        schema="ems",
        postgresql_where=sa.text("cleared_card_issuer_reference IS NOT NULL"),
    )
    op.create_index(
        "ix_transactions_state_updated_at", "transactions", ["state", "updated_at"], unique=False, schema="ems"
    )
    op.create_table(
        "vat_rates",
        sa.Column(
            "organization_reference_id",
            sa.Text(),
            nullable=False,
            comment="The EMS's own id of the organization (source: organization.reference_id)",
        ),
        sa.Column(
            "transaction_id",
            sa.Text(),
            nullable=False,
            comment="OpenCard's id of the transaction, the same through all its states (source: transaction.id)",
        ),
        sa.Column(
            "line_number",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="Position in the merchant's list, from 1",
        ),
        sa.Column(
            "vat_amount", sa.Numeric(), nullable=True, comment="VAT of this rate, in major units; null when not told"
        ),
        sa.Column(
            "taxable_amount",
            sa.Numeric(),
            nullable=True,
            comment="Amount without VAT, in major units; null when not told",
        ),
        sa.Column(
            "total_amount", sa.Numeric(), nullable=True, comment="Amount with VAT, in major units; null when not told"
        ),
        sa.Column(
            "percentage", sa.Numeric(), nullable=True, comment="The rate in percent (25 means 25 %); null when not told"
        ),
        sa.Column(
            "currency", sa.Text(), nullable=True, comment="Currency of the amounts (ISO 4217); null when not told"
        ),
        sa.Column(
            "purchase_country",
            sa.Text(),
            nullable=True,
            comment="Country of the purchase (ISO 3166 alpha-2); null when not told",
        ),
        sa.Column(
            "card_holder_reference_id",
            sa.Text(),
            nullable=False,
            comment="The EMS's own id of the card holder (source: card_holder.reference_id)",
        ),
        sa.Column(
            "card_issuer",
            sa.Text(),
            nullable=True,
            comment="Issuer of the card (source: transaction.card_issuer); null when not told",
        ),
        sa.Column(
            "occurred_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the event that these values come from reached us, or OpenCard's first attempt at it, in UTC",
        ),
        sa.Column(
            "delivery_id",
            sa.BigInteger(),
            nullable=False,
            comment="Delivery that the current values come from (receiver.deliveries.id)",
        ),
        sa.PrimaryKeyConstraint(
            "organization_reference_id", "transaction_id", "line_number", name=op.f("pk_vat_rates")
        ),
        schema="ems",
        comment="VAT by rate from the merchant's receipt; a newer event replaces a purchase's set.",
    )
    op.create_table(
        "vat_totals",
        sa.Column(
            "organization_reference_id",
            sa.Text(),
            nullable=False,
            comment="The EMS's own id of the organization (source: organization.reference_id)",
        ),
        sa.Column(
            "transaction_id",
            sa.Text(),
            nullable=False,
            comment="OpenCard's id of the transaction, the same through all its states (source: transaction.id)",
        ),
        sa.Column(
            "line_number",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="Position in the merchant's list, from 1",
        ),
        sa.Column(
            "vat_amount", sa.Numeric(), nullable=True, comment="VAT in total, in major units; null when not told"
        ),
        sa.Column(
            "taxable_amount",
            sa.Numeric(),
            nullable=True,
            comment="Amount without VAT, in major units; null when not told",
        ),
        sa.Column(
            "total_amount", sa.Numeric(), nullable=True, comment="Amount with VAT, in major units; null when not told"
        ),
        sa.Column(
            "currency", sa.Text(), nullable=True, comment="Currency of the amounts (ISO 4217); null when not told"
        ),
        sa.Column(
            "purchase_country",
            sa.Text(),
            nullable=True,
            comment="Country of the purchase (ISO 3166 alpha-2); null when not told",
        ),
        sa.Column(
            "card_holder_reference_id",
            sa.Text(),
            nullable=False,
            comment="The EMS's own id of the card holder (source: card_holder.reference_id)",
        ),
        sa.Column(
            "card_issuer",
            sa.Text(),
            nullable=True,
            comment="Issuer of the card (source: transaction.card_issuer); null when not told",
        ),
        sa.Column(
            "occurred_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the event that these values come from reached us, or OpenCard's first attempt at it, in UTC",
        ),
        sa.Column(
            "delivery_id",
            sa.BigInteger(),
            nullable=False,
            comment="Delivery that the current values come from (receiver.deliveries.id)",
        ),
        sa.PrimaryKeyConstraint(
            "organization_reference_id", "transaction_id", "line_number", name=op.f("pk_vat_totals")
        ),
        schema="ems",
        comment="VAT in total from the merchant's receipt; a newer event replaces a purchase's set.",
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("webhook_id", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False, comment="X-Event, as received"),
        sa.Column("version", sa.Text(), nullable=True, comment="X-Version, as received"),
        sa.Column("body", sa.LargeBinary(), nullable=False, comment="raw bytes, as received"),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="without credentials"),
        sa.Column("verification", sa.Text(), nullable=False, comment="what proved that it is authentic"),
        sa.Column(
            "source", sa.Text(), server_default="push", nullable=False, comment="push, or log: recovered by reconcile"
        ),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "occurred_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="push: when it was received; log: the first attempt's time",
        ),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column(
            "attempts", sa.Integer(), server_default="0", nullable=False, comment="how often processing was tried"
        ),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=True),
        sa.Column("processed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True, comment="of the last attempt"),
        sa.Column(
            "confirmed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when reconcile found it in the provider's log",
        ),
        sa.Column(
            "suspect",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="processed alone: it failed, or was in a batch that did",
        ),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=True, comment="SHA-256 of the event by value"),
        sa.Column("transaction_id", sa.Text(), nullable=True, comment="once understood"),
        sa.Column("card_holder_reference_id", sa.Text(), nullable=True, comment="once understood"),
        sa.CheckConstraint("source IN ('push', 'log')", name=op.f("ck_deliveries_source")),
        sa.CheckConstraint(
            "status IN ('pending', 'processed', 'duplicate', 'ignored', 'quarantined', 'failed', 'dead')",
            name=op.f("ck_deliveries_status"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        schema="receiver",
    )
    op.create_index(
        "ix_deliveries_card_holder_events",
        "deliveries",
        ["card_holder_reference_id", "occurred_at"],
        unique=False,
        schema="receiver",
        postgresql_where=sa.text("card_holder_reference_id IS NOT NULL AND event LIKE 'card\\_holder.%'"),
    )
    op.create_index(
        "ix_deliveries_waiting",
        "deliveries",
        ["next_attempt_at", "id"],
        unique=False,
        schema="receiver",
        postgresql_where=sa.text("status IN ('pending', 'failed')"),
    )
    op.create_index(
        "ix_deliveries_webhook_id_received_at",
        "deliveries",
        ["webhook_id", "received_at"],
        unique=False,
        schema="receiver",
    )
    op.create_table(
        "enrichment_versions",
        sa.Column("organization_reference_id", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivery_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "organization_reference_id", "transaction_id", "event", name=op.f("pk_enrichment_versions")
        ),
        schema="receiver",
    )
    op.create_table(
        "known_events",
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("occurrences", sa.ARRAY(sa.DateTime(timezone=True)), nullable=False, comment="occurred_at of each"),
        sa.Column("delivery_ids", sa.ARRAY(sa.BigInteger()), nullable=False, comment="the delivery that brought each"),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_known_events")),
        schema="receiver",
    )
    op.create_table(
        "processing_batches",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("delivery_ids", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "server_started_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="when PostgreSQL was started that saw the claim",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_processing_batches")),
        schema="receiver",
    )
    op.create_table(
        "replays",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("filter", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("selected", sa.Integer(), server_default="0", nullable=False),
        sa.Column("processed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failed", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replays")),
        schema="receiver",
    )
    op.create_table(
        "webhooks",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("opencard_webhook_id", sa.BigInteger(), nullable=True, comment="the provider's id"),
        sa.Column("organization_id", sa.BigInteger(), nullable=False, comment="the provider's id of the organization"),
        sa.Column("organization_reference_id", sa.Text(), nullable=False, comment="the EMS's id of the organization"),
        sa.Column("endpoint_key", sa.Text(), nullable=False, comment="unguessable last part of the endpoint's path"),
        sa.Column("secret", sa.LargeBinary(), nullable=False, comment="encrypted"),
        sa.Column("previous_secret", sa.LargeBinary(), nullable=True, comment="encrypted; good while one is rotated"),
        sa.Column("previous_secret_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("authentication_type", sa.Text(), server_default="none", nullable=False),
        sa.Column("credentials", sa.LargeBinary(), nullable=True, comment="encrypted JSON object"),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "authentication_type IN ('none', 'basic', 'custom')", name=op.f("ck_webhooks_authentication_type")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
        sa.UniqueConstraint("endpoint_key", name=op.f("uq_webhooks_endpoint_key")),
        sa.UniqueConstraint("opencard_webhook_id", name=op.f("uq_webhooks_opencard_webhook_id")),
        schema="receiver",
    )
    op.create_index(
        op.f("ix_webhooks_organization_reference_id"),
        "webhooks",
        ["organization_reference_id"],
        unique=False,
        schema="receiver",
    )
    op.create_table(
        "delivery_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("webhook_id", sa.BigInteger(), nullable=False),
        sa.Column("opencard_event_id", sa.Text(), nullable=True, comment="the log's id of the entry, if it has one"),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("response_status", sa.Integer(), nullable=True, comment="what we answered, as the log has it"),
        sa.Column("attempted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=True, comment="SHA-256 of the event by value"),
        sa.Column("item", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="the log's item, whole"),
        sa.Column("read_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["receiver.webhooks.id"], name=op.f("fk_delivery_log_webhook_id_webhooks")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery_log")),
        schema="receiver",
    )
    op.create_index(
        "ix_delivery_log_webhook_id_attempted_at",
        "delivery_log",
        ["webhook_id", "attempted_at"],
        unique=False,
        schema="receiver",
    )
    op.create_index(
        "ix_delivery_log_webhook_id_fingerprint",
        "delivery_log",
        ["webhook_id", "fingerprint"],
        unique=False,
        schema="receiver",
    )
    op.create_table(
        "processing_attempts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("delivery_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, comment="1 for the first try of this delivery"),
        sa.Column("attempted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False, comment="the status that the delivery got by it"),
        sa.Column("error", sa.Text(), nullable=False, comment="one line for a person"),
        sa.Column("trace", sa.Text(), nullable=True, comment="the traceback, when there was an exception to explain"),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["receiver.deliveries.id"],
            name=op.f("fk_processing_attempts_delivery_id_deliveries"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_processing_attempts")),
        schema="receiver",
    )
    op.create_index(
        op.f("ix_processing_attempts_delivery_id"),
        "processing_attempts",
        ["delivery_id"],
        unique=False,
        schema="receiver",
    )
    op.create_table(
        "reconcile_runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("webhook_id", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("watermark", sa.DateTime(timezone=True), nullable=True, comment="checked up to here"),
        sa.Column("log_entries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("matched", sa.Integer(), server_default="0", nullable=False),
        sa.Column("recovered", sa.Integer(), server_default="0", nullable=False),
        sa.Column("unconfirmed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("unrecoverable", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["receiver.webhooks.id"], name=op.f("fk_reconcile_runs_webhook_id_webhooks")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reconcile_runs")),
        schema="receiver",
    )
    op.create_index(
        "ix_reconcile_runs_webhook_id_started_at",
        "reconcile_runs",
        ["webhook_id", "started_at"],
        unique=False,
        schema="receiver",
    )
    op.execute(LEDGER)
    comment("VIEW ems.ledger", LEDGER_COMMENT)
    for column, words in LEDGER_COLUMN_COMMENTS.items():
        comment(f"COLUMN ems.ledger.{column}", words)


def downgrade() -> None:
    raise NotImplementedError("going back before the first migration would delete everything that was received")

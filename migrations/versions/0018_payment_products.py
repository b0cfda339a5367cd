"""Payment product and funding of a purchase, purchases without a receipt, and comments that say what is open.

Columns are added at the end of the ledger and of what is pending.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
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
    t.updated_at,
    t.vat_rate AS network_vat_rate,
    t.vat_amount AS network_vat_amount,
    t.vat_currency AS network_vat_currency,
    receipt.content_type AS receipt_content_type,
    coalesce(receipt.number, 0) AS number_of_receipts,
    t.type,
    t.mcc_text,
    t.card_product,
    t.card_last_four,
    t.card_issuer_customer_number,
    t.authorized_at,
    t.deleted_at,
    t.payment_product_id,
    t.payment_product_name,
    t.card_funding
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
                    AND total.vat_amount IS NOT NULL AND total.currency IS NOT NULL
            )
    ) AS line
    WHERE line.vat_amount IS NOT NULL AND line.currency IS NOT NULL
    GROUP BY line.currency
    ORDER BY line.currency = t.original_currency DESC NULLS LAST,
        line.currency = t.accounting_currency DESC NULLS LAST, line.currency
    LIMIT 1
) AS merchant_vat ON true
LEFT JOIN LATERAL (
    SELECT url, file_key, content_type, count(*) OVER () AS number FROM ems.receipts AS r
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
PENDING_TRANSACTIONS = """
CREATE OR REPLACE VIEW ems.pending_transactions AS
SELECT
    t.organization_reference_id,
    t.id AS transaction_id,
    t.card_holder_reference_id,
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
    t.card_issuer,
    t.card_id,
    t.card_last_four,
    receipt.url AS receipt_url,
    receipt.file_key AS receipt_file_key,
    t.authorized_at,
    now() - t.authorized_at AS age,
    floor(extract(epoch FROM now() - t.authorized_at) / 86400)::integer AS days_open,
    t.updated_at,
    t.payment_product_id,
    t.payment_product_name,
    t.card_funding
FROM ems.transactions AS t
LEFT JOIN LATERAL (
    SELECT url, file_key FROM ems.receipts AS r
    WHERE r.organization_reference_id = t.organization_reference_id AND r.transaction_id = t.id
    ORDER BY (r.file_key IS NOT NULL) DESC, r.fetched_at DESC, r.url
    LIMIT 1
) AS receipt ON true
WHERE t.state = 'authorized'
"""
MISSING_RECEIPTS = """
CREATE OR REPLACE VIEW ems.missing_receipts AS
SELECT
    t.organization_reference_id,
    t.id AS transaction_id,
    t.card_holder_reference_id,
    t.state,
    t.purchase_date,
    t.purchase_time,
    t.purchase_timezone,
    coalesce(t.purchase_merchant_common, t.purchase_merchant) AS merchant,
    t.accounting_amount,
    t.accounting_currency,
    t.original_amount,
    t.original_currency,
    t.card_issuer,
    t.cleared_at,
    t.invoiced_at,
    now() - coalesce(t.cleared_at, t.invoiced_at) AS age,
    floor(extract(epoch FROM now() - coalesce(t.cleared_at, t.invoiced_at)) / 86400)::integer AS days_missing,
    t.updated_at
FROM ems.transactions AS t
WHERE t.receiptable AND t.state IN ('cleared', 'invoiced') AND NOT EXISTS (
    SELECT FROM ems.receipts AS r
    WHERE r.organization_reference_id = t.organization_reference_id AND r.transaction_id = t.id
)
"""
ADDED = {
    "payment_product_id": "OpenCard's id of the payment product that the card belongs to (source: payment_product.id); null when not reported",
    "payment_product_name": "Name of the payment product (source: payment_product.name); null when not reported",
    "card_funding": "debit or credit, as it arrives; null when not reported",
}
COMMENTS = {
    "ems.transactions.receiptable": "Whether a digital receipt exists at a partner of OpenCard's (older pages say: may come); null when not reported",
    "ems.transactions.type": "Kind of transaction as the issuer names it; card, CARD_PURCHASE, CASH_WITHDRAWAL and FEE_AND_DISCOUNT have been seen, and the list is open; null when not reported",
    "ems.transactions.vat_rate": "VAT rate from the card network, as it arrives, often wrong; whether it is percent (25) or a fraction (0.25) is not documented; the ledger prefers the merchant's VAT; null when not reported",
    "ems.line_items.amount": "Price of one in major units of currency, or of the whole line: of weighed goods it equals total_amount; null when not reported",
    "ems.line_items.quantity": "How many, or how much: may be a fraction (0.195 of a weighed good); null when not reported",
    "ems.ledger.network_vat_rate": "VAT rate from the card network, as it arrives, often wrong; whether percent (25) or a fraction (0.25) is not documented; null when not reported",
    "ems.ledger.type": "Kind of transaction as the issuer names it; card, CARD_PURCHASE, CASH_WITHDRAWAL and FEE_AND_DISCOUNT have been seen, and the list is open; null when not reported",
    "ems.ledger.payment_product_id": "OpenCard's id of the payment product that the card belongs to; null when not reported",
    "ems.ledger.payment_product_name": "Name of the payment product; null when not reported",
    "ems.ledger.card_funding": "debit or credit, as it arrives; null when not reported",
    "ems.pending_transactions.payment_product_id": "OpenCard's id of the payment product that the card belongs to; null when not reported",
    "ems.pending_transactions.payment_product_name": "Name of the payment product; null when not reported",
    "ems.pending_transactions.card_funding": "debit or credit, as it arrives; null when not reported",
    "ems.missing_receipts.organization_reference_id": "The EMS's own id of the organization (source: organization.reference_id)",
    "ems.missing_receipts.transaction_id": "OpenCard's id of the transaction (ems.transactions.id)",
    "ems.missing_receipts.card_holder_reference_id": "The EMS's own id of the card holder (source: card_holder.reference_id)",
    "ems.missing_receipts.state": "cleared or invoiced",
    "ems.missing_receipts.purchase_date": "Day of the purchase in the zone purchase_timezone; null when not told",
    "ems.missing_receipts.purchase_time": "Time of day in the zone purchase_timezone; null when not told",
    "ems.missing_receipts.purchase_timezone": "Time zone of purchase_date and purchase_time; null when not reported",
    "ems.missing_receipts.merchant": "Merchant's normalized name, else the card network's; null when neither was told",
    "ems.missing_receipts.accounting_amount": "Final amount in the customer's home currency, in major units, VAT included; negative for a refund; null when not reported",
    "ems.missing_receipts.accounting_currency": "The customer's home currency (ISO 4217); null when not reported",
    "ems.missing_receipts.original_amount": "Final amount in the currency of the purchase, in major units, VAT included; negative for a refund; null when not reported",
    "ems.missing_receipts.original_currency": "Currency of the purchase (ISO 4217); null when not reported",
    "ems.missing_receipts.card_issuer": "Issuer of the card; null when not reported",
    "ems.missing_receipts.cleared_at": "When first learned as cleared, in UTC; null when only reported as invoiced",
    "ems.missing_receipts.invoiced_at": "When first learned as invoiced, in UTC; null until invoiced",
    "ems.missing_receipts.age": "How long the purchase has been in the ledger without a receipt: since cleared_at, else invoiced_at, as of the start of your transaction",
    "ems.missing_receipts.days_missing": "The same in whole days of 24 hours",
    "ems.missing_receipts.updated_at": "When the purchase's row last changed here, in UTC; VAT, receipts and items that come later do not show",
}
MISSING_RECEIPTS_COMMENT = "Purchases in the ledger that are receiptable and have no receipt, one row each: those to ask the card holder about. Some receipts arrive days after the clearing, so filter by age. Where the billing at OpenCard does not include receipts, every receiptable purchase is here."


def comment(on: str, words: str) -> None:
    quoted = words.replace("'", "''")
    op.execute(sa.text(f"COMMENT ON {on} IS '{quoted}'".replace(":", "\\:")))


def upgrade() -> None:
    # In a transaction of their own: a reader locks a view before its tables, so replacing the view in the transaction
    # that holds the lock of the table could deadlock with it.
    with op.get_context().autocommit_block():
        for name, words in ADDED.items():
            added = sa.Column(name, sa.Text(), comment=words)
            op.add_column("transactions", added, schema="ems", if_not_exists=True)
    for view in (LEDGER, PENDING_TRANSACTIONS, MISSING_RECEIPTS):
        op.execute(view)
    for column, words in COMMENTS.items():
        comment(f"COLUMN {column}", words)
    comment("VIEW ems.missing_receipts", MISSING_RECEIPTS_COMMENT)


def downgrade() -> None:
    raise NotImplementedError("the views of an older release lack columns; restore a backup to go back further")

"""The view ``ems.pending_transactions``: what is authorized and still open."""

from __future__ import annotations

from typing import Final

from receiver.records.models.columns import CREDIT
from receiver.records.views import view as v

PENDING_TRANSACTIONS: Final = v.View(
    name="pending_transactions",
    comment="Transactions that are authorized and neither cleared nor deleted, for previews: amounts may still change. "
    "Clearing usually takes 3 to 5 days; a transaction that is open much longer may never be cleared.",
    query="""
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
""",
    columns={
        "organization_reference_id": v.ORGANIZATION,
        "transaction_id": v.TRANSACTION,
        "card_holder_reference_id": v.CARD_HOLDER,
        "purchase_date": v.DAY,
        "purchase_time": v.CLOCK,
        "purchase_timezone": v.TIMEZONE,
        "merchant": v.MERCHANT,
        "purchase_country": v.COUNTRY,
        "purchase_city": "City; null when no state reports it",
        "mcc_code": "Merchant category code (ISO 18245); null when no state reports it",
        "category_text": "OpenCard's spending category; null when no state reports it",
        "accounting_amount": f"Amount in accounting_currency, in major units; {CREDIT}; not final; null when not "
        "reported",
        "accounting_currency": v.ACCOUNTING_CURRENCY,
        "original_amount": f"Amount in the currency of the purchase, in major units; {CREDIT}; not final; null when "
        "not reported",
        "original_currency": v.ORIGINAL_CURRENCY,
        "exchange_rate": "Rate between original and accounting amount, as sent; its direction is not documented by "
        "OpenCard; not final; null when not reported",
        "card_issuer": "Issuer of the card; null when no state reports it",
        "card_id": v.CARD_ID,
        "card_last_four": v.LAST_FOUR,
        "receipt_url": "Address of the receipt at OpenCard, which expires; of several, the newest with a stored file, "
        "else the newest; null without a receipt",
        "receipt_file_key": "Name of the stored file of this receipt; null until downloaded",
        "authorized_at": "When first reported as authorized",
        "age": "Time since authorized_at until the start of your database transaction",
        "days_open": "age in whole days of 24 hours",
        "updated_at": v.UPDATED,
        "payment_product_id": v.PAYMENT_PRODUCT_ID,
        "payment_product_name": v.PAYMENT_PRODUCT_NAME,
        "card_funding": v.CARD_FUNDING,
    },
)

"""The views of schema ``ems``. Migrations keep copies of their own; a test checks that both agree."""

from __future__ import annotations

from typing import Final

LEDGER: Final = """
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

LEDGER_COMMENT: Final = (
    "What accounting books: cleared and invoiced purchases only, one row each, with final amounts. "
    "VAT is the merchant's where a receipt gave it (vat_source tells); its split by rate is in vat_rates."
)

LEDGER_COLUMN_COMMENTS: Final[dict[str, str]] = {
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
    "cleared_card_issuer_reference": "The issuer's reference of the cleared state, for matching with another feed; "
    "null where a purchase was invoiced without being told as cleared",
    "invoice_number": "Number of the issuer's invoice; null until invoiced",
    "invoice_date": "Date of the issuer's invoice; null until invoiced",
    "card_id": "OpenCard's id of the card; null when not told",
    "card_type": "private, corporate or corporate_with_private_invoice; null when not told",
    "cleared_at": "When first learned as cleared, in UTC; null when only told as invoiced",
    "invoiced_at": "When first learned as invoiced, in UTC; null until invoiced",
    "updated_at": "When the purchase's row last changed here, in UTC",
}

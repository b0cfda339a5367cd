"""The view ``ems.ledger``: the transactions to post."""

from __future__ import annotations

from typing import Final

from receiver.records.views import view as v

LEDGER: Final = v.View(
    name="ledger",
    comment="Transactions to post: cleared and invoiced, one row each, with the amounts of the highest state (invoiced "
    "before cleared); a clearing reported after the invoice does not change them. What the highest state does not "
    "report comes from the state below it, as in ems.transactions. A later clearing under the same id replaces the "
    "earlier one: amounts are not added. Changes of day, amounts, currencies, VAT, card holder and receipt_state are "
    "in ledger_journal; those of other columns (state, invoice, merchant) are not. VAT is the "
    "merchant's if a receipt has it, else the card network's (see vat_source); ledger_vat has it by rate. Select a "
    "month by booked_on.",
    query="""
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
    CASE
        WHEN coalesce(t.original_amount, t.accounting_amount) < 0
            THEN -abs(coalesce(merchant_vat.vat_amount, t.vat_amount))
        ELSE coalesce(merchant_vat.vat_amount, t.vat_amount)
    END AS vat_amount,
    CASE
        WHEN merchant_vat.vat_amount IS NOT NULL THEN merchant_vat.currency
        WHEN t.vat_amount IS NOT NULL THEN coalesce(t.vat_currency, t.original_currency)
    END AS vat_currency,
    CASE
        WHEN merchant_vat.vat_amount IS NOT NULL THEN 'merchant'
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
    t.card_funding,
    t.booked_on,
    CASE
        WHEN receipt.url IS NULL THEN 'none'
        WHEN receipt.file_key IS NULL THEN 'reported'
        ELSE 'stored'
    END AS receipt_state
FROM ems.transactions AS t
LEFT JOIN LATERAL (
    SELECT sum(line.vat_amount) AS vat_amount, coalesce(line.currency, t.original_currency) AS currency
    FROM (
        SELECT vat_amount, currency FROM ems.vat_totals AS total
        WHERE total.organization_reference_id = t.organization_reference_id AND total.transaction_id = t.id
        UNION ALL
        SELECT vat_amount, currency FROM ems.vat_rates AS rate
        WHERE rate.organization_reference_id = t.organization_reference_id AND rate.transaction_id = t.id
            AND NOT EXISTS (
                SELECT FROM ems.vat_totals AS total
                WHERE total.organization_reference_id = t.organization_reference_id AND total.transaction_id = t.id
                    AND total.vat_amount IS NOT NULL
            )
    ) AS line
    WHERE line.vat_amount IS NOT NULL
    GROUP BY coalesce(line.currency, t.original_currency)
    ORDER BY coalesce(line.currency, t.original_currency) = t.original_currency DESC NULLS LAST,
        coalesce(line.currency, t.original_currency) = t.accounting_currency DESC NULLS LAST,
        coalesce(line.currency, t.original_currency)
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
""",
    columns={
        "organization_reference_id": v.ORGANIZATION,
        "transaction_id": v.TRANSACTION,
        "card_holder_reference_id": v.CARD_HOLDER,
        "state": "cleared or invoiced",
        "purchase_date": v.DAY,
        "purchase_time": v.CLOCK,
        "purchase_timezone": v.TIMEZONE,
        "merchant": v.MERCHANT,
        "purchase_country": v.COUNTRY,
        "purchase_city": "City; null when no state reports it",
        "mcc_code": "Merchant category code (ISO 18245); null when no state reports it",
        "category_text": "OpenCard's spending category; null when no state reports it",
        "accounting_amount": v.ACCOUNTING_AMOUNT,
        "accounting_currency": v.ACCOUNTING_CURRENCY,
        "original_amount": v.ORIGINAL_AMOUNT,
        "original_currency": v.ORIGINAL_CURRENCY,
        "exchange_rate": v.EXCHANGE_RATE,
        "vat_amount": "VAT in major units of vat_currency, from vat_source; for a credit (original_amount negative, or "
        "accounting_amount if there is none) never positive, whatever sign was sent; null when none was reported",
        "vat_currency": "Currency of vat_amount, as sent, normally ISO 4217. If the VAT is in several currencies: that "
        "of the purchase, else accounting_currency. If the VAT has no currency: that of the purchase; null when no VAT "
        "was reported, or neither has a currency",
        "vat_source": "merchant: from the receipt; network: from the card network, often wrong; null when no VAT was "
        "reported",
        "receipt_url": "Address of the receipt at OpenCard, which expires; of several, the newest with a stored file, "
        "else the newest; null without a receipt",
        "receipt_file_key": "Name of the stored file of this receipt; null until downloaded",
        "number_of_items": "How many lines ems.line_items has for the transaction; 0 without any",
        "card_issuer": "Issuer of the card; null when no state reports it",
        "cleared_card_issuer_reference": "Clearing reference of the issuer; compare it with the clearing reference in "
        "another source, such as the bank's own file; not unique; null when the cleared state has none, and when "
        "the transaction was only reported as invoiced",
        "invoice_number": "Number of the issuer's invoice; whether it is unique across issuers is not documented; null "
        "until invoiced",
        "invoice_date": "Date of the issuer's invoice, a day without a zone; null until invoiced",
        "card_id": v.CARD_ID,
        "card_type": "private, corporate or corporate_with_private_invoice; null when no state reports it",
        "cleared_at": "When first reported as cleared; null when only reported as invoiced",
        "invoiced_at": "When first reported as invoiced; null until invoiced",
        "updated_at": v.UPDATED,
        "network_vat_rate": "VAT rate from the card network, as sent, often wrong; whether percent (25) or a fraction "
        "(0.25) is not documented; null when no state reports it",
        "network_vat_amount": "VAT from the card network, in major units of network_vat_currency, often wrong; sign as "
        "sent, which may be positive for a refund (vat_amount corrects it); null when no state reports it",
        "network_vat_currency": "Currency of network_vat_amount, as sent, normally ISO 4217; null when no state "
        "reports it",
        "receipt_content_type": "Media type of this receipt's file; null when not reported, and without a receipt",
        "number_of_receipts": "How many receipts ems.receipts has for the transaction; 0 without any",
        "type": "Kind of transaction as the issuer names it; card, CARD_PURCHASE, CASH_WITHDRAWAL and FEE_AND_DISCOUNT "
        "have been seen, and the list is open; null when no state reports it",
        "mcc_text": "Name of the merchant category; null when no state reports it",
        "card_product": "Product name of the card; null when no state reports it",
        "card_last_four": v.LAST_FOUR,
        "card_issuer_customer_number": "The issuer's number of the customer; null when no state reports it, or once "
        "the card holder is erased",
        "authorized_at": "When first reported as authorized; null when never reported as authorized",
        "deleted_at": "When first reported as deleted, although the transaction was cleared or invoiced; null when "
        "never reported",
        "payment_product_id": v.PAYMENT_PRODUCT_ID,
        "payment_product_name": v.PAYMENT_PRODUCT_NAME,
        "card_funding": v.CARD_FUNDING,
        "booked_on": v.BOOKED,
        "receipt_state": "none: no receipt was reported; reported: a receipt was reported, and no file is stored; "
        "stored: a file is stored",
    },
)

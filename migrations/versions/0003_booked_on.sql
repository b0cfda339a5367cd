ALTER TABLE ems.transactions ADD COLUMN booked_on DATE;
COMMENT ON COLUMN ems.transactions.booked_on IS 'Day on which the purchase is booked: purchase_date, in its own zone; if none was reported, the day (UTC) on which it was first reported as cleared, else as invoiced; null only while authorized or deleted';

UPDATE ems.transactions
SET booked_on = coalesce(purchase_date, CAST(coalesce(cleared_at, invoiced_at) AT TIME ZONE 'UTC' AS date))
WHERE state IN ('cleared', 'invoiced');

ALTER TABLE ems.transactions
    ADD CONSTRAINT ck_transactions_booked_on CHECK (booked_on IS NOT NULL OR state IN ('authorized', 'deleted'));
CREATE INDEX ix_transactions_booked_on ON ems.transactions (organization_reference_id, booked_on) WHERE booked_on IS NOT NULL;

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
WHERE t.state IN ('cleared', 'invoiced');

COMMENT ON VIEW ems.ledger IS 'What accounting books: cleared and invoiced purchases only, one row each, with final amounts (corrections of them are in ledger_journal). VAT is the merchant''s if a receipt has it, else the card network''s (see vat_source); ledger_vat has it by rate. Select a month by booked_on.';
COMMENT ON COLUMN ems.ledger.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.ledger.transaction_id IS 'OpenCard''s id of the transaction (ems.transactions.id)';
COMMENT ON COLUMN ems.ledger.card_holder_reference_id IS 'The EMS''s own id of the card holder (source: card_holder.reference_id)';
COMMENT ON COLUMN ems.ledger.state IS 'cleared or invoiced';
COMMENT ON COLUMN ems.ledger.purchase_date IS 'Day of the purchase in the zone purchase_timezone; null when not sent';
COMMENT ON COLUMN ems.ledger.purchase_time IS 'Time of day in the zone purchase_timezone; null when not sent';
COMMENT ON COLUMN ems.ledger.purchase_timezone IS 'Time zone of purchase_date and purchase_time; null when not sent';
COMMENT ON COLUMN ems.ledger.merchant IS 'Merchant''s normalized name, else the card network''s; null when neither was sent';
COMMENT ON COLUMN ems.ledger.purchase_country IS 'Country (ISO 3166 alpha-2); null when not sent';
COMMENT ON COLUMN ems.ledger.purchase_city IS 'City; null when not sent';
COMMENT ON COLUMN ems.ledger.mcc_code IS 'Merchant category code (ISO 18245); null when not sent';
COMMENT ON COLUMN ems.ledger.category_text IS 'OpenCard''s spending category; null when not sent';
COMMENT ON COLUMN ems.ledger.accounting_amount IS 'Final amount in the customer''s home currency, in major units, VAT included; negative for a refund; null when not sent';
COMMENT ON COLUMN ems.ledger.accounting_currency IS 'The customer''s home currency (ISO 4217); null when not sent';
COMMENT ON COLUMN ems.ledger.original_amount IS 'Final amount in the currency of the purchase, in major units, VAT included; negative for a refund; null when not sent';
COMMENT ON COLUMN ems.ledger.original_currency IS 'Currency of the purchase (ISO 4217); null when not sent';
COMMENT ON COLUMN ems.ledger.exchange_rate IS 'Rate between original and accounting amount, as sent; null when not sent';
COMMENT ON COLUMN ems.ledger.vat_amount IS 'VAT in major units of vat_currency, from vat_source; for a refund never positive, whatever sign was sent; null when none was reported';
COMMENT ON COLUMN ems.ledger.vat_currency IS 'Currency of vat_amount (ISO 4217); if a receipt has several, that of the purchase, else accounting_currency; if it has none, that of the purchase; null when no VAT was reported';
COMMENT ON COLUMN ems.ledger.vat_source IS 'merchant: from the receipt; network: from the card network, often wrong; null when no VAT was reported';
COMMENT ON COLUMN ems.ledger.receipt_url IS 'Address of the receipt at OpenCard, which expires; of several, the newest with a stored file, else the newest; null without a receipt';
COMMENT ON COLUMN ems.ledger.receipt_file_key IS 'Name of the stored file of this receipt; null until downloaded';
COMMENT ON COLUMN ems.ledger.number_of_items IS 'How many lines ems.line_items has for the purchase; 0 without any';
COMMENT ON COLUMN ems.ledger.card_issuer IS 'Issuer of the card; null when not sent';
COMMENT ON COLUMN ems.ledger.cleared_card_issuer_reference IS 'The issuer''s reference of the cleared state; compare it with the cleared reference in another feed; not unique; null when the purchase was only reported as invoiced';
COMMENT ON COLUMN ems.ledger.invoice_number IS 'Number of the issuer''s invoice; null until invoiced';
COMMENT ON COLUMN ems.ledger.invoice_date IS 'Date of the issuer''s invoice, a day without a zone; null until invoiced';
COMMENT ON COLUMN ems.ledger.card_id IS 'OpenCard''s id of the card; null when not sent';
COMMENT ON COLUMN ems.ledger.card_type IS 'private, corporate or corporate_with_private_invoice; null when not sent';
COMMENT ON COLUMN ems.ledger.cleared_at IS 'When first reported as cleared, in UTC; null when only reported as invoiced';
COMMENT ON COLUMN ems.ledger.invoiced_at IS 'When first reported as invoiced, in UTC; null until invoiced';
COMMENT ON COLUMN ems.ledger.updated_at IS 'When the purchase''s row last changed in this database, in UTC; VAT, receipts and items that arrive later do not change it';
COMMENT ON COLUMN ems.ledger.network_vat_rate IS 'VAT rate from the card network, as sent, often wrong; whether percent (25) or a fraction (0.25) is not documented; null when not reported';
COMMENT ON COLUMN ems.ledger.network_vat_amount IS 'VAT from the card network in major units, often wrong; null when not sent';
COMMENT ON COLUMN ems.ledger.network_vat_currency IS 'Currency of network_vat_amount (ISO 4217); null when not sent';
COMMENT ON COLUMN ems.ledger.receipt_content_type IS 'Media type of this receipt''s file; null when not sent, and without a receipt';
COMMENT ON COLUMN ems.ledger.number_of_receipts IS 'How many receipts ems.receipts has for the purchase; 0 without any';
COMMENT ON COLUMN ems.ledger.type IS 'Kind of transaction as the issuer names it; card, CARD_PURCHASE, CASH_WITHDRAWAL and FEE_AND_DISCOUNT have been seen, and the list is open; null when not reported';
COMMENT ON COLUMN ems.ledger.mcc_text IS 'Name of the merchant category; null when not sent';
COMMENT ON COLUMN ems.ledger.card_product IS 'Product name of the card; null when not sent';
COMMENT ON COLUMN ems.ledger.card_last_four IS 'Last four digits of the card number (personal); null when not sent';
COMMENT ON COLUMN ems.ledger.card_issuer_customer_number IS 'The issuer''s number of the customer; null when not sent';
COMMENT ON COLUMN ems.ledger.authorized_at IS 'When first reported as authorized, in UTC; null when never reported as authorized';
COMMENT ON COLUMN ems.ledger.deleted_at IS 'When first reported as deleted, in UTC, although the purchase was cleared or invoiced; null when never reported';
COMMENT ON COLUMN ems.ledger.payment_product_id IS 'OpenCard''s id of the payment product that the card belongs to; null when not reported';
COMMENT ON COLUMN ems.ledger.payment_product_name IS 'Name of the payment product; null when not reported';
COMMENT ON COLUMN ems.ledger.card_funding IS 'debit or credit, as sent; null when not reported';
COMMENT ON COLUMN ems.ledger.booked_on IS 'Day on which the purchase is booked: purchase_date, in its own zone; if none was reported, the day (UTC) on which it was first reported as cleared, else as invoiced; never null';
COMMENT ON COLUMN ems.ledger.receipt_state IS 'none: no receipt was reported; reported: a receipt was reported, and no file is stored; stored: a file is stored';

CREATE OR REPLACE VIEW ems.ledger_vat AS
SELECT
    line.organization_reference_id,
    line.transaction_id,
    line.card_holder_reference_id,
    line.vat_source,
    vat.percentage,
    vat.vat_amount,
    vat.taxable_amount,
    vat.total_amount,
    line.vat_currency,
    line.purchase_date,
    coalesce(receipt.purchase_country, line.purchase_country) AS purchase_country,
    line.state,
    line.updated_at,
    line.booked_on
FROM ems.ledger AS line
LEFT JOIN LATERAL (
    SELECT stated.purchase_country FROM (
        SELECT purchase_country FROM ems.vat_totals AS total
        WHERE total.organization_reference_id = line.organization_reference_id
            AND total.transaction_id = line.transaction_id
        UNION ALL
        SELECT purchase_country FROM ems.vat_rates AS rate
        WHERE rate.organization_reference_id = line.organization_reference_id
            AND rate.transaction_id = line.transaction_id
    ) AS stated
    WHERE stated.purchase_country <> ''
    LIMIT 1
) AS receipt ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS number, sum(rate.vat_amount) AS vat_amount,
        CASE
            WHEN coalesce(line.original_amount, line.accounting_amount) < 0 AND sum(rate.vat_amount) > 0 THEN -1
            ELSE 1
        END AS sign
    FROM ems.vat_rates AS rate
    WHERE line.vat_source = 'merchant' AND rate.organization_reference_id = line.organization_reference_id
        AND rate.transaction_id = line.transaction_id
        AND coalesce(rate.currency, line.original_currency) IS NOT DISTINCT FROM line.vat_currency
        AND rate.vat_amount IS NOT NULL
) AS rates
CROSS JOIN LATERAL (
    SELECT part.percentage, sum(part.vat_amount) AS vat_amount,
        CASE WHEN count(part.taxable_amount) = count(*) THEN sum(part.taxable_amount) END AS taxable_amount,
        CASE WHEN count(part.total_amount) = count(*) THEN sum(part.total_amount) END AS total_amount
    FROM (
        SELECT rate.percentage, rates.sign * rate.vat_amount AS vat_amount,
            rates.sign * rate.taxable_amount AS taxable_amount, rates.sign * rate.total_amount AS total_amount
        FROM ems.vat_rates AS rate
        WHERE line.vat_source = 'merchant' AND rate.organization_reference_id = line.organization_reference_id
            AND rate.transaction_id = line.transaction_id
            AND coalesce(rate.currency, line.original_currency) IS NOT DISTINCT FROM line.vat_currency
            AND rate.vat_amount IS NOT NULL
        UNION ALL
        SELECT CASE line.vat_source WHEN 'network' THEN line.network_vat_rate END,
            line.vat_amount - coalesce(rates.sign * rates.vat_amount, 0), NULL, NULL
        WHERE line.vat_source IS NOT NULL
            AND (rates.number = 0 OR line.vat_amount <> rates.sign * rates.vat_amount)
    ) AS part
    GROUP BY part.percentage
) AS vat;

COMMENT ON VIEW ems.ledger_vat IS 'The VAT of the ledger by rate: one row for each purchase and rate, in the ledger''s currency and from the ledger''s source. The rows of a purchase add up to its vat_amount in the ledger: if a receipt''s rates do not add up to its total, the difference is in the row whose percentage is null. A purchase without VAT has no row. VAT of a receipt in other currencies is in vat_rates and vat_totals.';
COMMENT ON COLUMN ems.ledger_vat.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.ledger_vat.transaction_id IS 'OpenCard''s id of the transaction (ems.transactions.id)';
COMMENT ON COLUMN ems.ledger_vat.card_holder_reference_id IS 'The EMS''s own id of the card holder (source: card_holder.reference_id)';
COMMENT ON COLUMN ems.ledger_vat.vat_source IS 'merchant: from the receipt; network: from the card network, often wrong';
COMMENT ON COLUMN ems.ledger_vat.percentage IS 'The merchant''s rate in percent (25 means 25 %), or the card network''s rate as sent; null in a row without a rate: a total without rates, or the difference between total and rates';
COMMENT ON COLUMN ems.ledger_vat.vat_amount IS 'VAT of this rate, in major units of vat_currency; for a refund the rows add up to 0 or less';
COMMENT ON COLUMN ems.ledger_vat.taxable_amount IS 'Amount without VAT, in major units of vat_currency; null when not sent, and from the network';
COMMENT ON COLUMN ems.ledger_vat.total_amount IS 'Amount with VAT, in major units of vat_currency; null when not sent, and from the network';
COMMENT ON COLUMN ems.ledger_vat.vat_currency IS 'Currency of the amounts (ISO 4217), as in the ledger; null when no currency was reported, neither of the VAT nor of the purchase';
COMMENT ON COLUMN ems.ledger_vat.purchase_date IS 'Day of the purchase in the zone purchase_timezone; null when not sent';
COMMENT ON COLUMN ems.ledger_vat.purchase_country IS 'Country (ISO 3166 alpha-2) from the receipt, else from the card network; null when neither was sent';
COMMENT ON COLUMN ems.ledger_vat.state IS 'cleared or invoiced';
COMMENT ON COLUMN ems.ledger_vat.updated_at IS 'When the purchase''s row last changed in this database, in UTC; VAT, receipts and items that arrive later do not change it';
COMMENT ON COLUMN ems.ledger_vat.booked_on IS 'Day on which the purchase is booked: purchase_date, in its own zone; if none was reported, the day (UTC) on which it was first reported as cleared, else as invoiced; never null';

CREATE OR REPLACE VIEW ems.possible_duplicates AS
SELECT
    one.organization_reference_id,
    one.id AS transaction_id,
    other.id AS other_transaction_id,
    one.card_issuer,
    one.cleared_card_issuer_reference,
    one.purchase_date,
    one.original_amount,
    one.original_currency,
    coalesce(one.purchase_merchant_common, one.purchase_merchant) AS merchant,
    coalesce(other.purchase_merchant_common, other.purchase_merchant) AS other_merchant,
    one.card_holder_reference_id,
    other.card_holder_reference_id AS other_card_holder_reference_id,
    one.cleared_at,
    other.cleared_at AS other_cleared_at
FROM ems.transactions AS one
JOIN ems.transactions AS other
    ON other.cleared_card_issuer_reference = one.cleared_card_issuer_reference
    AND other.organization_reference_id = one.organization_reference_id
    AND other.id <> one.id
    AND other.card_issuer = one.card_issuer
    AND other.original_amount = one.original_amount
    AND other.original_currency = one.original_currency
    AND other.purchase_date = one.purchase_date
WHERE btrim(one.cleared_card_issuer_reference) <> ''
    AND one.state IN ('cleared', 'invoiced') AND other.state IN ('cleared', 'invoiced');

COMMENT ON VIEW ems.possible_duplicates IS 'Purchases in the ledger that may be one purchase, reported twice: two transaction ids of one organization with the same issuer, the same issuer''s reference of the cleared state, the same original amount and currency, and the same day. Each pair is listed twice, once from each side; transaction_id < other_transaction_id selects it once. Check each by hand: the issuer''s reference is not unique, and a purchase without one is never listed.';
COMMENT ON COLUMN ems.possible_duplicates.organization_reference_id IS 'The EMS''s own id of the organization (source: organization.reference_id)';
COMMENT ON COLUMN ems.possible_duplicates.transaction_id IS 'OpenCard''s id of the transaction (ems.transactions.id)';
COMMENT ON COLUMN ems.possible_duplicates.other_transaction_id IS 'OpenCard''s id of the transaction that looks the same (ems.transactions.id)';
COMMENT ON COLUMN ems.possible_duplicates.card_issuer IS 'Issuer of both cards';
COMMENT ON COLUMN ems.possible_duplicates.cleared_card_issuer_reference IS 'The issuer''s reference of the cleared state of both';
COMMENT ON COLUMN ems.possible_duplicates.purchase_date IS 'Day of both purchases, each in the zone of its own purchase_timezone';
COMMENT ON COLUMN ems.possible_duplicates.original_amount IS 'Final amount of both in the currency of the purchase, in major units';
COMMENT ON COLUMN ems.possible_duplicates.original_currency IS 'Currency of both (ISO 4217)';
COMMENT ON COLUMN ems.possible_duplicates.merchant IS 'Merchant''s normalized name, else the card network''s; null when neither was sent';
COMMENT ON COLUMN ems.possible_duplicates.other_merchant IS 'The same of the other transaction; null when neither was sent';
COMMENT ON COLUMN ems.possible_duplicates.card_holder_reference_id IS 'The EMS''s own id of the card holder (source: card_holder.reference_id)';
COMMENT ON COLUMN ems.possible_duplicates.other_card_holder_reference_id IS 'The EMS''s own id of the other transaction''s card holder';
COMMENT ON COLUMN ems.possible_duplicates.cleared_at IS 'When first reported as cleared, in UTC';
COMMENT ON COLUMN ems.possible_duplicates.other_cleared_at IS 'When the other was first reported as cleared, in UTC';

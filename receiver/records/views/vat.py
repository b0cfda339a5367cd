"""The view ``ems.ledger_vat``: the ledger's VAT by rate."""

from __future__ import annotations

from typing import Final

from receiver.records.views import view as v

LEDGER_VAT: Final = v.View(
    name="ledger_vat",
    comment="The VAT of the ledger by rate: one row for each transaction and rate, in the ledger's currency and from "
    "the ledger's source. The rows of a transaction add up to its vat_amount in the ledger: if a receipt's rates do "
    "not add up to its total, the difference is in the row whose percentage is null. A transaction without VAT has no "
    "row. For a credit (original_amount negative, or accounting_amount if there is none) amounts that the receipt has "
    "as positive are negated. VAT of a receipt in other currencies is in vat_rates and vat_totals.",
    query="""
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
            WHEN coalesce(line.original_amount, line.accounting_amount) < 0 AND coalesce(
                nullif(sum(rate.vat_amount), 0), sum(coalesce(rate.taxable_amount, rate.total_amount))
            ) > 0 THEN -1
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
) AS vat
""",
    columns={
        "organization_reference_id": v.ORGANIZATION,
        "transaction_id": v.TRANSACTION,
        "card_holder_reference_id": v.CARD_HOLDER,
        "vat_source": "merchant: from the receipt; network: from the card network, often wrong",
        "percentage": "The merchant's rate in percent (25 means 25 %), or the card network's rate as sent (percent or "
        "fraction: not documented by OpenCard); null in a row without a rate: a total without rates, or the difference "
        "between total and rates",
        "vat_amount": "VAT of this rate, in major units of vat_currency; for a credit the rows of a transaction add up "
        "to 0 or less",
        "taxable_amount": "Amount without VAT (tax base), in major units of vat_currency; negated with vat_amount for "
        "a credit; null when not reported, and from the network",
        "total_amount": "Amount with VAT, in major units of vat_currency; negated with vat_amount for a credit; null "
        "when not reported, and from the network",
        "vat_currency": "Currency of the amounts (normally ISO 4217), as in the ledger; null when no currency was "
        "reported, neither of the VAT nor of the purchase",
        "purchase_date": v.DAY,
        "purchase_country": "Country (normally ISO 3166 alpha-2) from the receipt, else from the card network; null "
        "when neither was reported",
        "state": "cleared or invoiced",
        "updated_at": v.UPDATED,
        "booked_on": v.BOOKED,
    },
)

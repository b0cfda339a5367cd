"""The view ``ems.ledger_vat``: the ledger's VAT by rate."""

from __future__ import annotations

from typing import Final

from receiver.records.views import view as v

LEDGER_VAT: Final = v.View(
    name="ledger_vat",
    comment="The VAT of each row of the ledger by rate: one row for each purchase and rate, in the ledger's currency "
    "and from the ledger's source. A purchase without VAT has none; what the merchant told in further currencies is in "
    "vat_rates.",
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
    line.purchase_country,
    line.state,
    line.updated_at
FROM ems.ledger AS line
CROSS JOIN LATERAL (
    SELECT rate.percentage, sum(rate.vat_amount) AS vat_amount,
        CASE WHEN count(rate.taxable_amount) = count(*) THEN sum(rate.taxable_amount) END AS taxable_amount,
        CASE WHEN count(rate.total_amount) = count(*) THEN sum(rate.total_amount) END AS total_amount
    FROM ems.vat_rates AS rate
    WHERE line.vat_source = 'merchant' AND rate.organization_reference_id = line.organization_reference_id
        AND rate.transaction_id = line.transaction_id AND rate.currency = line.vat_currency
        AND rate.vat_amount IS NOT NULL
    GROUP BY rate.percentage
    UNION ALL
    SELECT CASE line.vat_source WHEN 'network' THEN line.network_vat_rate END, line.vat_amount, NULL, NULL
    WHERE line.vat_source = 'network' OR line.vat_source = 'merchant' AND NOT EXISTS (
        SELECT FROM ems.vat_rates AS rate
        WHERE rate.organization_reference_id = line.organization_reference_id
            AND rate.transaction_id = line.transaction_id AND rate.currency = line.vat_currency
            AND rate.vat_amount IS NOT NULL
    )
) AS vat
""",
    columns={
        "organization_reference_id": v.ORGANIZATION,
        "transaction_id": v.TRANSACTION,
        "card_holder_reference_id": v.CARD_HOLDER,
        "vat_source": "merchant: from the receipt; network: from the card network, often wrong",
        "percentage": "The merchant's rate in percent (25 means 25 %), or the network's as told; null where only a "
        "total was told",
        "vat_amount": "VAT of this rate, in major units of vat_currency",
        "taxable_amount": "Amount without VAT, in major units of vat_currency; null when not told, and from the "
        "network",
        "total_amount": "Amount with VAT, in major units of vat_currency; null when not told, and from the network",
        "vat_currency": "Currency of the amounts (ISO 4217), the ledger's; null when the network told none",
        "purchase_date": v.DAY,
        "purchase_country": "Country (ISO 3166 alpha-2); null when not told",
        "state": "cleared or invoiced",
        "updated_at": v.UPDATED,
    },
)

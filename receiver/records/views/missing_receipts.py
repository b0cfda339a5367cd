"""The view ``ems.missing_receipts``: purchases that should have a receipt and have none."""

from __future__ import annotations

from typing import Final

from receiver.records.views import view as v

MISSING_RECEIPTS: Final = v.View(
    name="missing_receipts",
    comment="Purchases in the ledger that are receiptable and have no receipt, one row each: those to ask the card "
    "holder about. Some receipts arrive days after the clearing, so filter by age. If the organization's billing "
    "profile at OpenCard does not include receipts, every receiptable purchase is listed.",
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
""",
    columns={
        "organization_reference_id": v.ORGANIZATION,
        "transaction_id": v.TRANSACTION,
        "card_holder_reference_id": v.CARD_HOLDER,
        "state": "cleared or invoiced",
        "purchase_date": v.DAY,
        "purchase_time": v.CLOCK,
        "purchase_timezone": "Time zone of purchase_date and purchase_time; null when not reported",
        "merchant": v.MERCHANT,
        "accounting_amount": "Amount in the organization's home currency, in major units, VAT included; negative for "
        "a refund; null when not reported",
        "accounting_currency": "The organization's home currency (ISO 4217); null when not reported",
        "original_amount": "Amount in the currency of the purchase, in major units, VAT included; negative for a "
        "refund; null when not reported",
        "original_currency": "Currency of the purchase (ISO 4217); null when not reported",
        "card_issuer": "Issuer of the card; null when not reported",
        "cleared_at": "When first reported as cleared, in UTC; null when only reported as invoiced",
        "invoiced_at": "When first reported as invoiced, in UTC; null until invoiced",
        "age": "Time since cleared_at, else invoiced_at, until the start of your database transaction",
        "days_missing": "age in whole days of 24 hours",
        "updated_at": v.UPDATED,
    },
)

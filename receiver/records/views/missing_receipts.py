"""The view ``ems.missing_receipts``: transactions whose digital receipt OpenCard announced and has not sent."""

from __future__ import annotations

from typing import Final

from receiver.records.views import view as v

MISSING_RECEIPTS: Final = v.View(
    name="missing_receipts",
    comment="Transactions in the ledger whose digital receipt OpenCard announced (receiptable) and has not sent, one "
    "row each, credits, fees and withdrawals included. Those that are not receiptable need a receipt as well, and are "
    "not here: all without a receipt are those with number_of_receipts = 0 in ems.ledger. Some receipts arrive days "
    "after the clearing, so filter by age. If the organization's billing profile at OpenCard does not include "
    "receipts, every receiptable transaction is listed.",
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
        "purchase_timezone": v.TIMEZONE,
        "merchant": v.MERCHANT,
        "accounting_amount": v.ACCOUNTING_AMOUNT,
        "accounting_currency": v.ACCOUNTING_CURRENCY,
        "original_amount": v.ORIGINAL_AMOUNT,
        "original_currency": v.ORIGINAL_CURRENCY,
        "card_issuer": "Issuer of the card; null when no state reports it",
        "cleared_at": "When first reported as cleared; null when only reported as invoiced",
        "invoiced_at": "When first reported as invoiced; null until invoiced",
        "age": "Time since cleared_at, else invoiced_at, until the start of your database transaction",
        "days_missing": "age in whole days of 24 hours",
        "updated_at": v.UPDATED,
    },
)

"""The view ``ems.transaction_states``: every distinct snapshot of a transaction, from the event log."""

from __future__ import annotations

from typing import Final

from receiver.records.models.columns import AS_SENT, ATTEMPTED, ISO_CURRENCY
from receiver.records.views import view as v

TRANSACTION_STATES: Final = v.View(
    name="transaction_states",
    comment="Each snapshot of a transaction in ems.events, including those that arrived late and changed nothing; "
    "retries and retracted snapshots are left out.",
    query="""
SELECT
    position AS id,
    organization_reference_id,
    subject_id AS transaction_id,
    payload ->> 'state' AS state,
    CASE WHEN jsonb_typeof(payload -> 'card_issuer_reference') IN ('string', 'number')
        THEN payload ->> 'card_issuer_reference' END AS card_issuer_reference,
    CAST(payload ->> 'original_amount' AS numeric) AS original_amount,
    payload ->> 'original_currency' AS original_currency,
    CAST(payload ->> 'accounting_amount' AS numeric) AS accounting_amount,
    payload ->> 'accounting_currency' AS accounting_currency,
    CAST(payload ->> 'vat_amount' AS numeric) AS vat_amount,
    payload ->> 'vat_currency' AS vat_currency,
    payload,
    occurred_at,
    delivery_id
FROM ems.events
WHERE type IN (
    'card.transaction.authorized', 'card.transaction.cleared', 'card.transaction.deleted', 'card.transaction.invoiced'
)
    AND retracted_at IS NULL
""",
    columns={
        "id": "Position of the snapshot in ems.events (ems.events.position; the name id is fixed)",
        "organization_reference_id": v.ORGANIZATION,
        "transaction_id": v.TRANSACTION,
        "state": "authorized, deleted, cleared or invoiced: what this snapshot reports",
        "card_issuer_reference": "The issuer's reference of this state; null when not reported",
        "original_amount": f"Amount in the currency of the purchase, in major units; {AS_SENT}; null when not reported",
        "original_currency": f"Currency of the purchase, {ISO_CURRENCY}; null when not reported",
        "accounting_amount": f"Amount in accounting_currency, in major units; {AS_SENT}; null when not reported",
        "accounting_currency": f"Currency of accounting_amount, {ISO_CURRENCY}; null when not reported",
        "vat_amount": "VAT from the card network, in major units of vat_currency, often wrong; sign as sent, which may "
        "be positive for a refund; null when not reported",
        "vat_currency": f"Currency of vat_amount, {ISO_CURRENCY}; null when not reported",
        "payload": "The whole snapshot, unknown fields included",
        "occurred_at": ATTEMPTED,
        "delivery_id": "Delivery that contained the snapshot (receiver.deliveries.id)",
    },
)

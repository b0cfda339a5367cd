"""The view ``ems.possible_duplicates``: transactions that may have been reported twice."""

from __future__ import annotations

from typing import Final

from receiver.records.views import view as v

POSSIBLE_DUPLICATES: Final = v.View(
    name="possible_duplicates",
    comment="Transactions in the ledger that may be one transaction, reported twice: two transaction ids of one "
    "organization with the same issuer, the same clearing reference of the issuer, the same original amount and "
    "currency, and the same day. Each pair is listed twice, once from each side; transaction_id < other_transaction_id "
    "selects it once. Check each by hand: the reference is not unique, and a transaction without one is never listed.",
    query="""
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
    AND one.state IN ('cleared', 'invoiced') AND other.state IN ('cleared', 'invoiced')
""",
    columns={
        "organization_reference_id": v.ORGANIZATION,
        "transaction_id": v.TRANSACTION,
        "other_transaction_id": "OpenCard's id of the transaction that looks the same (ems.transactions.id)",
        "card_issuer": "Issuer of both cards",
        "cleared_card_issuer_reference": "Clearing reference of the issuer of both",
        "purchase_date": "Day of both, each in the zone of its own purchase_timezone",
        "original_amount": "Amount of both in the currency of the purchase, in major units, sign as sent",
        "original_currency": "Currency of both, as sent, normally ISO 4217",
        "merchant": v.MERCHANT,
        "other_merchant": "Merchant's normalized name, else the card network's, of the other transaction; null when no "
        "state reports one",
        "card_holder_reference_id": v.CARD_HOLDER,
        "other_card_holder_reference_id": "The EMS's own id of the other transaction's card holder",
        "cleared_at": "When first reported as cleared",
        "other_cleared_at": "When the other was first reported as cleared",
    },
)

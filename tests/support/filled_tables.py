"""Tables with many rows, for plans of queries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, text

if TYPE_CHECKING:
    from collections.abc import Iterator

TRANSACTIONS = 60_000
"""Enough that the planner would rather use an index than read everything."""
FILL = (
    """
INSERT INTO ems.transactions (organization_reference_id, id, state, card_holder_reference_id, card_issuer,
    cleared_card_issuer_reference, original_amount, original_currency, accounting_amount, accounting_currency,
    vat_amount, vat_currency, purchase_date, booked_on, authorized_at, snapshot_at, delivery_id, updated_at)
SELECT 'org-' || n % 50, 'transaction-' || n, (ARRAY['cleared', 'invoiced', 'authorized', 'cleared'])[1 + n % 4],
    'employee-' || n % 5000, 'bank', 'CLR-' || n, n % 997, 'SEK', n % 997, 'SEK', n % 199, 'SEK',
    date '2026-01-01' + n % 300, date '2026-01-01' + n % 300, now(), now(), n, now() - n * interval '1 minute'
FROM generate_series(1, :number) AS n
""",
    """
INSERT INTO ems.receipts (organization_reference_id, transaction_id, url, card_holder_reference_id, fetched_at,
    delivery_id, updated_at)
SELECT organization_reference_id, id, 'https://files.invalid', card_holder_reference_id, now(), delivery_id, now()
FROM ems.transactions WHERE delivery_id % 3 = 0
""",
    """
INSERT INTO ems.vat_rates (organization_reference_id, transaction_id, line_number, vat_amount, percentage, currency,
    card_holder_reference_id, occurred_at, delivery_id)
SELECT organization_reference_id, id, 1, 1, 25, 'SEK', card_holder_reference_id, now(), delivery_id
FROM ems.transactions WHERE delivery_id % 4 = 0
""",
    """
INSERT INTO ems.vat_totals (organization_reference_id, transaction_id, line_number, vat_amount, currency,
    card_holder_reference_id, occurred_at, delivery_id)
SELECT organization_reference_id, id, 1, 1, 'SEK', card_holder_reference_id, now(), delivery_id
FROM ems.transactions WHERE delivery_id % 4 = 0
""",
    """
INSERT INTO ems.line_items (organization_reference_id, transaction_id, line_number, card_holder_reference_id,
    occurred_at, delivery_id)
SELECT organization_reference_id, id, 1, card_holder_reference_id, now(), delivery_id
FROM ems.transactions WHERE delivery_id % 5 = 0
""",
    """
INSERT INTO ems.events (type, organization_reference_id, transaction_id, occurred_at, source, delivery_id, payload,
    subject_id, fingerprint)
SELECT 'card.transaction.cleared', organization_reference_id, id, now(), 'push', delivery_id, '{}', id,
    sha256(id::bytea)
FROM ems.transactions
""",
    "ANALYZE ems.transactions, ems.receipts, ems.vat_rates, ems.line_items, ems.vat_totals, ems.events",
)


EMPTY = re.compile("events_(default|[1-9][0-9]*)")
"""The partition of positions without one, and the next one: without rows, they cost nothing to read."""


@pytest.fixture(scope="module")
def filled(migrated_engine: Engine) -> Iterator[Engine]:
    with migrated_engine.begin() as connection:
        for statement in FILL:
            connection.execute(text(statement), {"number": TRANSACTIONS} if ":number" in statement else {})
    yield migrated_engine
    with migrated_engine.begin() as connection:
        connection.execute(
            text("TRUNCATE ems.transactions, ems.receipts, ems.vat_rates, ems.vat_totals, ems.line_items, ems.events")
        )


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def read_whole(plan: dict[str, Any]) -> set[str]:
    """Return the tables and partitions with rows that a plan reads from beginning to end."""
    whole = {str(node["Relation Name"]) for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
    return {name for name in whole if not EMPTY.fullmatch(name)}

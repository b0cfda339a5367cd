"""Each view answers by index what is asked of it all the time, however many transactions there are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Connection, text

from tests.readers.test_grants import db
from tests.support.roles import connected_as, new_role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

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
ONE = "organization_reference_id = 'org-7' AND transaction_id = 'transaction-4007'"
HOLDER = "organization_reference_id = 'org-7' AND card_holder_reference_id = 'employee-7'"
LATELY = "updated_at > now() - interval '1 hour'"
QUESTIONS = {
    **{
        f"{view} of {name}": f"SELECT * FROM ems.{view} WHERE {condition}"  # noqa: S608
        for view in ("ledger", "ledger_vat", "pending_transactions", "missing_receipts")
        for name, condition in (("one transaction", ONE), ("one card holder", HOLDER), ("the last hour", LATELY))
    },
    "duplicates of one transaction": f"SELECT * FROM ems.possible_duplicates WHERE {ONE}",  # noqa: S608
    "snapshots of one transaction": f"SELECT * FROM ems.transaction_states WHERE {ONE}",  # noqa: S608
    "events of one subject": "SELECT * FROM ems.events"
    " WHERE organization_reference_id = 'org-7' AND subject_id = 'transaction-4007'",
    **{
        f"a month of {view}": f"SELECT * FROM ems.{view} WHERE organization_reference_id = 'org-7'"  # noqa: S608
        " AND booked_on >= '2026-02-01' AND booked_on < '2026-03-01'"
        for view in ("ledger", "ledger_vat")
    },
    "the feed from a position": "SELECT * FROM ems.events WHERE position > 59000 ORDER BY position LIMIT 500",
    "what changed by the feed": "SELECT * FROM ems.ledger WHERE (organization_reference_id, transaction_id) IN ("
    "SELECT * FROM unnest('{org-7,org-8}'::text[], '{transaction-4007,transaction-4008}'::text[]))",
}


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


def plan_of(connection: Connection, question: str) -> dict[str, Any]:
    (plan,) = connection.execute(text(f"EXPLAIN (FORMAT json) {question}")).scalar_one()
    return dict(plan["Plan"])


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_is_asked_all_the_time_reads_no_table_whole(filled: Engine, question: str) -> None:
    with filled.connect() as connection:
        assert read_whole(plan_of(connection, QUESTIONS[question])) == set()


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_same_holds_for_a_tenant(filled: Engine, tenant: str, question: str) -> None:
    with connected_as(filled.url, tenant) as connection:
        ((plan,),) = connection.execute(f"EXPLAIN (FORMAT json) {QUESTIONS[question]}".encode()).fetchall()
    assert read_whole(plan[0]["Plan"]) == set()


@pytest.mark.parametrize("question", ["snapshots of one transaction", "events of one subject"])
def test_the_log_is_read_by_subject(filled: Engine, tenant: str, question: str) -> None:
    """Not by organization alone, which would read the whole log where there is only one."""
    with connected_as(filled.url, tenant) as connection:
        ((plan,),) = connection.execute(f"EXPLAIN (FORMAT json) {QUESTIONS[question]}".encode()).fetchall()
    conditions = [node.get("Index Cond", "") for node in nodes(plan[0]["Plan"]) if "Index Cond" in node]
    assert conditions
    assert all("subject_id = 'transaction-4007'" in condition for condition in conditions)


@pytest.fixture(scope="module")
def tenant(filled: Engine) -> Iterator[str]:
    with new_role(filled.url) as role:
        assert db(filled.url, "grant-reader", role, "--organization", "org-7").exit_code == 0
        yield role

"""Each view answers by index what is asked of it all the time, however many transactions there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Connection, text

from tests.support.filled_tables import nodes, read_whole
from tests.support.program import db
from tests.support.roles import connected_as, new_role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

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


def plan_of(connection: Connection, question: str) -> dict[str, Any]:
    (plan,) = connection.execute(text(f"EXPLAIN (FORMAT json) {question}")).scalar_one()
    return dict(plan["Plan"])


@pytest.mark.parametrize("question", QUESTIONS)
def test_frequent_queries_scan_no_whole_table(filled: Engine, question: str) -> None:
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

"""No list reads the table: PostgreSQL's plans for each way in, on a table that is large enough to tell."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from receiver.ops.deliveries import Filter
from receiver.ops.deliveries import details as details_module
from receiver.ops.deliveries.pages import COLUMNS
from receiver.ops.deliveries.searches import search

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from tests.conftest import Organizations

STORED = 60_000
MOST = 2_000
LIMIT = 51
NOW = datetime(2026, 2, 13, 12, tzinfo=UTC)

_FILL = f"""
INSERT INTO receiver.deliveries (webhook_id, event, body, headers, verification, received_at, status, attempts,
    next_attempt_at, error, fingerprint, transaction_id, card_holder_reference_id)
SELECT webhook.ids[1 + number % 40], CASE number % 100 WHEN 0 THEN 'card_holder.created' ELSE 'card.transaction.cleared'
    END, '{{}}', '{{}}', 'signature', CAST(:now AS timestamptz) - make_interval(secs => {STORED} - number), told.status,
    1, CASE WHEN told.status = 'failed' THEN now() END,
    CASE WHEN told.status IN ('dead', 'failed', 'quarantined') THEN 'cause ' || number END, sha256(number::text::bytea),
    CASE WHEN number % 100 > 0 THEN 't' || number / 4 END, 'holder-' || number % 2000
FROM generate_series(1, {STORED}) AS number
CROSS JOIN (SELECT array_agg(id) AS ids FROM receiver.webhooks) AS webhook
CROSS JOIN LATERAL (SELECT CASE WHEN number % 100 = 1 THEN 'duplicate' WHEN number % 500 = 2 THEN 'dead'
    WHEN number % 1000 = 3 THEN 'quarantined' WHEN number % 1000 = 4 THEN 'failed' ELSE 'processed' END AS status
) AS told
"""  # noqa: S608 - a constant


@pytest.fixture
def many(organizations: Organizations, engine: Engine) -> Engine:
    for number in range(40):
        organizations.adopt(f"org-{number}")
    with engine.begin() as connection:
        connection.execute(text(_FILL), {"now": NOW})
        connection.execute(
            text(
                "UPDATE receiver.deliveries SET status = 'pending', next_attempt_at = now()"
                " WHERE id IN (SELECT id FROM receiver.deliveries ORDER BY id DESC LIMIT 60)"
            )
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM (ANALYZE) receiver.deliveries"))
    return engine


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes(child))]


def reading(connection: Connection, query: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the nodes of a query's plan, run, that read deliveries."""
    (plan,) = connection.execute(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}"), parameters).scalar_one()
    return [node for node in nodes(plan["Plan"]) if node.get("Relation Name") == "deliveries"]


WAYS = {
    "the newest": (Filter(), {"pk_deliveries"}),
    "of one status": (Filter(statuses=("dead",)), {"ix_deliveries_set_aside"}),
    "of several statuses": (Filter(statuses=("dead", "quarantined", "duplicate")), {"ix_deliveries_set_aside"}),
    "that wait": (Filter(statuses=("pending", "failed")), {"ix_deliveries_set_aside", "ix_deliveries_waiting"}),
    "with an error": (Filter(error="cause * 7"), {"ix_deliveries_set_aside"}),
    "of one organization": (Filter(organizations=("org-7",)), {"ix_deliveries_webhook_id_received_at"}),
    "of two organizations and a time": (
        Filter(organizations=("org-7", "org-8"), since=NOW - timedelta(hours=9), until=NOW - timedelta(hours=8)),
        {"ix_deliveries_webhook_id_received_at"},
    ),
    "of a time": (Filter(since=NOW - timedelta(hours=9), until=NOW - timedelta(hours=8)), {"pk_deliveries"}),
    "with a rare event": (Filter(events=("tpa.signed",)), {"pk_deliveries"}),
    "of a transaction": (Filter(transaction_id="t77"), {"ix_deliveries_transaction_id"}),
    "of a card holder": (
        Filter(card_holder_reference_id="holder-100"),
        {"ix_deliveries_card_holder_events", "ix_deliveries_transaction_id"},
    ),
}


def test_each_way_in_reads_an_index_and_not_much_of_it(many: Engine) -> None:
    for way, (wanted, indexes) in WAYS.items():
        with many.connect() as connection:
            asked = search(connection, wanted, before=None, most=MOST)
            read = reading(connection, asked.select(COLUMNS), {**asked.parameters, "limit": LIMIT})
        assert read, way
        for node in read:
            assert "Seq Scan" not in node["Node Type"], (way, node)
            assert "Bitmap Heap" in node["Node Type"] or node["Index Name"] in indexes, (way, node)
            assert node["Actual Rows"] + node.get("Rows Removed by Filter", 0) <= MOST, (way, node)


def test_deliveries_of_the_same_event_are_found_without_reading_the_table(many: Engine) -> None:
    with many.connect() as connection:
        row = connection.execute(
            text("SELECT id, fingerprint, card_holder_reference_id FROM receiver.deliveries ORDER BY id LIMIT 1")
        ).one()
        asked = {"id": row.id, "fingerprint": row.fingerprint, "card_holder": row.card_holder_reference_id}
        read = reading(connection, details_module._ALIKE.text, asked)
    assert read
    assert not [node for node in read if "Seq Scan" in node["Node Type"]]


def test_completeness_reads_no_more_than_the_days_that_it_tells_of(many: Engine) -> None:
    with many.connect() as connection:
        read = reading(connection, "SELECT * FROM receiver.completeness", {})
    assert read
    for node in read:
        assert node.get("Index Name") == "ix_deliveries_webhook_id_received_at", node
        assert node["Actual Rows"] == 0, "what is stored is older"

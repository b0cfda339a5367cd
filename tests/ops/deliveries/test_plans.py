"""No list reads the table: PostgreSQL's plans for each search, on a table that is large enough to matter."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from receiver.ops.activity import _FAILURES, MAX_FAILURES
from receiver.ops.deliveries import Filter
from receiver.ops.deliveries import details as details_module
from receiver.ops.deliveries.pages import COLUMNS
from receiver.ops.deliveries.searches import WITH_ERRORS, search
from receiver.ops.rollup import COUNT_DELIVERIES
from receiver.partitions import ensure_partitions

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from tests.conftest import Organizations

STORED = 60_000
WAITING = 2_000
MAX_EXAMINED = 2_000
LIMIT = 51
NOW = datetime(2026, 2, 13, 12, tzinfo=UTC)

_FILL = f"""
WITH arrived AS MATERIALIZED (
    SELECT nextval('receiver.stored_deliveries_id_seq') AS id, number, webhook.ids[1 + number % 40] AS webhook_id,
        CASE number % 100 WHEN 0 THEN 'card_holder.created' ELSE 'card.transaction.cleared' END AS event,
        CAST(:now AS timestamptz) - make_interval(secs => {STORED} - number) AS at,
        CASE WHEN number > {STORED} - {WAITING} THEN 'pending' WHEN number % 100 = 1 THEN 'duplicate'
            WHEN number % 500 = 2 THEN 'dead' WHEN number % 1000 = 3 THEN 'quarantined'
            WHEN number % 1000 = 4 THEN 'failed' ELSE 'processed' END AS status,
        CASE WHEN number % 100 > 0 THEN 't' || number / 4 END AS transaction_id,
        'holder-' || number % 2000 AS card_holder_reference_id
    FROM generate_series(1, {STORED}) AS number
    CROSS JOIN (SELECT array_agg(id ORDER BY id) AS ids FROM receiver.webhooks) AS webhook
    ORDER BY number
), stored AS (
    INSERT INTO receiver.stored_deliveries (id, webhook_id, event, verification, received_at, occurred_at)
    SELECT id, webhook_id, event, 'signature', at, at FROM arrived
), bodies AS (
    INSERT INTO receiver.bodies (delivery_id, body, headers) SELECT id, '{{}}', '{{}}' FROM arrived
), queued AS (
    INSERT INTO receiver.queue (delivery_id, attempts)
    SELECT id, 1 FROM arrived WHERE status IN ('pending', 'failed')
), confirmed AS (
    INSERT INTO receiver.confirmations (delivery_id, confirmed_at) SELECT id, at FROM arrived
), logged AS (
    INSERT INTO ems.events (position, type, organization_reference_id, card_holder_reference_id, transaction_id,
        occurred_at, source, delivery_id, payload, subject_id, fingerprint)
    SELECT number, event, 'org-' || number % 40, card_holder_reference_id, transaction_id, at, 'push', id, '{{}}',
        coalesce(transaction_id, card_holder_reference_id), sha256(number::text::bytea)
    FROM arrived WHERE status = 'processed'
)
INSERT INTO receiver.outcomes (delivery_id, status, attempts, processed_at, error, position, transaction_id,
    card_holder_reference_id)
SELECT id, status, 1, at, CASE WHEN status IN ('dead', 'failed', 'quarantined') THEN 'cause ' || number END,
    CASE status WHEN 'processed' THEN number WHEN 'duplicate' THEN number + 4 END,
    CASE WHEN status IN ('dead', 'failed', 'quarantined') THEN transaction_id END,
    CASE WHEN status IN ('dead', 'failed', 'quarantined') THEN card_holder_reference_id END
FROM arrived WHERE status <> 'pending'
"""  # noqa: S608 - a constant
_COUNT_FAILURES = text("SELECT count(*) FROM receiver.outcomes WHERE status = ANY(:statuses)")
TABLES = ("stored_deliveries", "bodies", "queue", "outcomes", "confirmations", "events")


@pytest.fixture
def many(organizations: Organizations, engine: Engine) -> Engine:
    for number in range(40):
        organizations.adopt(f"org-{number}")
    with engine.begin() as connection:
        connection.execute(text(_FILL), {"now": NOW})
    ensure_partitions(engine)  # the next ones, as in a service that runs
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(
            text(
                "VACUUM (ANALYZE) receiver.stored_deliveries, receiver.bodies, receiver.queue,"
                " receiver.outcomes, receiver.confirmations, ems.events"
            )
        )
    return engine


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes(child))]


def table_of(node: dict[str, Any]) -> str:
    """Return the table that a node reads, not its partition; empty when it reads none."""
    name = re.sub("_([0-9]+|default)$", "", str(node.get("Relation Name", "")))
    return name if name in TABLES else ""


def rows_of(node: dict[str, Any]) -> float:
    return float((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])


def reading(connection: Connection, query: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the nodes of a query's plan, run, that read tables which grow with the deliveries."""
    (plan,) = connection.execute(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}"), parameters).scalar_one()
    return [node for node in nodes(plan["Plan"]) if table_of(node)]


ALL, EVENTS = "stored_deliveries_pkey", "events_organization_reference_id_subject_id_idx"
OF_WEBHOOK = "stored_deliveries_webhook_id_received_at_idx"
NAMED = {"ix_outcomes_retries", "ix_outcomes_transaction_id", "ix_outcomes_card_holder_reference_id"}
ONE_BY_ONE = {ALL, "pk_queue", "pk_outcomes", "pk_confirmations", "events_pkey"}
"""By which every delivery that is looked at is read."""
WAYS = {
    "the newest": (Filter(), {ALL}),
    "of one status": (Filter(statuses=("dead",)), {"ix_outcomes_status"}),
    "of several statuses": (Filter(statuses=("dead", "quarantined", "duplicate")), {"ix_outcomes_status"}),
    "that wait": (Filter(statuses=("pending", "failed")), {"ix_outcomes_status", "pk_queue"}),
    "with an error": (Filter(error="cause * 7"), {"ix_outcomes_status"}),
    "of one organization": (Filter(organizations=("org-7",)), {OF_WEBHOOK}),
    "of two organizations and a time": (
        Filter(organizations=("org-7", "org-8"), since=NOW - timedelta(hours=9), until=NOW - timedelta(hours=8)),
        {OF_WEBHOOK},
    ),
    "of a time": (Filter(since=NOW - timedelta(hours=9), until=NOW - timedelta(hours=8)), {ALL}),
    "with a rare event": (Filter(events=("tpa.signed",)), {ALL}),
    "of a transaction": (Filter(transaction_id="t77"), {EVENTS, *NAMED}),
    "of a card holder": (Filter(card_holder_reference_id="holder-100"), {EVENTS, *NAMED}),
}


def index_of(node: dict[str, Any]) -> str:
    """Return the index that a node reads, named as that of its table's first partition without the number."""
    return re.sub("_(0|default)_", "_", str(node.get("Index Name", "")))


def empty(node: dict[str, Any]) -> bool:
    """Return whether a node reads a partition that has no rows: the default one, or the next one."""
    return rows_of(node) == 0 and re.search("_(default|[1-9][0-9]*)$", str(node.get("Relation Name", ""))) is not None


def test_each_way_in_reads_an_index_and_not_much_of_it(many: Engine) -> None:
    for way, (wanted, indexes) in WAYS.items():
        with many.connect() as connection:
            asked = search(connection, wanted, before=None, max_examined=MAX_EXAMINED)
            read = reading(connection, asked.select(COLUMNS), {**asked.parameters, "limit": LIMIT})
        assert indexes & {index_of(node) for node in read}, way
        for node in read:
            if empty(node):
                continue
            assert "Seq Scan" not in node["Node Type"], (way, node)
            if "Bitmap Heap" not in node["Node Type"]:
                assert index_of(node) in indexes | ONE_BY_ONE, (way, node)
            assert rows_of(node) <= MAX_EXAMINED, (way, node)
            if wanted.events:  # which none has: no delivery is read as a whole
                assert table_of(node) == "stored_deliveries" or not rows_of(node), (way, node)


def test_deliveries_of_one_event_are_found_by_index(many: Engine) -> None:
    with many.connect() as connection:
        row = connection.execute(
            text("SELECT delivery_id AS id, position FROM receiver.outcomes WHERE status = 'duplicate' LIMIT 1")
        ).one()
        read = reading(connection, details_module._ALIKE.text, {"id": row.id, "position": row.position})
    assert read
    for node in read:
        assert "Seq Scan" not in node["Node Type"] or empty(node), node
        assert rows_of(node) <= 2, node


def test_failures_are_counted_by_cause_by_index(many: Engine) -> None:
    with many.connect() as connection:
        read = reading(connection, _FAILURES.text, {"most": MAX_FAILURES})
        failures = connection.scalar(_COUNT_FAILURES, {"statuses": list(WITH_ERRORS)})
    assert {"ix_outcomes_status"} <= {index_of(node) for node in read}
    for node in read:
        assert "Seq Scan" not in node["Node Type"] or empty(node), node
        assert rows_of(node) <= failures, node


def test_an_hour_is_counted_by_the_index_on_webhook_and_time(many: Engine) -> None:
    with many.connect() as connection:
        asked = {"since": NOW - timedelta(hours=9), "until": NOW - timedelta(hours=8, minutes=59)}
        read = reading(connection, COUNT_DELIVERIES, asked)
        counted = connection.execute(text(COUNT_DELIVERIES), asked).all()
    assert sum(row.deliveries for row in counted) == 60
    stored = [node for node in read if table_of(node) == "stored_deliveries" and not empty(node)]
    assert stored
    for node in stored:
        assert OF_WEBHOOK in index_of(node) or "Bitmap Heap" in node["Node Type"], node
        assert rows_of(node) <= 60, node


def test_completeness_reads_only_the_days_it_shows(many: Engine) -> None:
    with many.connect() as connection:
        read = reading(connection, "SELECT * FROM receiver.delivery_gaps_by_hour", {})
    stored = [node for node in read if table_of(node) == "stored_deliveries" and not empty(node)]
    assert stored
    for node in stored:
        assert index_of(node) == OF_WEBHOOK, node
        assert node["Actual Rows"] == 0, "what is stored is older"

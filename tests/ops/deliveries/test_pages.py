"""Lists of deliveries hold what was asked for, newest first, whichever index they are read by."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from receiver.ops.deliveries import DeliverySummary, Filter, list_deliveries
from receiver.ops.deliveries.searches import first_received_since
from tests.support import stored
from tests.support.factories import card_holder, enrichment, snapshot

if TYPE_CHECKING:
    from tests.conftest import Acme, Organizations

START = datetime(2026, 2, 13, 12, tzinfo=UTC)
ERRORS = {
    "dead": "amount: expected a number\nrow 1",
    "failed": "OperationalError: timeout after 30 s",
    "ignored": "unknown event 'card.frozen'",
}
NOTHING = "TRUNCATE receiver.stored_deliveries, receiver.bodies, receiver.queue, receiver.outcomes, ems.events"
STATUSES = ("pending", "processed", "duplicate", "ignored", "quarantined", "failed", "dead")


def listed(acme: Acme, wanted: Filter, *, limit: int = 3, max_examined: int = 4) -> list[DeliverySummary]:
    """Return everything that is wanted, read in small pages."""
    rows: list[DeliverySummary] = []
    before = None
    with acme.engine.connect() as connection:
        while True:
            page = list_deliveries(connection, wanted, before=before, limit=limit, max_examined=max_examined)
            assert len(page.rows) <= limit
            rows += page.rows
            if page.before is None:
                assert page.looked_back_to is None
                return rows
            assert before is None or page.before < before
            before = page.before


def store(acme: Acme, *, number: int, **columns: Any) -> None:
    """Store a delivery of the *number*-th minute."""
    given = {"event": "card.transaction.cleared", "received_at": START + timedelta(minutes=number), **columns}
    stored.store(acme.engine, **given)


@pytest.fixture
def several(organizations: Organizations) -> Acme:
    acme = organizations.adopt("acme")
    organizations.adopt("globex")
    return acme


deliveries = st.lists(
    st.tuples(
        st.sampled_from(["acme", "globex"]),
        st.sampled_from(STATUSES),
        st.sampled_from(["card.transaction.cleared", "tpa.signed"]),
        st.sampled_from([None, "t1", "t2"]),
    ),
    max_size=14,
)
filters = st.builds(
    Filter,
    statuses=st.lists(st.sampled_from(STATUSES), max_size=3, unique=True).map(tuple),
    events=st.sampled_from([(), ("tpa.signed",)]),
    organizations=st.sampled_from([(), ("acme",), ("acme", "globex"), ("nobody",)]),
    since=st.none() | st.integers(0, 14).map(lambda minutes: START + timedelta(minutes=minutes)),
    until=st.none() | st.integers(0, 14).map(lambda minutes: START + timedelta(minutes=minutes)),
    error=st.sampled_from([None, "TIMEOUT AFTER", "timeout after * s", "row 1", "'card.frozen'"]),
    transaction_id=st.sampled_from([None, "t1"]),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deliveries, filters)
def test_list_has_exactly_the_filtered_rows_by_any_index(
    several: Acme, kept: list[tuple[str, str, str, str | None]], wanted: Filter
) -> None:
    several.execute(NOTHING)
    for number, (organization, status, event, transaction) in enumerate(kept):
        store(
            several,
            organization=organization,
            number=number,
            status=status,
            event=event,
            error=ERRORS.get(status),
            transaction_id=transaction,
        )

    def fits(row: DeliverySummary) -> bool:
        return (
            (not wanted.statuses or row.status in wanted.statuses)
            and (not wanted.events or row.event in wanted.events)
            and (not wanted.organizations or row.organization_reference_id in wanted.organizations)
            and (wanted.since is None or row.received_at >= wanted.since)
            and (wanted.until is None or row.received_at < wanted.until)
            and (wanted.transaction_id is None or row.transaction_id == wanted.transaction_id)
            and (wanted.error is None or all(part in (row.error or "") for part in wanted.error.lower().split("*")))
        )

    everything = listed(several, Filter(), limit=50, max_examined=100)
    assert [row.id for row in everything] == sorted((row.id for row in everything), reverse=True)
    assert len(everything) == len(kept)
    if wanted.error == "TIMEOUT AFTER":
        assert all("timeout after" in (row.error or "") for row in listed(several, wanted))
    assert [row.id for row in listed(several, wanted)] == [row.id for row in everything if fits(row)]


def test_a_page_looks_at_so_many_and_says_how_far_back_that_was(several: Acme) -> None:
    for number in range(10):
        store(several, organization="acme", number=number, event="rare" if number in {1, 8} else "card.often")
    wanted = Filter(events=("rare",))
    with several.engine.connect() as connection:
        first = list_deliveries(connection, wanted, limit=5, max_examined=4)
        assert [row.received_at for row in first.rows] == [START + timedelta(minutes=8)]
        assert first.looked_back_to == START + timedelta(minutes=6)
        second = list_deliveries(connection, wanted, before=first.before, limit=5, max_examined=4)
        assert (second.rows, second.looked_back_to) == ((), START + timedelta(minutes=2))
        third = list_deliveries(connection, wanted, before=second.before, limit=5, max_examined=4)
        assert len(third.rows) == 1
        assert (third.before, third.looked_back_to) == (None, None)


def test_deliveries_received_long_before_are_not_read(several: Acme) -> None:
    for number in range(6):
        store(several, organization="acme", number=number * 60)
    with several.engine.connect() as connection:
        page = list_deliveries(connection, Filter(since=START + timedelta(minutes=250)), limit=5, max_examined=2)
        assert (len(page.rows), page.before is None) == (1, False)
        page = list_deliveries(connection, Filter(since=START + timedelta(minutes=270)), limit=5, max_examined=2)
        assert (len(page.rows), page.before) == (1, None)
        until = list_deliveries(connection, Filter(until=START + timedelta(minutes=90)), limit=5, max_examined=2)
        assert [row.received_at for row in until.rows] == [START + timedelta(minutes=60), START]


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(-1, 51))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_first_delivery_of_a_time_is_found_by_halving(several: Acme, minutes: list[int], asked: int) -> None:
    several.execute(NOTHING)
    for number in sorted(minutes):
        store(several, organization="acme", number=number)
    several.execute("DELETE FROM receiver.stored_deliveries WHERE id % 3 = 0")
    with several.engine.connect() as connection:
        found = first_received_since(connection, START + timedelta(minutes=asked))
        rows = connection.execute(text("SELECT id, received_at FROM receiver.deliveries ORDER BY id")).all()
    if not rows:
        assert found is None
        return
    assert found is not None
    assert [row.id for row in rows if row.id >= found] == [
        row.id for row in rows if row.received_at >= START + timedelta(minutes=asked)
    ]


def test_card_holder_search_includes_their_transactions(acme: Acme) -> None:
    acme.apply("card_holder.created", card_holder("employee-17"))
    acme.apply("card_holder.created", card_holder("employee-18"))
    acme.apply("card.transaction.authorized", snapshot("authorized", transaction="t1"))
    acme.apply("transaction.line.items", enrichment("transaction.line.items", transaction="t1"))
    acme.apply("transaction.line.items", enrichment("transaction.line.items", transaction="t1"))
    reference = snapshot("authorized")["card_holder"]["reference_id"]
    rows = listed(acme, Filter(card_holder_reference_id=reference))
    assert [row.event for row in rows] == [
        "transaction.line.items",
        "transaction.line.items",
        "card.transaction.authorized",
        *(["card_holder.created"] if reference == "employee-17" else []),
    ]


def test_a_card_holder_is_searched_with_what_was_never_applied(several: Acme) -> None:
    for number, status in enumerate(("dead", "quarantined", "processed")):
        store(several, number=number, status=status, card_holder_reference_id="employee-17")
        store(several, number=number, status=status, card_holder_reference_id="employee-18")
    rows = listed(several, Filter(card_holder_reference_id="employee-17"))
    assert [row.status for row in rows] == ["processed", "quarantined", "dead"]


def test_transaction_search_includes_duplicates(several: Acme) -> None:
    store(several, number=1, transaction_id="t1")
    position = several.value("SELECT position FROM ems.events")
    store(several, number=2, status="duplicate", position=position)
    store(several, number=3, status="duplicate", transaction_id="t2")
    store(several, number=4, status="dead", transaction_id="t1")
    rows = listed(several, Filter(transaction_id="t1"))
    assert [(row.status, row.transaction_id) for row in rows] == [
        ("dead", "t1"),
        ("duplicate", "t1"),
        ("processed", "t1"),
    ]


def test_a_transaction_of_another_card_holder_is_not_found(several: Acme) -> None:
    store(several, number=1, transaction_id="t1", card_holder_reference_id="employee-17")
    wanted = Filter(transaction_id="t1", card_holder_reference_id="employee-18")
    assert listed(several, wanted) == []
    assert len(listed(several, replace(wanted, card_holder_reference_id="employee-17"))) == 1


def test_queued_delivery_is_listed_as_pending_once(several: Acme) -> None:
    store(several, number=1, status="duplicate", transaction_id="t1")
    stored.queue_again(several.engine, [several.value("SELECT id FROM receiver.stored_deliveries")])
    assert [row.status for row in listed(several, Filter(statuses=("pending", "duplicate")))] == ["pending"]
    assert listed(several, Filter(statuses=("duplicate",))) == []


def test_many_that_wait_are_found_among_the_newest(several: Acme) -> None:
    for number in range(8):
        store(several, organization="acme", number=number, status="pending")
    store(several, organization="acme", number=9, status="dead")
    assert len(listed(several, Filter(statuses=("pending",)), max_examined=4)) == 8
    assert len(listed(several, Filter(statuses=("pending", "dead")), max_examined=4)) == 9
    assert len(listed(several, Filter(statuses=("pending", "dead")), max_examined=20)) == 9

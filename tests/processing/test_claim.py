"""Claims: one thread takes the oldest deliveries first, the second one new deliveries before older ones."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.processing.claim import MAX_BYTES, NEW, Backlog
from receiver.processing.drain import Processor
from receiver.records.write import writing_connection
from tests.support.factories import card_holder, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    from sqlalchemy import Engine

    from tests.conftest import Acme

CLEARED = "card.transaction.cleared"

STORE = """
WITH arrived AS MATERIALIZED (
    SELECT nextval('receiver.stored_deliveries_id_seq') AS id, due_at FROM (
        SELECT now() - make_interval(secs => :youngest + (:number - number)) AS due_at
        FROM generate_series(1, :number) AS number ORDER BY 1
    ) AS dated
), stored AS (
    INSERT INTO receiver.stored_deliveries (id, webhook_id, event, version, verification, received_at, occurred_at)
    SELECT id, (SELECT min(id) FROM receiver.webhooks), :event, '1', 'signature', due_at, due_at FROM arrived
), bodies AS (
    INSERT INTO receiver.bodies (delivery_id, body, headers)
    SELECT id, convert_to(repeat(' ', :size), 'UTF8'), '{}' FROM arrived
)
INSERT INTO receiver.queue (delivery_id, due_at) SELECT id, due_at FROM arrived
"""


@pytest.fixture
def connection(engine: Engine) -> Iterator[psycopg.Connection[Any]]:
    with closing(writing_connection(engine)) as connection:
        yield connection


def store(acme: Acme, number: int, *, youngest: float, size: int = 2) -> None:
    """Store deliveries that arrived one a second; the last of them *youngest* seconds ago."""
    acme.execute(STORE, event=CLEARED, number=number, youngest=youngest, size=size)


def ids(acme: Acme) -> list[int]:
    """Return what waits, in order of arrival."""
    return [row["delivery_id"] for row in acme.rows("SELECT delivery_id FROM receiver.queue ORDER BY due_at, 1")]


def claimed(connection: psycopg.Connection[Any], backlog: Backlog, limit: int) -> list[int]:
    """Claim, end the claim, and return what was claimed."""
    claim = backlog.claim(connection, limit)
    if claim is None:
        return []
    connection.execute(*claim.end())
    return [delivery.id for delivery in claim.deliveries]


def test_backlog_is_claimed_from_its_oldest_end(acme: Acme, connection: psycopg.Connection[Any]) -> None:
    store(acme, 7, youngest=3600)
    store(acme, 1, youngest=0)
    waiting = ids(acme)
    backlog = Backlog()
    assert [claimed(connection, backlog, 3) for _ in range(4)] == [waiting[:3], waiting[3:6], waiting[6:], []]


def test_new_deliveries_are_claimed_before_older_ones(acme: Acme, connection: psycopg.Connection[Any]) -> None:
    store(acme, 6, youngest=3600)
    store(acme, 2, youngest=0)
    *older, one, other = ids(acme)
    backlog = Backlog(new_first=True)
    assert [claimed(connection, backlog, 4), claimed(connection, backlog, 4)] == [[other, one], older[:4]]


def test_newest_of_many_new_deliveries_is_claimed_first(acme: Acme, connection: psycopg.Connection[Any]) -> None:
    store(acme, 6, youngest=1)
    waiting = ids(acme)
    backlog = Backlog(new_first=True)
    assert [claimed(connection, backlog, 4), claimed(connection, backlog, 4)] == [waiting[:1:-1], waiting[1::-1]]


def test_new_purchase_is_in_the_next_batch_though_many_wait(acme: Acme, engine: Engine) -> None:
    store(acme, 1000, youngest=3600)
    backlog = Backlog(new_first=True)
    with closing(Processor(engine)) as processor:
        for number in range(3):
            processor.process("one", lambda connection: backlog.claim(connection, 10))
            acme.deliver_ok(CLEARED, snapshot("cleared", transaction=f"new-{number}"))
            processor.process("one", lambda connection: backlog.claim(connection, 10))
            assert acme.value("SELECT count(*) FROM ems.transactions WHERE id = :id", id=f"new-{number}") == 1


@pytest.mark.parametrize("new_first", [False, True])
def test_batch_is_bounded_by_bytes(acme: Acme, connection: psycopg.Connection[Any], new_first: bool) -> None:  # noqa: FBT001
    store(acme, 11, youngest=3600, size=MAX_BYTES // 4)
    waiting = ids(acme)
    backlog = Backlog(new_first=new_first)
    batches = [claimed(connection, backlog, 500) for _ in range(4)]
    assert batches == [waiting[:4], waiting[4:8], waiting[8:], []]


def test_body_above_the_bound_is_a_batch_of_its_own(acme: Acme, connection: psycopg.Connection[Any]) -> None:
    store(acme, 2, youngest=3600, size=MAX_BYTES + 1)
    one, other = ids(acme)
    backlog = Backlog()
    assert [claimed(connection, backlog, 500) for _ in range(3)] == [[one], [other], []]


def test_claimed_deliveries_are_taken_by_no_other_worker(acme: Acme, connection: psycopg.Connection[Any]) -> None:
    store(acme, 6, youngest=3600)
    waiting = ids(acme)
    first, second = Backlog().claim(connection, 4), Backlog().claim(connection, 4)
    assert first is not None
    assert second is not None
    assert [delivery.id for delivery in (*first.deliveries, *second.deliveries)] == waiting
    assert Backlog().claim(connection, 4) is None


def test_released_deliveries_are_claimed_at_the_end_of_a_pass(acme: Acme, connection: psycopg.Connection[Any]) -> None:
    store(acme, 6, youngest=3600)
    waiting = ids(acme)
    backlog = Backlog()
    other = Backlog().claim(connection, 2)
    assert other is not None
    assert claimed(connection, backlog, 2) == waiting[2:4]
    connection.execute(*other.release(alone=False))
    assert claimed(connection, backlog, 2) == waiting[4:]
    assert claimed(connection, backlog, 2) == waiting[:2]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(1, 4)), max_size=8),
    st.integers(0, 4),
)
def test_consumers_at_both_ends_claim_each_delivery_once(
    acme: Acme, connection: psycopg.Connection[Any], steps: list[tuple[int, bool, int]], older: int
) -> None:
    acme.execute("TRUNCATE receiver.stored_deliveries, receiver.bodies, receiver.queue")
    store(acme, older, youngest=NEW.total_seconds() * 2)
    consumers = {False: Backlog(), True: Backlog(new_first=True)}
    got: list[int] = []
    for arriving, new_first, limit in steps:
        store(acme, arriving, youngest=0)
        got += claimed(connection, consumers[new_first], limit)
    for new_first in (True, False):
        while more := claimed(connection, consumers[new_first], 3):
            got += more
    assert sorted(got) == sorted(row["id"] for row in acme.rows("SELECT id FROM receiver.stored_deliveries"))


def test_consumer_ends_when_nothing_is_left(acme: Acme, engine: Engine) -> None:
    store(acme, 5, youngest=3600)
    store(acme, 5, youngest=0)
    with closing(Processor(engine)) as processor:
        assert processor.process_backlog("one", Backlog(new_first=True), float("inf"), 3, lambda: None)
    assert "pending" not in acme.statuses()


def test_delivery_before_a_backward_clock_step_is_processed(acme: Acme) -> None:
    acme.deliver_ok("card_holder.created", card_holder())
    acme.execute("UPDATE receiver.queue SET due_at = now() + interval '1 hour'")
    acme.process()
    assert acme.statuses() == ["processed"]


def test_lease_from_before_the_clock_was_set_back_ends(acme: Acme) -> None:
    acme.deliver_ok("card_holder.created", card_holder())
    acme.execute("UPDATE receiver.queue SET leased_until = now() + interval '1 hour', attempts = 1")
    acme.process()
    assert acme.row("SELECT status, attempts FROM receiver.deliveries") == {"status": "processed", "attempts": 1}

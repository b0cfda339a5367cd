"""What waits is claimed from two ends: the oldest first, and by a second lane what is fresh before that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.events.claim import FRESH, Backlog
from receiver.events.portion import MAX_BYTES
from receiver.processing.drain import drain_lane, process_batch
from tests.events.steps import plans
from tests.factories import card_holder, snapshot

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tests.conftest import Acme

CLEARED = "card.transaction.cleared"

STORE = """
INSERT INTO receiver.deliveries (webhook_id, event, version, body, headers, verification, received_at, next_attempt_at)
SELECT (SELECT min(id) FROM receiver.webhooks), :event, '1', convert_to('{}', 'UTF8'), '{}', 'signature', due_at, due_at
FROM (
    SELECT now() - make_interval(secs => :youngest + (:number - number)) AS due_at
    FROM generate_series(1, :number) AS number
) AS told ORDER BY due_at
"""


def store(acme: Acme, number: int, *, youngest: float) -> None:
    """Store deliveries that came one a second; the last of them *youngest* seconds ago."""
    acme.execute(STORE, event=CLEARED, number=number, youngest=youngest)


def ids(acme: Acme) -> list[int]:
    """Return the deliveries in order of arrival."""
    return [row["id"] for row in acme.rows("SELECT id FROM receiver.deliveries ORDER BY next_attempt_at, id")]


def claimed(engine: Engine, backlog: Backlog, limit: int) -> list[int]:
    """Claim, settle, and return what was claimed."""
    with engine.begin() as connection:
        got = [delivery.id for delivery in backlog.claim(connection, limit)]
        connection.exec_driver_sql(
            "UPDATE receiver.deliveries SET status = 'processed', next_attempt_at = NULL WHERE id = ANY(%(ids)s)",
            {"ids": got},
        )
    return got


def test_a_backlog_is_claimed_from_its_oldest_end(acme: Acme, engine: Engine) -> None:
    store(acme, 7, youngest=3600)
    store(acme, 1, youngest=0)
    waiting = ids(acme)
    backlog = Backlog()
    assert [claimed(engine, backlog, 3) for _ in range(4)] == [waiting[:3], waiting[3:6], waiting[6:], []]


def test_what_is_fresh_is_claimed_before_what_is_old(acme: Acme, engine: Engine) -> None:
    store(acme, 6, youngest=3600)
    store(acme, 2, youngest=0)
    *old, one, other = ids(acme)
    assert claimed(engine, Backlog(fresh_first=True), 4) == [other, one, *old[:2]]


def test_of_much_that_is_fresh_the_newest_is_claimed_first(acme: Acme, engine: Engine) -> None:
    store(acme, 6, youngest=1)
    waiting = ids(acme)
    backlog = Backlog(fresh_first=True)
    assert [claimed(engine, backlog, 4), claimed(engine, backlog, 4)] == [waiting[:1:-1], waiting[1::-1]]


def test_a_new_purchase_is_in_the_next_batch_of_the_second_lane_though_many_old_ones_wait(
    acme: Acme, engine: Engine
) -> None:
    store(acme, 1000, youngest=3600)
    backlog = Backlog(fresh_first=True)
    for number in range(3):
        process_batch(engine, lambda connection: backlog.claim(connection, 10))
        acme.take(CLEARED, snapshot("cleared", transaction=f"new-{number}"))
        process_batch(engine, lambda connection: backlog.claim(connection, 10))
        assert acme.value("SELECT count(*) FROM ems.transactions WHERE id = :id", id=f"new-{number}") == 1
    assert acme.statuses().count("pending") == 1000 - 6 * 10 + 3


@pytest.mark.parametrize("fresh_first", [False, True])
def test_a_batch_is_bounded_by_bytes(acme: Acme, engine: Engine, fresh_first: bool) -> None:  # noqa: FBT001
    store(acme, 11, youngest=3600)
    acme.execute("UPDATE receiver.deliveries SET body = convert_to(repeat(' ', :size), 'UTF8')", size=MAX_BYTES // 4)
    waiting = ids(acme)
    backlog = Backlog(fresh_first=fresh_first)
    batches = [claimed(engine, backlog, 500) for _ in range(4)]
    assert batches == [waiting[:4], waiting[4:8], waiting[8:], []]


def test_a_body_above_the_bound_is_a_batch_of_its_own(acme: Acme, engine: Engine) -> None:
    store(acme, 2, youngest=3600)
    acme.execute("UPDATE receiver.deliveries SET body = convert_to(repeat(' ', :size), 'UTF8')", size=MAX_BYTES + 1)
    one, other = ids(acme)
    backlog = Backlog()
    assert [claimed(engine, backlog, 500) for _ in range(3)] == [[one], [other], []]


def test_large_fresh_deliveries_are_not_joined_by_old_ones(acme: Acme, engine: Engine) -> None:
    store(acme, 6, youngest=0)
    acme.execute("UPDATE receiver.deliveries SET body = convert_to(repeat(' ', :size), 'UTF8')", size=MAX_BYTES // 4)
    store(acme, 2, youngest=3600)
    *old, _, _, third, fourth, fifth, sixth = ids(acme)
    assert len(old) == 2
    assert claimed(engine, Backlog(fresh_first=True), 500) == [sixth, fifth, fourth, third]


def test_what_comes_back_below_what_a_lane_has_reached_is_claimed_at_the_end(acme: Acme, engine: Engine) -> None:
    store(acme, 6, youngest=3600)
    waiting = ids(acme)
    backlog = Backlog()
    with engine.begin() as dies:
        assert [delivery.id for delivery in Backlog().claim(dies, 2)] == waiting[:2]
        assert claimed(engine, backlog, 2) == waiting[2:4]
        dies.rollback()
    assert claimed(engine, backlog, 2) == waiting[4:]
    assert claimed(engine, backlog, 2) == waiting[:2]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(1, 4)), max_size=8),
    st.integers(0, 4),
)
def test_lanes_at_both_ends_claim_each_delivery_once_and_leave_none(
    acme: Acme, engine: Engine, steps: list[tuple[int, bool, int]], old: int
) -> None:
    acme.execute("TRUNCATE receiver.deliveries CASCADE")
    store(acme, old, youngest=FRESH.total_seconds() * 2)
    lanes = {False: Backlog(), True: Backlog(fresh_first=True)}
    got: list[int] = []
    for arriving, fresh_first, limit in steps:
        store(acme, arriving, youngest=0)
        got += claimed(engine, lanes[fresh_first], limit)
    for fresh_first in (True, False):
        while more := claimed(engine, lanes[fresh_first], 3):
            got += more
    assert sorted(got) == sorted(row["id"] for row in acme.rows("SELECT id FROM receiver.deliveries"))


def test_a_lane_ends_when_nothing_is_left_whatever_it_took_first(acme: Acme, engine: Engine) -> None:
    store(acme, 5, youngest=3600)
    store(acme, 5, youngest=0)
    assert drain_lane(engine, Backlog(fresh_first=True), float("inf"), 3, lambda: None)
    assert "pending" not in acme.statuses()


def test_a_claim_reads_what_it_takes_and_no_more_at_both_ends_of_a_long_backlog(acme: Acme, engine: Engine) -> None:
    store(acme, 20_000, youngest=0)
    acme.execute("UPDATE receiver.deliveries SET status = 'processed', next_attempt_at = NULL WHERE id % 3 = 0")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE receiver.deliveries")
    with engine.begin() as connection:
        for plan in plans(connection, lambda: Backlog(fresh_first=True).claim(connection, 500)):
            assert "Index Scan" in plan
            assert "ix_deliveries_waiting" in plan
            locking = plan[plan.index("LockRows") : plan.index("placed")]
            assert "Sort" not in locking, "only what was locked is sorted"


def test_what_arrived_before_the_clock_was_set_back_is_processed(acme: Acme) -> None:
    acme.take("card_holder.created", card_holder())
    acme.execute("UPDATE receiver.deliveries SET next_attempt_at = now() + interval '1 hour'")
    acme.process()
    assert acme.statuses() == ["processed"]

"""A test that comes when nobody awaits it any more is not booked either."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from receiver.events import late_tests
from receiver.events.awaited_tests import UNCLEAR, await_test, note_answer, resolve, withdraw
from receiver.events.late_tests import REFUSED, SENT_AGAIN
from tests.events.steps import feed
from tests.factories import body, snapshot

if TYPE_CHECKING:
    from tests.conftest import Acme, Organizations

EVENT = "card.transaction.cleared"
MINUTE = timedelta(minutes=1)
TEST = snapshot("cleared", transaction="test")
REAL = snapshot("cleared", transaction="real")


def asked(acme: Acme) -> int:
    awaited_id = await_test(acme.engine, acme.value("SELECT min(id) FROM receiver.webhooks"), EVENT, at_most=MINUTE)
    note_answer(acme.engine, awaited_id, sent=True, told=None, wait=MINUTE)
    return awaited_id


def outcomes(acme: Acme) -> list[tuple[str, str | None]]:
    rows = acme.rows("SELECT status, error FROM receiver.deliveries ORDER BY id")
    return [(row["status"], row["error"]) for row in rows]


def from_the_log(acme: Acme, *, ago: str = "0") -> None:
    """Let the latest delivery be one that reconcile found in OpenCard's log."""
    acme.execute(
        "UPDATE receiver.deliveries SET source = 'log', occurred_at = now() - CAST(:ago AS interval)"
        " WHERE id = (SELECT max(id) FROM receiver.deliveries)",
        ago=ago,
    )


def test_a_test_that_is_sent_again_is_quarantined_and_others_are_processed(acme: Acme) -> None:
    awaited_id = asked(acme)
    acme.take(EVENT, TEST)
    resolve(acme.engine, awaited_id)
    for payload in (TEST, REAL):
        acme.take(EVENT, payload)
    acme.process()
    assert outcomes(acme)[1:] == [("quarantined", SENT_AGAIN), ("processed", None)]
    assert len(feed(acme)) == 1
    acme.tell("card.transaction.invoiced", snapshot("invoiced", transaction="test"))
    assert acme.statuses()[-1] == "processed"


def test_what_could_not_be_told_from_the_test_is_not_booked_when_it_is_sent_again(acme: Acme) -> None:
    awaited_id = asked(acme)
    acme.take(EVENT, TEST)
    acme.take(EVENT, REAL)
    resolve(acme.engine, awaited_id)
    acme.tell(EVENT, TEST)
    assert outcomes(acme) == [("quarantined", UNCLEAR)] * 2 + [("quarantined", SENT_AGAIN)]
    assert feed(acme) == []


def test_a_person_may_replay_what_was_quarantined(acme: Acme) -> None:
    awaited_id = asked(acme)
    for _ in range(2):
        acme.take(EVENT, TEST)
    resolve(acme.engine, awaited_id)
    acme.tell(EVENT, TEST)
    acme.execute("UPDATE receiver.deliveries SET status = 'pending', next_attempt_at = now()")
    acme.process()
    assert sorted(acme.statuses()) == ["duplicate", "duplicate", "processed"]


def test_after_a_day_the_same_again_is_an_event(acme: Acme) -> None:
    awaited_id = asked(acme)
    acme.take(EVENT, TEST)
    resolve(acme.engine, awaited_id)
    acme.execute("UPDATE receiver.awaited_tests SET resolved_at = now() - interval '25 hours'")
    acme.tell(EVENT, TEST)
    assert acme.statuses() == ["ignored", "processed"]


def test_another_webhook_or_another_event_may_say_the_same(acme: Acme, organizations: Organizations) -> None:
    awaited_id = asked(acme)
    acme.take(EVENT, body(TEST))
    resolve(acme.engine, awaited_id)
    globex = organizations.adopt("globex")
    globex.take(EVENT, TEST)
    acme.tell("card_holder.created", TEST)
    error = acme.value("SELECT error FROM receiver.deliveries WHERE event = 'card_holder.created'")
    assert error == "state: belongs to another event than X-Event says, which no signature covers", "and no test"
    assert "equals" not in str(outcomes(acme)[1])


@pytest.mark.parametrize(
    ("ago", "outcome"),
    [("0", ("quarantined", REFUSED)), ("9 minutes", ("quarantined", REFUSED)), ("1 hour", ("processed", None))],
)
def test_a_test_that_was_refused_here_is_not_booked_when_reconcile_finds_it(
    acme: Acme, ago: str, outcome: tuple[str, str | None]
) -> None:
    resolve(acme.engine, asked(acme))  # nothing arrived
    acme.take(EVENT, TEST)
    from_the_log(acme, ago=ago)
    acme.process()
    assert outcomes(acme) == [outcome]


def test_what_reconcile_finds_after_opencard_sent_no_test_is_processed(acme: Acme) -> None:
    withdraw(acme.engine, asked(acme))
    acme.take(EVENT, REAL)
    from_the_log(acme)
    acme.process()
    assert acme.statuses() == ["processed"]


def test_what_reconcile_finds_beside_a_test_that_arrived_is_processed(acme: Acme) -> None:
    awaited_id = asked(acme)
    acme.take(EVENT, TEST)
    resolve(acme.engine, awaited_id)
    acme.take(EVENT, REAL)
    from_the_log(acme)
    acme.process()
    assert acme.statuses() == ["ignored", "processed"]


def test_without_a_test_nothing_is_looked_at(acme: Acme) -> None:
    query = late_tests._LATE.text.replace(":unclear", "''").replace(":clocks", "'1 s'").replace(":ids", "'{1}'")
    with acme.engine.connect() as connection:
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN (ANALYZE) {query}").scalars())
    read = [line for line in plan.splitlines() if "Scan" in line and "never executed" not in line]
    assert "One-Time Filter" in plan
    assert all("awaited_tests" in line for line in read), plan

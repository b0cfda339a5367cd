"""A test delivery never reaches the EMS, and a real event is never lost to one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from receiver.errors import OperationRefused
from receiver.events import claim
from receiver.events.awaited_tests import (
    TEST,
    UNCLEAR,
    await_test,
    candidate_ids,
    note_answer,
    read_awaited,
    resolve,
    withdraw,
)
from receiver.events.content import fingerprint
from tests.events.steps import feed, plans
from tests.factories import body, card_holder, sample, snapshot

if TYPE_CHECKING:
    from tests.conftest import Acme, Organizations

EVENT = "card.transaction.cleared"
MINUTE = timedelta(minutes=1)


def purchase(number: int, organization: str = "acme") -> dict[str, Any]:
    return snapshot("cleared", transaction=f"t{number}", organization={"reference_id": organization})


def told(payload: object) -> bytes:
    return fingerprint(EVENT, body(payload), "acme")


def webhook_id(acme: Acme) -> int:
    number: int = acme.value(
        "SELECT id FROM receiver.webhooks WHERE organization_reference_id = :reference",
        reference=acme.registration.organization_reference_id,
    )
    return number


def asked(acme: Acme, event: str = EVENT, payload: object = None) -> int:
    """Hold what may be a test of *event*, which OpenCard says it sends."""
    awaited_id = await_test(acme.engine, webhook_id(acme), event, at_most=MINUTE)
    note_answer(acme.engine, awaited_id, sent=True, told=None if payload is None else told(payload), wait=MINUTE)
    return awaited_id


def expire(acme: Acme) -> None:
    """Let the time pass that the command would have waited."""
    acme.execute(
        "UPDATE receiver.awaited_tests SET requested_at = requested_at - interval '2 minutes',"
        " expires_at = expires_at - interval '2 minutes'"
    )
    acme.execute("UPDATE receiver.deliveries SET received_at = received_at - interval '2 minutes'")


def errors(acme: Acme) -> list[str | None]:
    return [row["error"] for row in acme.rows("SELECT error FROM receiver.deliveries ORDER BY id")]


def test_what_may_be_the_test_is_held_and_everything_else_is_processed(
    acme: Acme, organizations: Organizations
) -> None:
    globex = organizations.adopt("globex")
    acme.take(EVENT, purchase(1))  # before anything was asked
    asked(acme)
    acme.take(EVENT, purchase(2))
    acme.take("card.transaction.authorized", snapshot("authorized", transaction="t3"))
    globex.take(EVENT, purchase(4, "globex"))
    acme.process()
    assert acme.statuses() == ["processed", "pending", "processed", "processed"]
    assert feed(acme) == [EVENT, "card.transaction.authorized", EVENT]


def test_a_held_delivery_is_not_claimed_as_a_suspect_either(acme: Acme) -> None:
    asked(acme)
    acme.take(EVENT, purchase(1))
    acme.execute("UPDATE receiver.deliveries SET suspect = true")
    acme.process()
    assert acme.statuses() == ["pending"]


def test_another_spelling_of_the_name_is_held_too(acme: Acme) -> None:
    asked(acme, "environmental.impact.deedster")
    acme.take("environmental_impact.deedster", sample("environmental.impact.deedster"))
    acme.process()
    assert acme.statuses() == ["pending"]


def test_the_test_is_ignored_with_evidence_and_never_reaches_the_ems(acme: Acme) -> None:
    awaited_id = asked(acme)
    acme.take(EVENT, purchase(1))
    acme.process()
    assert resolve(acme.engine, awaited_id)
    acme.process()
    assert (acme.statuses(), errors(acme), feed(acme)) == (["ignored"], [TEST], [])
    delivery_id = acme.value("SELECT id FROM receiver.deliveries")
    with acme.engine.connect() as connection:
        awaited = read_awaited(connection, awaited_id)
        assert (awaited.resolved, awaited.delivery_id, awaited.unclear) == (True, delivery_id, ())
        assert candidate_ids(connection, awaited_id) == []
    assert acme.value("SELECT error FROM receiver.processing_attempts") == TEST
    assert acme.value("SELECT count(*) FROM ems.transactions") == 0


def test_real_events_beside_the_test_are_released_and_processed(acme: Acme) -> None:
    awaited_id = asked(acme, payload=purchase(2))
    for number in (1, 2, 3):
        acme.take(EVENT, purchase(number))
    assert resolve(acme.engine, awaited_id)
    acme.process()
    assert acme.statuses() == ["processed", "ignored", "processed"]
    assert len(feed(acme)) == 2


def test_two_that_cannot_be_told_apart_are_quarantined(acme: Acme) -> None:
    awaited_id = asked(acme)
    acme.take(EVENT, purchase(1))
    acme.take(EVENT, purchase(2))
    assert resolve(acme.engine, awaited_id)
    acme.take(EVENT, purchase(3))
    acme.process()
    assert acme.statuses() == ["quarantined", "quarantined", "processed"]
    assert errors(acme) == [UNCLEAR, UNCLEAR, None]
    with acme.engine.connect() as connection:
        assert len(read_awaited(connection, awaited_id).unclear) == 2


def test_the_job_ignores_the_test_of_a_command_that_was_killed(acme: Acme) -> None:
    asked(acme)
    acme.take(EVENT, purchase(1))
    acme.process()
    assert acme.statuses() == ["pending"]
    expire(acme)
    acme.take(EVENT, purchase(2))
    acme.process()
    assert acme.statuses() == ["ignored", "processed"]
    assert len(feed(acme)) == 1


def test_where_a_command_was_killed_before_opencard_answered_the_job_lets_a_person_decide(acme: Acme) -> None:
    await_test(acme.engine, webhook_id(acme), EVENT, at_most=MINUTE)
    acme.take(EVENT, purchase(1))
    expire(acme)
    acme.process()
    assert (acme.statuses(), errors(acme), feed(acme)) == (["quarantined"], [UNCLEAR], [])


def test_what_arrives_after_the_time_is_up_is_not_held_though_nothing_is_resolved(acme: Acme) -> None:
    asked(acme)
    expire(acme)
    acme.execute("UPDATE receiver.awaited_tests SET expires_at = now() + interval '1 hour'")
    acme.take(EVENT, purchase(1))
    acme.process()
    assert acme.statuses() == ["pending"]
    acme.execute("UPDATE receiver.awaited_tests SET expires_at = now() - interval '1 hour'")
    with acme.engine.connect() as connection:
        assert len(claim.Backlog().claim(connection, 10)) == 1
        connection.rollback()
    acme.process()
    assert acme.statuses() == ["processed"]


def test_a_withdrawn_test_releases_what_was_held(acme: Acme) -> None:
    awaited_id = asked(acme)
    acme.take(EVENT, purchase(1))
    withdraw(acme.engine, awaited_id)
    assert not resolve(acme.engine, awaited_id)
    acme.process()
    assert acme.statuses() == ["processed"]


def test_an_event_that_occurred_long_before_is_not_the_test_though_it_was_recovered_just_now(acme: Acme) -> None:
    awaited_id = asked(acme)
    acme.take(EVENT, purchase(1))
    acme.take(EVENT, purchase(2))
    acme.execute(
        "UPDATE receiver.deliveries SET source = 'log', occurred_at = now() - interval '1 hour'"
        " WHERE id = (SELECT min(id) FROM receiver.deliveries)"
    )
    assert resolve(acme.engine, awaited_id)
    acme.process()
    assert acme.statuses() == ["processed", "ignored"]


def test_many_resolvers_at_once_settle_once(acme: Acme) -> None:
    awaited_id = asked(acme)
    acme.take(EVENT, purchase(1))
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: resolve(acme.engine, awaited_id), range(16))) == 1
    assert acme.value("SELECT count(*) FROM receiver.processing_attempts") == 1
    assert acme.row("SELECT status, attempts FROM receiver.deliveries") == {"status": "ignored", "attempts": 1}


def test_who_finds_somebody_else_resolving_does_not_wait(acme: Acme) -> None:
    awaited_id = asked(acme)
    with acme.engine.begin() as connection:
        connection.exec_driver_sql("SELECT id FROM receiver.awaited_tests FOR UPDATE")
        assert not resolve(acme.engine, awaited_id)


def test_two_tests_of_one_event_are_not_awaited_at_once(acme: Acme, organizations: Organizations) -> None:
    globex = organizations.adopt("globex")
    awaited_id = asked(acme)
    with pytest.raises(OperationRefused, match="is awaited on webhook"):
        asked(acme)
    asked(acme, "card_holder.created")
    asked(globex)
    resolve(acme.engine, awaited_id)
    asked(acme)


def test_a_command_that_was_killed_does_not_bar_the_next_one_for_ever(acme: Acme) -> None:
    asked(acme)
    expire(acme)
    asked(acme)


def test_what_is_held_is_neither_lost_nor_taken_for_the_test_when_card_holders_repeat_themselves(acme: Acme) -> None:
    acme.tell("card_holder.created", card_holder())
    awaited_id = await_test(acme.engine, webhook_id(acme), "card_holder.created", at_most=MINUTE)
    note_answer(acme.engine, awaited_id, sent=True, told=None, wait=MINUTE)
    acme.take("card_holder.created", card_holder("somebody", "example"))
    acme.take("card_holder.created", card_holder("employee-18"))
    resolve(acme.engine, awaited_id)
    acme.process()
    assert acme.statuses() == ["processed", "ignored", "processed"]


@pytest.mark.parametrize("fresh_first", [False, True])
def test_holding_costs_a_claim_no_sorting_and_no_reading_of_what_was_resolved(acme: Acme, *, fresh_first: bool) -> None:
    with acme.engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        (*_, plan) = plans(connection, lambda: claim.Backlog(fresh_first=fresh_first).claim(connection, 500))
    assert "ix_deliveries_waiting" in plan
    assert "Sort" not in plan[plan.index("LockRows") : plan.index("placed")]
    assert plan.count("ix_awaited_tests_unresolved") == 2

"""OpenCard's clock may be wrong: what is recovered is dated by ours, so that card holders' events keep their order."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from receiver.processing.drain import drain
from receiver.sandbox.faults import Faults
from receiver.sandbox.story import make_story
from tests.support.factories import card_holder
from tests.support.reconcile_steps import (
    MINUTE,
    ago,
    append_log,
    attempts,
    deliver,
    feed_types,
    ledger_differences,
    reconcile,
    reconcile_and_process,
    store_delivery,
    value,
)

if TYPE_CHECKING:
    from tests.support.world import World

CREATED, IDENTIFIED, DELETED = "card_holder.created", "card_holder.identified", "card_holder.deleted"
OTHER = card_holder("employee-99")
AHEAD = [4 * MINUTE, -4 * MINUTE]
OCCURRED = "SELECT occurred_at FROM receiver.deliveries WHERE source = 'log'"


def deliver_one_logged(world: World, ahead: timedelta) -> None:
    """Let an event be pushed and logged, by which the clocks can be compared."""
    at = ago(10 * MINUTE)
    store_delivery(world, CREATED, OTHER, at=at)
    append_log(world, attempts(CREATED, OTHER, 200, at=at + ahead))


@pytest.mark.parametrize("ahead", AHEAD)
def test_recovered_event_is_ordered_among_arrived_ones(acme: World, ahead: timedelta) -> None:
    deliver_one_logged(acme, ahead)
    begun = ago(5 * MINUTE)
    for number, (event, arrives) in enumerate([(CREATED, True), (IDENTIFIED, False), (DELETED, True)]):
        at = begun + number * timedelta(seconds=10)
        if arrives:
            store_delivery(acme, event, card_holder(), at=at)
        append_log(acme, attempts(event, card_holder(), 200 if arrives else None, at=at + ahead))
    assert reconcile_and_process(acme).recovered == 1
    assert value(acme, OCCURRED) == begun + timedelta(seconds=10)


@pytest.mark.parametrize("ahead", AHEAD)
def test_retry_of_a_recovered_event_is_a_duplicate(acme: World, ahead: timedelta) -> None:
    deliver_one_logged(acme, ahead)
    begun = ago(5 * MINUTE)
    append_log(acme, attempts(CREATED, card_holder(), None, at=begun + ahead))
    assert reconcile_and_process(acme).recovered == 1
    for number, event in enumerate([CREATED, IDENTIFIED, DELETED], start=1):
        store_delivery(acme, event, card_holder(), at=begun + number * timedelta(seconds=5))
    assert drain(acme.engine)
    assert feed_types(acme).count(CREATED) == 2, "that of the other card holder, and this one once"
    assert value(acme, "SELECT deleted_at FROM ems.card_holders WHERE reference_id = 'employee-17'")


def test_slow_requests_do_not_look_like_a_wrong_clock(acme: World) -> None:
    """Most are slow, as behind a crowd; the event that is recovered must not be dated behind what came after it."""
    begun = ago(5 * MINUTE)
    for number in range(10):
        at = begun + timedelta(seconds=number)
        who = card_holder(f"employee-{number}")
        append_log(acme, attempts(CREATED, who, 200, at=at + 4 * MINUTE))
        store_delivery(acme, CREATED, who, at=at + timedelta(seconds=20 if number > 1 else 0))
    append_log(acme, attempts(DELETED, card_holder(), None, at=begun + 4 * MINUTE))
    assert reconcile_and_process(acme).recovered == 1
    assert value(acme, OCCURRED) == begun


def test_unmeasured_clock_offset_is_that_of_the_last_run(acme: World) -> None:
    deliver_one_logged(acme, 4 * MINUTE)
    reconcile(acme)
    at = ago(timedelta(seconds=30))
    append_log(acme, attempts(DELETED, card_holder(), None, at=at + 4 * MINUTE))
    assert reconcile_and_process(acme).recovered == 1
    assert value(acme, OCCURRED) == at


def test_a_failed_attempt_does_not_measure_the_clock(acme: World) -> None:
    """What arrived came by a retry, which the log does not have yet."""
    append_log(acme, attempts(CREATED, OTHER, 503, at=ago(20 * MINUTE)))
    store_delivery(acme, CREATED, OTHER, at=ago(5 * MINUTE))
    at = ago(3 * MINUTE)
    append_log(acme, attempts(DELETED, card_holder(), None, at=at))
    assert reconcile_and_process(acme).recovered == 1
    assert value(acme, OCCURRED) == at


def test_log_in_whole_seconds_does_not_look_like_a_wrong_clock(acme: World) -> None:
    at = ago(5 * MINUTE).replace(microsecond=900_000)
    store_delivery(acme, CREATED, OTHER, at=at)
    append_log(acme, attempts(DELETED, card_holder(), None, at=at.replace(microsecond=0)))
    append_log(acme, attempts(CREATED, OTHER, 200, at=at.replace(microsecond=0)))
    assert reconcile_and_process(acme).recovered == 1
    assert value(acme, OCCURRED) == at.replace(microsecond=0)


@pytest.mark.parametrize("ahead", AHEAD)
def test_wrong_clock_and_all_faults_leave_nothing_missing(acme: World, ahead: timedelta) -> None:
    acme.provider.behaviour.clock_ahead = ahead
    story = make_story(seed=11, organizations=["acme"], purchases=20)
    deliver(acme, story, Faults(duplicates=0.2, disorder=0.2, lost_answers=0.2, bursts=0.2, lost=0.2))
    reconcile_and_process(acme)
    assert ledger_differences(acme, story) == []
    assert reconcile(acme).recovered == 0

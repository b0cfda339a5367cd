"""OpenCard's clock may be wrong: what is recovered is dated by ours, so that card holders' events keep their order."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from receiver.processing.drain import drain
from receiver.sandbox.faults import Faults
from receiver.sandbox.story import tell
from tests.support.factories import card_holder
from tests.support.reconcile_steps import (
    MINUTE,
    ago,
    deliver,
    differing,
    feed,
    log,
    mend,
    reconcile,
    store,
    tried,
    value,
)

if TYPE_CHECKING:
    from tests.support.world import World

CREATED, IDENTIFIED, DELETED = "card_holder.created", "card_holder.identified", "card_holder.deleted"
OTHER = card_holder("employee-99")
AHEAD = [4 * MINUTE, -4 * MINUTE]
OCCURRED = "SELECT occurred_at FROM receiver.deliveries WHERE source = 'log'"


def both_sides_see_one(world: World, ahead: timedelta) -> None:
    """Let an event be pushed and logged, by which the clocks can be compared."""
    at = ago(10 * MINUTE)
    store(world, CREATED, OTHER, at=at)
    log(world, tried(CREATED, OTHER, 200, at=at + ahead))


@pytest.mark.parametrize("ahead", AHEAD)
def test_a_recovered_event_takes_its_place_among_those_that_arrived(acme: World, ahead: timedelta) -> None:
    both_sides_see_one(acme, ahead)
    begun = ago(5 * MINUTE)
    for number, (event, arrives) in enumerate([(CREATED, True), (IDENTIFIED, False), (DELETED, True)]):
        at = begun + number * timedelta(seconds=10)
        if arrives:
            store(acme, event, card_holder(), at=at)
        log(acme, tried(event, card_holder(), 200 if arrives else None, at=at + ahead))
    assert mend(acme).recovered == 1
    assert value(acme, OCCURRED) == begun + timedelta(seconds=10)


@pytest.mark.parametrize("ahead", AHEAD)
def test_a_retry_of_what_was_recovered_meanwhile_is_no_second_event(acme: World, ahead: timedelta) -> None:
    both_sides_see_one(acme, ahead)
    begun = ago(5 * MINUTE)
    log(acme, tried(CREATED, card_holder(), None, at=begun + ahead))
    assert mend(acme).recovered == 1
    for number, event in enumerate([CREATED, IDENTIFIED, DELETED], start=1):
        store(acme, event, card_holder(), at=begun + number * timedelta(seconds=5))
    assert drain(acme.engine)
    assert feed(acme).count(CREATED) == 2, "that of the other card holder, and this one once"
    assert value(acme, "SELECT deleted_at FROM ems.card_holders WHERE reference_id = 'employee-17'")


def test_requests_that_take_long_are_no_wrong_clock(acme: World) -> None:
    """Most are slow, as behind a crowd; the event that is recovered must not be dated behind what came after it."""
    begun = ago(5 * MINUTE)
    for number in range(10):
        at = begun + timedelta(seconds=number)
        who = card_holder(f"employee-{number}")
        log(acme, tried(CREATED, who, 200, at=at + 4 * MINUTE))
        store(acme, CREATED, who, at=at + timedelta(seconds=20 if number > 1 else 0))
    log(acme, tried(DELETED, card_holder(), None, at=begun + 4 * MINUTE))
    assert mend(acme).recovered == 1
    assert value(acme, OCCURRED) == begun


def test_where_nothing_tells_the_clock_is_taken_to_be_what_the_last_run_saw(acme: World) -> None:
    both_sides_see_one(acme, 4 * MINUTE)
    reconcile(acme)
    at = ago(timedelta(seconds=30))
    log(acme, tried(DELETED, card_holder(), None, at=at + 4 * MINUTE))
    assert mend(acme).recovered == 1
    assert value(acme, OCCURRED) == at


def test_whole_seconds_in_the_log_are_no_wrong_clock(acme: World) -> None:
    at = ago(5 * MINUTE).replace(microsecond=900_000)
    store(acme, CREATED, OTHER, at=at)
    log(acme, tried(DELETED, card_holder(), None, at=at.replace(microsecond=0)))
    log(acme, tried(CREATED, OTHER, 200, at=at.replace(microsecond=0)))
    assert mend(acme).recovered == 1
    assert value(acme, OCCURRED) == at.replace(microsecond=0)


@pytest.mark.parametrize("ahead", AHEAD)
def test_a_story_with_all_faults_is_complete_though_the_clock_is_wrong(acme: World, ahead: timedelta) -> None:
    acme.provider.behaviour.clock_ahead = ahead
    story = tell(seed=11, organizations=["acme"], purchases=20)
    deliver(acme, story, Faults(duplicates=0.2, disorder=0.2, lost_answers=0.2, bursts=0.2, lost=0.2))
    mend(acme)
    assert differing(acme, story) == []
    assert reconcile(acme).recovered == 0

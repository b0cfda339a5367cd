"""Random stories of events sent, lost and retried late: after a run the rows are those of the order of occurrence."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.events.catalogue import canonical_name
from receiver.events.content import decode
from receiver.events.deduplicate import EventDelivery, group_by_event
from receiver.events.kinds import BY_NAME, KIND_OF
from receiver.processing.drain import drain
from receiver.progress import Progress
from receiver.reconcile import compare
from receiver.records.write import writing_connection
from receiver.sandbox.tally import DeliveryAttempt
from receiver.testing.emptying import empty_database
from receiver.verify.run import verify
from tests.support.factories import body
from tests.support.processing_steps import NOON
from tests.support.reconcile_steps import (
    DAY,
    MINUTE,
    ago,
    execute,
    feed_types,
    process,
    reconcile,
    rows,
    store_delivery,
)
from tests.support.stories import EVERYTHING, SENT, DeliveryStory, Sent, differing, rows_of, sent, stories, story

if TYPE_CHECKING:
    from datetime import datetime

    from receiver.events.kinds import EventKind
    from tests.support.world import World


def begin_again(world: World) -> None:
    """Let nothing have arrived, and nothing be in OpenCard's log."""
    empty_database(world.engine)
    world.provider.state._logs[world.registered().id].entries.clear()


def happen(
    world: World, story: DeliveryStory, began: datetime, after: timedelta, until: timedelta, turns: list[int]
) -> None:
    """Let the attempts between two moments be made; what arrives is processed in turns."""
    made = [(attempt, sent) for attempt, sent in story.attempts() if after < attempt.at <= until]
    world.provider.state.log_attempts(
        world.registered().id,
        [
            DeliveryAttempt("acme", sent.event, attempt.status, began + attempt.at, body(sent.payload))
            for attempt, sent in made
        ],
    )
    arrived = [store_delivery(world, *sent, at=began + attempt.at) for attempt, sent in made if attempt.arrives]
    execute(world, "UPDATE receiver.queue SET alone = true, due_at = now() + interval '1 day'")
    for turn in range(3):
        ids = [delivery for number, delivery in enumerate(arrived) if turns[number % len(turns)] == turn]
        execute(world, "UPDATE receiver.queue SET alone = false, due_at = now() WHERE delivery_id = ANY(:ids)", ids=ids)
        assert drain(world.engine)


def reconcile_all(world: World) -> None:
    """Reconcile back to the beginning, and process the recovered deliveries."""
    reconcile(world, since=ago(30 * DAY))
    process(world)


def wrong(world: World, story: DeliveryStory, began: datetime) -> list[str]:
    """Return what of ``ems`` is not as it follows from a story: rows, and events that the feed lacks."""
    logged = [
        (row["type"], decode(row["payload"].encode()))
        for row in rows(world, "SELECT type, payload::text FROM ems.events")
    ]
    unknown = [
        f"ems.events: no {each.sent.event}"
        for each in story.happened
        if (canonical_name(each.sent.event), decode(body(each.sent.payload))) not in logged
    ]
    with closing(writing_connection(world.engine)) as connection:
        verified = [
            f"{each.table} {each.key}: {each.problem} {each.columns}" for each in verify(connection, None, Progress())
        ]
        return differing(connection, rows_of(story, began)) + unknown + verified


def run_story(world: World, story: DeliveryStory, turns: list[int], pause: int | None) -> None:
    """Let a story happen, with a run after some of its attempts, and one at its end; check what is there."""
    begin_again(world)
    began = ago(story.length + 2 * MINUTE)
    moments = [attempt.at for attempt, _ in story.attempts()]
    middle = moments[pause % len(moments)] if pause is not None else timedelta()
    if middle:
        happen(world, story, began, timedelta(), middle, turns)
        reconcile_all(world)
    happen(world, story, began, middle, story.length, turns)
    reconcile_all(world)
    assert wrong(world, story, began) == []
    before = feed_types(world)
    assert reconcile(world, since=ago(30 * DAY)).recovered == 0
    process(world)
    assert feed_types(world) == before
    assert wrong(world, story, began) == []


TURNS = st.lists(st.integers(0, 2), min_size=1, max_size=6)
PAUSES = st.none() | st.integers(0, 20)


@pytest.mark.long
@pytest.mark.parametrize("kind", [*SENT, "everything"])
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_rows_follow_from_the_true_order(acme: World, kind: str, data: st.DataObject) -> None:
    story = data.draw(stories(SENT.get(kind, EVERYTHING)), label="story")
    run_story(acme, story, data.draw(TURNS, label="turns"), data.draw(PAUSES, label="reconciled after"))


def simulated(kind: EventKind, story: DeliveryStory, pause: int | None) -> list[tuple[datetime, str]]:
    """Return the events that comparing ends with, and when each occurred: pure, with clocks that differ by a second."""
    attempts = list(story.attempts())
    until = {len(attempts), *([] if pause is None else [pause % len(attempts)])}
    logged: dict[str, list[compare.LogAttempt]] = {}
    stored: dict[str, list[compare.ComparedDelivery]] = {}
    numbers = count()
    for number, (attempt, what) in enumerate(attempts, start=1):
        key = _key(kind, what)
        logged.setdefault(key, []).append(compare.LogAttempt(number, NOON + attempt.at, accepted=attempt.status == 200))
        if attempt.arrives:
            at = NOON + attempt.at + timedelta(seconds=number % 3 - 1)
            stored.setdefault(key, []).append(compare.ComparedDelivery(next(numbers), at, arrived=at))
        for _ in range(2 * (number in until)):
            for each, tried in logged.items():
                comparison = compare.compare(each.partition(" ")[0], tried, stored.setdefault(each, []))
                dated = dict(comparison.backdated)
                stored[each] = [replace(one, at=dated.get(one.id, one.at)) for one in stored[each]]
                stored[each] += [
                    compare.ComparedDelivery(next(numbers), one.at, from_log=True)
                    for one in comparison.missing
                    if one.at is not None
                ]
    return _events(kind, [(each, one.at) for each, some in stored.items() for one in some])


def _key(kind: EventKind, sent: Sent) -> str:
    return sent.event if kind.in_sequence else f"{sent.event} {body(sent.payload)!r}"


def _events(kind: EventKind, times: list[tuple[str, datetime]]) -> list[tuple[datetime, str]]:
    deliveries = [EventDelivery(key, at, number) for number, (key, at) in enumerate(times)]
    return sorted((group[0].at, str(group[0].key)) for group in group_by_event(kind, deliveries))


@pytest.mark.parametrize("kind", ["transaction", "card_holder"])
@settings(max_examples=300)
@given(st.data())
def test_comparing_finds_the_true_order(kind: str, data: st.DataObject) -> None:
    """Of what is equal by value, and of what is equal to its neighbour: all kinds are one of the two."""
    story = data.draw(stories(SENT[kind]), label="story")
    found = simulated(BY_NAME[kind], story, data.draw(PAUSES, label="compared after"))
    true = _events(
        BY_NAME[kind],
        [(_key(BY_NAME[kind], each.sent), NOON + each.attempts[0].at) for each in story.happened],
    )
    assert [key for _, key in found] == [key for _, key in true]
    assert all(abs(at - truly) <= timedelta(seconds=2) for (at, _), (truly, _) in zip(found, true, strict=True))


@pytest.mark.parametrize("ending", ["by a retry", "never"])
def test_a_late_event_of_each_kind_takes_its_place(acme: World, ending: str) -> None:
    """The first attempt fails, something newer arrives; then a retry arrives, or none ever does."""
    pause = timedelta(seconds=45)
    for event in KIND_OF:
        newer = sent(event, 2)
        if newer == sent(event, 1):  # of a card holder
            newer = sent("card_holder.deleted" if event == "card_holder.created" else "card_holder.created")
        late = story([(sent(event, 1), timedelta(), ending, pause), (newer, timedelta(seconds=6), "at once", pause)])
        begin_again(acme)
        began = ago(late.length + 2 * MINUTE)
        happen(acme, late, began, timedelta(), late.length, [0])
        assert wrong(acme, late, began) != [], event
        reconcile_all(acme)
        assert wrong(acme, late, began) == [], event

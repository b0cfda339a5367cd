"""Deliveries that are one event, whatever the order in which they are looked at."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from receiver.events.deduplicate import WINDOW, Mention, runs
from receiver.events.kinds import BY_NAME
from tests.support.processing_steps import NOON

if TYPE_CHECKING:
    import random

    from receiver.events.kinds import EventKind

TRANSACTION, CARD_HOLDER = BY_NAME["transaction"], BY_NAME["card_holder"]
MENTIONS = st.lists(
    st.builds(
        Mention,
        key=st.sampled_from(["a", "b", "c"]),
        at=st.integers(0, 100).map(lambda hours: NOON + timedelta(hours=hours)),
        delivery_id=st.integers(1, 10**6),
    ),
    unique_by=lambda mention: mention.delivery_id,
    min_size=1,
    max_size=12,
)
KINDS = st.sampled_from([TRANSACTION, CARD_HOLDER])


def keys(found: list[list[Mention]]) -> list[list[int]]:
    return sorted([mention.delivery_id for mention in run] for run in found)


@given(KINDS, MENTIONS, st.randoms())
def test_order_in_which_deliveries_are_read_does_not_show(
    kind: EventKind, mentions: list[Mention], rng: random.Random
) -> None:
    shuffled = list(mentions)
    rng.shuffle(shuffled)
    assert keys(runs(kind, shuffled)) == keys(runs(kind, mentions))


@given(KINDS, MENTIONS)
def test_one_more_delivery_never_makes_fewer_events(kind: EventKind, mentions: list[Mention]) -> None:
    assert len(runs(kind, mentions)) >= len(runs(kind, mentions[:-1]))


@given(MENTIONS)
def test_equal_deliveries_are_one_event_for_a_day(mentions: list[Mention]) -> None:
    found = runs(TRANSACTION, mentions)
    for run in found:
        assert {mention.key for mention in run} == {run[0].key}
        assert run[-1].at - run[0].at <= WINDOW
    for key in {mention.key for mention in mentions}:
        firsts = sorted(run[0].at for run in found if run[0].key == key)
        assert all(later - earlier > WINDOW for earlier, later in pairwise(firsts))


@given(MENTIONS)
def test_equal_neighbours_of_a_card_holder_are_one_event(mentions: list[Mention]) -> None:
    found = [run[0].key for run in runs(CARD_HOLDER, mentions)]
    assert all(one != other for one, other in pairwise(found))

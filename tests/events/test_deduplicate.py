"""Deliveries that are one event, whatever the order in which they are looked at."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from receiver.events.deduplicate import WINDOW, EventDelivery, group_by_event
from receiver.events.kinds import BY_NAME
from tests.support.processing_steps import NOON

if TYPE_CHECKING:
    import random

    from receiver.events.kinds import EventKind

TRANSACTION, CARD_HOLDER = BY_NAME["transaction"], BY_NAME["card_holder"]
DELIVERIES = st.lists(
    st.builds(
        EventDelivery,
        key=st.sampled_from(["a", "b", "c"]),
        at=st.integers(0, 100).map(lambda hours: NOON + timedelta(hours=hours)),
        delivery_id=st.integers(1, 10**6),
    ),
    unique_by=lambda delivery: delivery.delivery_id,
    min_size=1,
    max_size=12,
)
KINDS = st.sampled_from([TRANSACTION, CARD_HOLDER])


def keys(found: list[list[EventDelivery]]) -> list[list[int]]:
    return sorted([delivery.delivery_id for delivery in group] for group in found)


@given(KINDS, DELIVERIES, st.randoms())
def test_order_in_which_deliveries_are_read_does_not_show(
    kind: EventKind, deliveries: list[EventDelivery], rng: random.Random
) -> None:
    shuffled = list(deliveries)
    rng.shuffle(shuffled)
    assert keys(group_by_event(kind, shuffled)) == keys(group_by_event(kind, deliveries))


@given(KINDS, DELIVERIES)
def test_one_more_delivery_never_makes_fewer_events(kind: EventKind, deliveries: list[EventDelivery]) -> None:
    assert len(group_by_event(kind, deliveries)) >= len(group_by_event(kind, deliveries[:-1]))


@given(DELIVERIES)
def test_equal_deliveries_are_one_event_for_a_day(deliveries: list[EventDelivery]) -> None:
    found = group_by_event(TRANSACTION, deliveries)
    for group in found:
        assert {delivery.key for delivery in group} == {group[0].key}
        assert group[-1].at - group[0].at <= WINDOW
    for key in {delivery.key for delivery in deliveries}:
        firsts = sorted(group[0].at for group in found if group[0].key == key)
        assert all(later - earlier > WINDOW for earlier, later in pairwise(firsts))


@given(DELIVERIES)
def test_equal_neighbours_of_a_card_holder_are_one_event(deliveries: list[EventDelivery]) -> None:
    found = [group[0].key for group in group_by_event(CARD_HOLDER, deliveries)]
    assert all(one != other for one, other in pairwise(found))

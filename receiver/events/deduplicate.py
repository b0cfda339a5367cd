"""Finds which deliveries are the same event: OpenCard sends no delivery id, and equal ones may be retries. Pure.

By value: equal deliveries within a day of the first one are one event; a later one is a new event. In sequence (card
holders): equal neighbours are one event, so ``created, deleted, created`` are three. Both rules use all deliveries of a
subject in order of time, so the order of processing does not matter. With one more delivery, neither rule ever finds
fewer events, so no entry of the event log ever becomes wrong by it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from receiver.events.event import Event
    from receiver.events.kinds import EventKind

WINDOW: Final = timedelta(days=1)
"""How long after an event an equal delivery is a retry of it."""


class EventDelivery(msgspec.Struct, frozen=True):
    """A delivery of an event."""

    key: bytes | str
    """Equal for equal events."""
    at: datetime
    delivery_id: int
    position: int | None = None
    """Position in the event log, if this delivery was the first of an event."""


def key_of(kind: EventKind, event: Event) -> bytes | str:
    """Return the key that is equal for events that may be one: the fingerprint, or the name for card holders."""
    return event.name if kind.in_sequence else event.fingerprint


def group_by_event(kind: EventKind, deliveries: Iterable[EventDelivery]) -> list[list[EventDelivery]]:
    """Return the deliveries grouped by event, each group in order of time."""
    in_order = sorted(deliveries, key=lambda delivery: (delivery.at, delivery.delivery_id))
    if kind.in_sequence:
        return [list(group) for _, group in groupby(in_order, key=lambda delivery: delivery.key)]
    found: list[list[EventDelivery]] = []
    newest: dict[bytes | str, list[EventDelivery]] = {}
    for delivery in in_order:
        group = newest.get(delivery.key)
        if group is None or delivery.at - group[0].at > WINDOW:
            newest[delivery.key] = group = []
            found.append(group)
        group.append(delivery)
    return found


def distinct_events(kind: EventKind, events: Sequence[Event]) -> list[Event]:
    """Return *events* of one subject in order of time, without retries: the first of each group."""
    if len(events) == 1:
        return list(events)
    by_delivery = {event.delivery_id: event for event in events}
    deliveries = [EventDelivery(key_of(kind, event), event.occurred_at, event.delivery_id) for event in events]
    firsts = sorted(
        (group[0] for group in group_by_event(kind, deliveries)), key=lambda first: (first.at, first.delivery_id)
    )
    return [by_delivery[first.delivery_id] for first in firsts]

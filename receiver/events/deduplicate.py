"""Which deliveries are one event? There is no delivery id, so equal ones may be retries, or events of their own. Pure.

By value: deliveries equal by value are one event for a day from its first; what comes later is a new one. In sequence
(card holders): equal neighbours are one event, so ``created, deleted, created`` is three. Both look at all deliveries
of a subject in order of time, so that the order in which they were processed does not show; and neither ever finds
fewer events when a delivery is added, so that no entry of the log has to be retracted.
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
"""For how long after an event equal deliveries are retries of it."""


class Mention(msgspec.Struct, frozen=True):
    """A delivery of an event."""

    key: bytes | str
    """Equal for equal events."""
    at: datetime
    delivery_id: int
    position: int | None = None
    """In the log, where this delivery brought an event."""


def key_of(kind: EventKind, event: Event) -> bytes | str:
    """Return what is equal for events that may be one: their content, or of card holders their name."""
    return event.name if kind.in_sequence else event.fingerprint


def runs(kind: EventKind, mentions: Iterable[Mention]) -> list[list[Mention]]:
    """Return the deliveries that are one event together, each list in order of time."""
    in_order = sorted(mentions, key=lambda mention: (mention.at, mention.delivery_id))
    if kind.in_sequence:
        return [list(run) for _, run in groupby(in_order, key=lambda mention: mention.key)]
    found: list[list[Mention]] = []
    newest: dict[bytes | str, list[Mention]] = {}
    for mention in in_order:
        run = newest.get(mention.key)
        if run is None or mention.at - run[0].at > WINDOW:
            newest[mention.key] = run = []
            found.append(run)
        run.append(mention)
    return found


def occurrences(kind: EventKind, events: Sequence[Event]) -> list[Event]:
    """Return *events* of one subject in order of time, of equal ones that are one event the first."""
    if len(events) == 1:
        return list(events)
    by_delivery = {event.delivery_id: event for event in events}
    mentions = [Mention(key_of(kind, event), event.occurred_at, event.delivery_id) for event in events]
    firsts = sorted((run[0] for run in runs(kind, mentions)), key=lambda first: (first.at, first.delivery_id))
    return [by_delivery[first.delivery_id] for first in firsts]

"""Decides which deliveries of a subject are new events, which repeat one, and when each event occurred. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from receiver.events.deduplicate import EventDelivery, group_by_event, key_of
from receiver.json_rows import bytea

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from receiver.events.event import Event
    from receiver.events.kinds import EventKind
    from receiver.json_rows import Row
    from receiver.records.history import KnownDeliveries


@dataclass(slots=True)
class Decided:
    """The decision about the deliveries of a subject."""

    events: list[Event] = field(default_factory=list)
    """All events of the subject, those in the log and the new ones, with the times at which they occurred."""
    new: list[Event] = field(default_factory=list)
    corrected_times: dict[int, datetime] = field(default_factory=dict)
    """The corrected times of events in the log, by position."""
    outcomes: list[Row] = field(default_factory=list)
    """For the deliveries that arrived, and for stored retries that turn out to be events."""


def decide(
    kind: EventKind, known: KnownDeliveries, arrived: Sequence[Event], fingerprints: Mapping[int, bytes] | None = None
) -> Decided:
    """Return which of *arrived* are new events and which repeat one, among all deliveries of their subject. Pure.

    *fingerprints*: by delivery, what known events are recognized by: a keyed one if their card holder is erased.
    A retracted delivery that is processed again keeps its outcome and changes nothing.
    """
    retracted = known.retracted_places()
    if retracted:
        again = [event for event in arrived if event.delivery_id in retracted]
        arrived = [event for event in arrived if event.delivery_id not in retracted]
    else:
        again = []
    decided = _decide(kind, known, arrived, fingerprints or {})
    for event in again:
        position, repeats = retracted[event.delivery_id]
        decided.outcomes.append(_outcome(event, position, None, repeats=repeats))
    return decided


def _decide(
    kind: EventKind, known: KnownDeliveries, arrived: Sequence[Event], fingerprints: Mapping[int, bytes]
) -> Decided:
    if not known.events and len(arrived) == 1:  # the usual case: the first delivery of a purchase
        return Decided(events=[*arrived], new=[*arrived], outcomes=[_outcome(arrived[0], None, arrived[0].delivery_id)])
    content, deliveries = _deliveries(kind, known, arrived, fingerprints)
    own = {event.delivery_id: event for event in arrived}
    logged = {event.position: event for event in known.events}
    decided = Decided()
    for group in group_by_event(kind, deliveries.values()):
        first = group[0]
        published = [delivery for delivery in group if delivery.position is not None]
        for number, delivery in enumerate(published):
            event = logged[delivery.position]
            at = delivery.at if number else first.at
            if at != event.occurred_at:
                decided.corrected_times[delivery.position or 0] = at
                event = msgspec.structs.replace(event, occurred_at=at)
            decided.events.append(event)
        if not published:
            new = content[first.delivery_id]
            decided.events.append(new)
            decided.new.append(new)
        position = published[0].position if published else None
        for delivery in group:
            brought = delivery is first if not published else delivery.position is not None
            if delivery.delivery_id in own or (brought and not published):
                event = content[delivery.delivery_id]
                place = delivery.position if brought else position
                decided.outcomes.append(
                    _outcome(event, place, None if published else first.delivery_id, repeats=not brought)
                )
    return decided


def _outcome(event: Event, position: int | None, brought_by: int | None, *, repeats: bool = False) -> Row:
    """Return a delivery's outcome. Its event is at *position*, or is new and *brought_by* a delivery."""
    return {
        "delivery_id": event.delivery_id,
        "status": "duplicate" if repeats else "processed",
        "position": position,
        "brought_by": brought_by,
        "fingerprint": bytea(event.fingerprint) if repeats else None,
    }


def _deliveries(
    kind: EventKind, known: KnownDeliveries, arrived: Sequence[Event], fingerprints: Mapping[int, bytes]
) -> tuple[dict[int, Event], dict[int, EventDelivery]]:
    """Return the event in each delivery, and when each was first attempted; both by delivery."""

    def key(event: Event) -> bytes | str:
        return event.name if kind.in_sequence else fingerprints.get(event.delivery_id, event.fingerprint)

    content = {event.delivery_id: event for event in known.events}
    deliveries = {
        event.delivery_id: EventDelivery(key(event), event.occurred_at, event.delivery_id, event.position)
        for event in known.events
    }
    by_position = {event.position: event for event in known.events}
    for repeat in known.repeats:
        event = by_position[repeat.position]
        if repeat.repeats:
            content[repeat.delivery_id] = msgspec.structs.replace(
                event,
                delivery_id=repeat.delivery_id,
                occurred_at=repeat.occurred_at,
                source=repeat.source,
                position=None,
            )
        deliveries[repeat.delivery_id] = EventDelivery(
            key(event), repeat.occurred_at, repeat.delivery_id, None if repeat.repeats else repeat.position
        )
    for event in arrived:
        before = deliveries.get(event.delivery_id)
        position = None if before is None else before.position
        content[event.delivery_id] = event
        deliveries[event.delivery_id] = EventDelivery(
            key_of(kind, event), event.occurred_at, event.delivery_id, position
        )
    return content, deliveries

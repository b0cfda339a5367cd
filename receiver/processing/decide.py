"""Decides which deliveries of a subject are new events, which are retries, and when each event occurred. Pure."""

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
    """All events of the subject, those in the event log and the new ones, with the times at which they occurred."""
    new: list[Event] = field(default_factory=list)
    corrected_times: dict[int, datetime] = field(default_factory=dict)
    """The corrected times of events in the event log, by position."""
    outcomes: list[Row] = field(default_factory=list)
    """For the deliveries that arrived, and for stored retries that turn out to be events."""

    def add_new(self, event: Event) -> None:
        """Add a new event, with the outcome of its delivery."""
        self.events.append(event)
        self.new.append(event)
        self.outcomes.append(_outcome(event, first_delivery_id=event.delivery_id))


def decide(
    kind: EventKind, known: KnownDeliveries, arrived: Sequence[Event], fingerprints: Mapping[int, bytes] | None = None
) -> Decided:
    """Return which of *arrived* are new events and which are retries, among all deliveries of their subject. Pure.

    *fingerprints*: by delivery, what known events are recognized by: a keyed one if their card holder is erased.
    A retracted delivery that is processed again keeps its outcome and changes nothing.
    """
    decided = Decided()
    for delivery_id, (position, is_retry) in known.positions_of_retracted().items():
        again = [event for event in arrived if event.delivery_id == delivery_id]
        arrived = [event for event in arrived if event.delivery_id != delivery_id]
        decided.outcomes += [_outcome(event, position=position, is_retry=is_retry) for event in again]
    if not known.events and len(arrived) == 1:  # the usual case: the first delivery of a purchase
        decided.add_new(arrived[0])
        return decided
    content, deliveries = _deliveries(kind, known, arrived, fingerprints or {})
    arrived_ids = {event.delivery_id for event in arrived}
    entries = {event.position: event for event in known.events}
    for group in group_by_event(kind, deliveries.values()):
        first = group[0]
        logged = [delivery for delivery in group if delivery.position is not None]
        if not logged:
            decided.add_new(content[first.delivery_id])
            decided.outcomes += [
                _outcome(content[retry.delivery_id], first_delivery_id=first.delivery_id, is_retry=True)
                for retry in group[1:]
                if retry.delivery_id in arrived_ids
            ]
            continue
        for delivery in logged:
            event = entries[delivery.position]
            # Only the first entry gets the group's time, that of the first attempt. If the event log has several
            # entries of one event, the others keep the times of their own deliveries.
            at = first.at if delivery is logged[0] else delivery.at
            if at != event.occurred_at:
                decided.corrected_times[delivery.position or 0] = at
                event = msgspec.structs.replace(event, occurred_at=at)
            decided.events.append(event)
        position_of_event = logged[0].position
        for delivery in group:
            if delivery.delivery_id in arrived_ids:
                is_retry = delivery.position is None
                position = position_of_event if is_retry else delivery.position
                decided.outcomes.append(_outcome(content[delivery.delivery_id], position=position, is_retry=is_retry))
    return decided


def _outcome(
    event: Event, *, position: int | None = None, first_delivery_id: int | None = None, is_retry: bool = False
) -> Row:
    """Return a delivery's outcome. Its event is at *position*; a new event is that of its first delivery."""
    return {
        "delivery_id": event.delivery_id,
        "status": "duplicate" if is_retry else "processed",
        "position": position,
        "first_delivery_id": first_delivery_id,
        "fingerprint": bytea(event.fingerprint) if is_retry else None,
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
    for delivery in known.deliveries:
        event = by_position[delivery.position]
        if delivery.is_retry:
            content[delivery.delivery_id] = msgspec.structs.replace(
                event,
                delivery_id=delivery.delivery_id,
                occurred_at=delivery.occurred_at,
                source=delivery.source,
                position=None,
            )
        deliveries[delivery.delivery_id] = EventDelivery(
            key(event), delivery.occurred_at, delivery.delivery_id, None if delivery.is_retry else delivery.position
        )
    for event in arrived:
        before = deliveries.get(event.delivery_id)
        position = None if before is None else before.position
        content[event.delivery_id] = event
        deliveries[event.delivery_id] = EventDelivery(
            key_of(kind, event), event.occurred_at, event.delivery_id, position
        )
    return content, deliveries

"""Reads the events of some subjects from the event log, and the deliveries of each event."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from receiver.events.kinds import KINDS
from receiver.events.parse import EventEntry, parse_entry
from receiver.json_rows import ids_parameter, rows_parameter
from receiver.records.epochs import DATABASE_IS_KNOWN
from receiver.sql import read_sql

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    import psycopg

    from receiver.events.event import Event
    from receiver.events.kinds import EventKind


class Subject(NamedTuple):
    """What events are about, and rows are folded for: a kind of event, an organization, an id."""

    kind: EventKind
    organization: str
    id: str


class LoggedDelivery(NamedTuple):
    """A delivery of an event that has retries: a retry, or the first one, whose event the event log has."""

    delivery_id: int
    position: int
    """That of the event."""
    is_retry: bool
    source: str
    occurred_at: datetime
    retracted: bool = False
    """Whether an operator retracted this delivery."""


@dataclass(frozen=True, slots=True)
class KnownDeliveries:
    """The known deliveries of a subject."""

    events: list[Event] = field(default_factory=list)
    deliveries: list[LoggedDelivery] = field(default_factory=list)
    """Those of events that have retries; an event without a retry has the delivery that it names."""
    retracted: list[Event] = field(default_factory=list)
    """Events of retracted deliveries: they count for nothing."""
    left_out: list[LoggedDelivery] = field(default_factory=list)
    """Deliveries that were retracted, or whose event is retracted."""

    def positions_of_retracted(self) -> dict[int, tuple[int | None, bool]]:
        """Return, by retracted delivery, the position of its event, and whether it is a retry."""
        retries: dict[int, tuple[int | None, bool]] = {
            each.delivery_id: (each.position, True) for each in self.left_out if each.retracted and each.is_retry
        }
        return retries | {event.delivery_id: (event.position, False) for event in self.retracted}

    def without(self, deliveries: Collection[int]) -> KnownDeliveries:
        """Return what is known once *deliveries* are retracted."""
        events = [event for event in self.events if event.delivery_id not in deliveries]
        positions = {event.position for event in events}
        rest = [each for each in self.deliveries if each.position in positions and each.delivery_id not in deliveries]
        return KnownDeliveries(events, rest)

    def restored(self, deliveries: Collection[int]) -> KnownDeliveries:
        """Return what is known once *deliveries*, which were retracted, no longer are."""
        events = self.events + [event for event in self.retracted if event.delivery_id in deliveries]
        positions = {event.position for event in events}
        again = [
            each
            for each in self.left_out
            if each.position in positions and (each.delivery_id in deliveries or not each.retracted)
        ]
        return KnownDeliveries(events, self.deliveries + again)


@dataclass(frozen=True, slots=True)
class History:
    """The known deliveries of some subjects, and what shows later whether any were added."""

    known: list[KnownDeliveries]
    """In the order of the subjects."""
    read_up_to: int
    """The newest position of the event log when it was read."""
    number_of_retries: int
    """The number of retries of the events that were read."""
    database_is_known: bool
    """Whether PostgreSQL was not restored, and has not failed over, since the newest epoch began (see ``epochs``)."""

    @property
    def positions(self) -> list[int]:
        """The positions of the events that were read."""
        return [
            event.position
            for known in self.known
            for event in (*known.events, *known.retracted)
            if event.position is not None
        ]


_TYPES: Final = msgspec.json.encode({kind.name: list(kind.payloads) for kind in KINDS}).decode()
_READ_UP_TO: Final = f"""
SELECT coalesce((SELECT max(position) FROM ems.events), 0) AS read_up_to, {DATABASE_IS_KNOWN} AS database_is_known
"""  # noqa: S608 - a constant
_EVENTS: Final = read_sql(__package__, "read_events")
_DELIVERIES: Final = read_sql(__package__, "read_deliveries")


def read_history(
    connection: psycopg.Connection[Any], subjects: Sequence[Subject], *, all_times: bool = False
) -> History:
    """Return the known deliveries of *subjects*; *connection* is a ``writing_connection``.

    *all_times*: read the time of each event's first delivery also if it has no retry. It equals the time in the event
    log, unless one of them was changed by hand.
    """
    rows = [{"kind": subject.kind.name, "organization": subject.organization, "id": subject.id} for subject in subjects]
    parameters = {"subjects": rows_parameter(rows), "types": _TYPES}
    with connection.pipeline():
        first = connection.execute(_READ_UP_TO)
        second = connection.execute(_EVENTS, parameters)
    read_up_to, database_is_known = first.fetchone() or (0, False)
    known = [KnownDeliveries() for _ in subjects]
    of_position: dict[int, KnownDeliveries] = {}
    retracted_positions: set[int] = set()
    for number, retracted, *entry in second:
        event = parse_entry(EventEntry(*entry))
        of_position[entry[0]] = of_subject = known[number - 1]
        if retracted:
            retracted_positions.add(entry[0])
            of_subject.retracted.append(event)
        else:
            of_subject.events.append(event)
    number_of_retries = 0
    if of_position:
        for row in connection.execute(_DELIVERIES, {"positions": ids_parameter(of_position), "all": all_times}):
            delivery = LoggedDelivery(*row)
            of_subject = of_position[delivery.position]
            left_out = delivery.retracted or delivery.position in retracted_positions
            (of_subject.left_out if left_out else of_subject.deliveries).append(delivery)
            number_of_retries += delivery.is_retry
    return History(known, read_up_to, number_of_retries, database_is_known)

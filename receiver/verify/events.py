"""Events of the event log, derived from the deliveries that still have their bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from receiver.errors import EventError
from receiver.events.content import decode
from receiver.events.event import ClaimedDelivery
from receiver.events.kinds import KIND_OF
from receiver.events.parse import EventEntry, parse
from receiver.records.history import Subject
from receiver.records.rewrite import rewriting
from receiver.records.write import ChangeReason
from receiver.sql import read_sql
from receiver.verify.difference import EVENTS, RowDifference, until_written

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import psycopg

    from receiver.events.event import Event
    from receiver.progress import Progress

log = structlog.stdlib.get_logger(__name__)

DELIVERIES_AT_ONCE: Final = 200

_LAST: Final = "SELECT coalesce(max(id), 0) FROM receiver.stored_deliveries"
_APPLIED: Final = read_sql(__package__, "applied")
_QUEUE: Final = """
INSERT INTO receiver.queue (delivery_id, attempts)
SELECT delivery_id, attempts FROM receiver.outcomes WHERE delivery_id = ANY(%(ids)s)
ON CONFLICT (delivery_id) DO NOTHING
"""

Applied = tuple[ClaimedDelivery, EventEntry | None]
"""A delivery that brought an event, and that event as the event log has it; ``None`` where it is missing."""


def slices(
    connection: psycopg.Connection[Any], organizations: Sequence[str] | None, progress: Progress
) -> Iterator[list[Applied]]:
    """Yield the deliveries that brought events and still have their bodies, some at a time."""
    (last,) = connection.execute(_LAST).fetchone() or (0,)
    progress.stage("events from deliveries")
    for after in range(0, last, DELIVERIES_AT_ONCE):
        parameters = {
            "after": after,
            "until": after + DELIVERIES_AT_ONCE,
            "organizations": None if organizations is None else list(organizations),
        }
        rows = connection.execute(_APPLIED, parameters)
        yield [
            (
                ClaimedDelivery(
                    id=row[0],
                    organization_reference_id=row[1],
                    event=row[2],
                    version=row[3],
                    body=row[4],
                    source=row[5],
                    occurred_at=row[6],
                    attempts=1,
                    position=row[7],
                ),
                None if row[8] is None else EventEntry(*row[8:]),
            )
            for row in rows
        ]


def compare_events(slice_: Sequence[Applied]) -> Iterator[RowDifference]:
    """Yield the events of a slice that are not what their deliveries say."""
    for delivery, entry in slice_:
        if entry is None:
            yield RowDifference(
                EVENTS,
                {"position": delivery.position},
                "missing",
                {},
                (delivery.organization_reference_id, ""),
                delivery.position,
                delivery.id,
            )
            continue
        try:
            expected = parse(delivery)
        except EventError as error:
            log.warning("verify.unparsable", delivery_id=delivery.id, error=str(error))
            continue
        columns = _event_columns(delivery, entry, expected)
        if columns:
            subject = (entry.organization_reference_id, expected.subject_id)
            yield RowDifference(
                EVENTS, {"position": entry.position}, "differs", columns, subject, entry.position, delivery.id
            )


def _event_columns(delivery: ClaimedDelivery, entry: EventEntry, expected: Event) -> dict[str, tuple[Any, Any]]:
    """Return the columns of an event that are not what its delivery says."""
    present: Mapping[str, Any] = {**entry._asdict(), "fingerprint": bytes(entry.fingerprint or b"")}
    columns = {
        name: (present[of_entry], getattr(expected, of_event))
        for name, of_entry, of_event in (
            ("type", "type", "name"),
            ("organization_reference_id", "organization_reference_id", "organization_reference_id"),
            ("card_holder_reference_id", "card_holder_reference_id", "card_holder_reference_id"),
            ("transaction_id", "transaction_id", "transaction_id"),
            ("subject_id", "subject_id", "subject_id"),
            ("source", "source", "source"),
            ("delivery_id", "delivery_id", "delivery_id"),
            ("fingerprint", "fingerprint", "fingerprint"),
        )
        if present[of_entry] != getattr(expected, of_event)
    }
    if "fingerprint" in columns:
        columns["fingerprint"] = (columns["fingerprint"][0].hex(), columns["fingerprint"][1].hex())
    stored, wanted = decode(entry.payload.encode()), decode(_document(delivery, expected))
    if stored != wanted:
        columns["payload"] = (stored, wanted)
    return columns


def _document(delivery: ClaimedDelivery, event: Event) -> bytes:
    """Return the payload as the event log is to have it."""
    return event.document if event.document is not None else delivery.body or b"{}"


def rewrite_events(
    connection: psycopg.Connection[Any], slice_: Sequence[Applied], found: Sequence[RowDifference]
) -> None:
    """Write events as their deliveries say, with the rows of what they are about; missing ones are processed again."""
    missing = [each.delivery_id for each in found if each.problem == "missing"]
    if missing:
        connection.execute(_QUEUE, {"ids": missing})
    wrong = {each.position for each in found if each.problem == "differs"}
    before, after = {}, {}
    for delivery, entry in slice_:
        if entry is not None and entry.position in wrong:
            expected = parse(delivery)
            after[entry.position] = msgspec.structs.replace(
                expected, position=entry.position, document=_document(delivery, expected), as_sent=False
            )
            kind = KIND_OF.get(entry.type, KIND_OF[expected.name])
            before[entry.position] = Subject(kind, entry.organization_reference_id, entry.subject_id)
    if after:
        until_written(connection, lambda: rewriting(connection, before, after, ChangeReason.ROWS_REBUILT))

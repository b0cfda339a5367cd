"""The steps of a batch: parse, find the new events, fold, commit.

``apply`` runs all of them. It reads without a lock, decides by pure functions, and writes in one transaction, which
also ends the claim: after a crash the deliveries are unchanged.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from receiver.erasure.late import pseudonymize
from receiver.errors import EventError, NotHandled, WrongOrganization
from receiver.events.catalogue import is_supported
from receiver.events.kinds import KIND_OF
from receiver.events.parse import EventEntry, parse, parse_entry
from receiver.json_rows import rows_parameter
from receiver.processing.decide import decide
from receiver.processing.downloads import note_downloads
from receiver.processing.failures import AttemptOutcome, Rejection, name_of, reject
from receiver.records.folds import fold
from receiver.records.history import Subject, read_history
from receiver.records.write import ChangeReason, LogChange, Outdated, commit
from receiver.sql import read_sql
from receiver.tracing import span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import psycopg

    from receiver.encryption import Encryption
    from receiver.erasure.late import Pseudonymized
    from receiver.events.event import ClaimedDelivery, Event
    from receiver.json_rows import Row
    from receiver.processing.claim import Claim

log = structlog.stdlib.get_logger(__name__)

MAX_OUTDATED: Final = 100
"""How often a batch is prepared if its subjects keep changing before the commit; after that it fails."""
_ENTRIES: Final = read_sql(__package__, "read_entries")
_NOTE_VERSIONS: Final = read_sql(__package__, "note_versions")


def apply(
    connection: psycopg.Connection[Any], claim: Claim, encryption: Encryption | None = None
) -> list[AttemptOutcome]:
    """Apply the claimed deliveries and end the claim, in one transaction; return the outcome of each delivery.

    *encryption* decrypts the key that recognizes erased card holders. Raises ``Outdated`` when the lease ended before
    the commit, psycopg's errors, and any error that a bad delivery may cause; then nothing is written.
    """
    outdated_times = 0
    with span("parse") as parsing:
        events, rejections = parse_all(connection, claim.deliveries)
        parsing.set_attributes({"receiver.events": len(events), "receiver.rejected": len(rejections)})
    while True:
        with span("fold") as folding:
            pseudonymized = pseudonymize(connection, events, claim.deliveries, encryption)
            change, outcomes = prepare(connection, claim, pseudonymized, rejections)
            folding.set_attributes(
                {"receiver.subjects": len(change.subjects), "receiver.new_events": len(change.events)}
            )
        try:
            with span("write"):
                commit(connection, change)
        except Outdated as outdated:
            if outdated.lease_ended:
                raise
            log.info("batch.outdated", reason=str(outdated))
            outdated_times += 1
            if outdated_times == MAX_OUTDATED:
                raise RuntimeError(f"not committed in {MAX_OUTDATED} tries: {outdated}") from outdated
            time.sleep(random.uniform(0, outdated_times) / 1000)  # noqa: S311 - so that two workers do not collide again
        else:
            return outcomes


def parse_all(
    connection: psycopg.Connection[Any], deliveries: Sequence[ClaimedDelivery]
) -> tuple[list[Event], list[Rejection]]:
    """Return the events in *deliveries*, in order of time, and the rejected deliveries, with the reason."""
    events, rejections = [], []
    logged = _read_entries(connection, [each for each in deliveries if each.body is None])
    for delivery in sorted(deliveries, key=lambda delivery: (delivery.occurred_at, delivery.id)):
        try:
            if delivery.body is None:
                events.append(logged[delivery.id])
            else:
                events.append(parse(delivery))
        except NotHandled as error:
            rejections.append(Rejection(delivery, "ignored", str(error)))
        except WrongOrganization as error:
            rejections.append(Rejection(delivery, "quarantined", str(error)))
        except EventError as error:
            rejections.append(Rejection(delivery, "dead", str(error)))
        except KeyError:
            rejections.append(Rejection(delivery, "dead", "its body was deleted before it was applied"))
    for each in rejections:
        log.log(
            logging.INFO if each.status == "ignored" else logging.WARNING,
            "delivery.rejected",
            delivery_id=each.delivery.id,
            status=each.status,
            event_name=name_of(each.delivery.event),
        )
    return events, rejections


def _read_entries(connection: psycopg.Connection[Any], deliveries: Sequence[ClaimedDelivery]) -> dict[int, Event]:
    """Return, by delivery, the logged events of deliveries without a body."""
    positions = [delivery.position for delivery in deliveries if delivery.position is not None]
    if not positions:
        return {}
    entries = {entry.position: entry for entry in map(EventEntry._make, connection.execute(_ENTRIES, [positions]))}
    return {
        delivery.id: msgspec.structs.replace(
            parse_entry(entries[delivery.position]),
            delivery_id=delivery.id,
            occurred_at=delivery.occurred_at,
            source=delivery.source,
            position=None,
        )
        for delivery in deliveries
        if delivery.position in entries
    }


def _unknown_version(deliveries: Mapping[int, ClaimedDelivery], event: Event) -> str | None:
    """Return the version with which *event* arrived, if this release does not support it."""
    delivery = deliveries.get(event.delivery_id)
    return None if delivery is None or delivery.body is None or is_supported(delivery.version) else delivery.version


def _versions(numbers: Mapping[tuple[str, str], int]) -> list[Row]:
    return [
        {"event": event, "version": version.replace("\0", "\N{REPLACEMENT CHARACTER}"), "deliveries": number}
        for (event, version), number in sorted(numbers.items())
    ]


def prepare(
    connection: psycopg.Connection[Any],
    claim: Claim,
    pseudonymized: Pseudonymized,
    rejections: Sequence[Rejection],
) -> tuple[LogChange, list[AttemptOutcome]]:
    """Read the history of the subjects, decide and fold; return the change to commit, and each delivery's outcome."""
    events = pseudonymized.events
    arrived: dict[Subject, list[Event]] = {}
    for event in events:
        subject = Subject(KIND_OF[event.name], event.organization_reference_id, event.subject_id)
        arrived.setdefault(subject, []).append(event)
    subjects = list(arrived)
    history = read_history(connection, subjects)
    change = LogChange(subjects, history, marked=pseudonymized.marked)
    rows: dict[int, Row] = {}
    for subject, known in zip(subjects, history.known, strict=True):
        keyed = {event.delivery_id: pseudonymized.fingerprint(event) for event in known.events}
        decided = decide(subject.kind, known, arrived[subject], keyed)
        change.events += decided.new
        change.corrected_times |= decided.corrected_times
        if decided.corrected_times:
            change.announced.append((subject, decided.events[-1], ChangeReason.EARLIER_ATTEMPT_FOUND))
        for model, folded in fold(subject.kind, decided.events).items():
            change.rows.setdefault(model, []).extend(folded)
        rows |= {row["delivery_id"]: row for row in decided.outcomes}
    order = {event.delivery_id: place for place, event in enumerate(events)}
    change.events.sort(key=lambda event: order.get(event.delivery_id, -1))
    tried = {delivery.id: delivery for delivery in claim.deliveries}
    for delivery_id, row in rows.items():
        row["attempts"] = tried[delivery_id].attempts if delivery_id in tried else None
    change.outcomes = list(rows.values())
    change.after = note_downloads(events)
    outcomes = [AttemptOutcome(each.delivery.id, each.delivery.event, each.status) for each in rejections]
    outcomes += [AttemptOutcome(event.delivery_id, event.name, rows[event.delivery_id]["status"]) for event in events]
    change.before = [claim.end(), *pseudonymized.statements]
    if rejections:
        change.before.append(reject(rejections))
    odd = Counter((event.name, version) for event in events if (version := _unknown_version(tried, event)) is not None)
    if odd:
        change.before.append((_NOTE_VERSIONS, {"rows": rows_parameter(_versions(odd))}))
    return change, outcomes

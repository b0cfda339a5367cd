"""What arrives late about an erased card holder: applied under the pseudonym, and its body is not kept."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from receiver.erasure.pseudonyms import lives_of, read_pseudonyms
from receiver.erasure.redact import redact
from receiver.events.content import decode, encode
from receiver.events.kinds import payload_type
from receiver.events.parse import parse
from receiver.json_rows import rows_parameter
from receiver.records.write import read_marked

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import psycopg

    from receiver.encryption import Encryption
    from receiver.erasure.pseudonyms import Life, PersonKey, Pseudonyms
    from receiver.events.event import ClaimedDelivery, Event

log = structlog.stdlib.get_logger(__name__)

ONLY_AFTER_RECREATION: Final = frozenset({"card_holder.created", "card_holder.identified", "card_holder.signed.pdpc"})
"""Events that an erased person has only after being created again."""

_RECREATED: Final = """
UPDATE receiver.erased_card_holders SET recreated_at = least(recreated_at, %(at)s)
WHERE organization_reference_id = %(organization)s AND pseudonym = %(pseudonym)s
"""
_LATE: Final = """
UPDATE receiver.erased_card_holders AS erased
SET late_deliveries = erased.late_deliveries + late.number, late_at = clock_timestamp()
FROM jsonb_to_recordset(CAST(%(rows)s AS jsonb)) AS late (
    organization_reference_id text, pseudonym text, number integer
)
WHERE erased.organization_reference_id = late.organization_reference_id AND erased.pseudonym = late.pseudonym
"""
_DELETE_BODIES: Final = "DELETE FROM receiver.bodies WHERE delivery_id = ANY(%(ids)s)"


@dataclass(slots=True)
class Pseudonymized:
    """Events, those about erased card holders under their pseudonyms."""

    events: list[Event]
    """In order of time."""
    statements: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Belong to the same transaction. The bodies are deleted, because the events have the payloads themselves."""
    pseudonyms: Pseudonyms | None = None
    marked: str = ""
    """When a person was last marked as erased, as read before the marked persons; see ``LogChange.marked``."""
    unfinished: set[tuple[str, str]] = field(default_factory=set)
    """Organizations and references of those who are being erased: the event log may still have both."""

    def fingerprint(self, event: Event) -> bytes:
        """Return what *event*, of the event log, is recognized by: as if its card holder were erased there already."""
        holder = (event.organization_reference_id, event.card_holder_reference_id or "")
        if self.pseudonyms is not None and holder in self.unfinished:
            return self.pseudonyms.fingerprint(event.fingerprint)
        return event.fingerprint


def pseudonymize(
    connection: psycopg.Connection[Any],
    events: Sequence[Event],
    deliveries: Iterable[ClaimedDelivery],
    encryption: Encryption | None,
) -> Pseudonymized:
    """Return *events* (in order of time), those about erased card holders under their pseudonyms."""
    named = {
        (event.organization_reference_id, event.card_holder_reference_id)
        for event in events
        if event.card_holder_reference_id is not None
    }
    marked = read_marked(connection)
    pseudonyms = read_pseudonyms(connection, encryption) if named else None
    if pseudonyms is None:
        return Pseudonymized(list(events), marked=marked)
    people = {holder: (holder[0], pseudonyms.of(*holder)) for holder in named}
    lives = lives_of(connection, people.values())
    if not lives:
        return Pseudonymized(list(events), marked=marked)
    stored = {delivery.id: delivery for delivery in deliveries}
    statements: list[tuple[str, dict[str, Any]]] = []
    found, late = [], []
    for event in events:
        person = people.get((event.organization_reference_id, event.card_holder_reference_id or ""))
        if person in lives and _is_erased(lives, person, event, statements):
            found.append(_pseudonymized(event, stored[event.delivery_id], person[1], pseudonyms))
            late.append((event.delivery_id, person))
        else:
            found.append(event)
    if late:
        statements += _note(late)
    unfinished = {holder for holder, person in people.items() if person in lives and not lives[person].finished}
    return Pseudonymized(found, statements, pseudonyms, marked, unfinished)


def _is_erased(
    lives: dict[PersonKey, Life], person: PersonKey, event: Event, statements: list[tuple[str, dict[str, Any]]]
) -> bool:
    """Return whether *event* belongs to the erased life; one that only a new life has is its beginning."""
    life = lives[person]
    if event.name in ONLY_AFTER_RECREATION and event.occurred_at > life.erased_at and life.held(event.occurred_at):
        at = {"organization": person[0], "pseudonym": person[1], "at": event.occurred_at}
        statements.append((_RECREATED, at))
        lives[person] = life = replace(life, recreated_at=event.occurred_at)
        log.info("card_holder.recreated", delivery_id=event.delivery_id)
    return life.held(event.occurred_at)


def _pseudonymized(event: Event, delivery: ClaimedDelivery, pseudonym: str, pseudonyms: Pseudonyms) -> Event:
    body = delivery.body if delivery.body is not None else event.document or b"{}"
    redacted = encode(redact(decode(body), payload_type(event.name), pseudonym))
    parsed = parse(msgspec.structs.replace(delivery, event=event.name, body=redacted))
    return msgspec.structs.replace(parsed, fingerprint=pseudonyms.fingerprint(event.fingerprint), document=redacted)


def _note(late: Sequence[tuple[int, PersonKey]]) -> list[tuple[str, dict[str, Any]]]:
    """Return the statements that leave the trace that something arrived late, and delete the bodies."""
    numbers: dict[PersonKey, int] = {}
    for delivery_id, person in late:
        numbers[person] = numbers.get(person, 0) + 1
        log.info("delivery.pseudonymized", delivery_id=delivery_id)
    rows = [
        {"organization_reference_id": person[0], "pseudonym": person[1], "number": numbers[person]}
        for person in sorted(numbers)
    ]
    ids = [delivery_id for delivery_id, _ in late]
    return [(_LATE, {"rows": rows_parameter(rows)}), (_DELETE_BODIES, {"ids": ids})]

"""Erasing: the events of some card holders are rewritten under their pseudonyms, and the rows are folded again.

Each step is one transaction: all of it or nothing. References to a person are changed only in the event log, because
every row of ``ems`` is a fold of it; bodies, errors and the mirror of the delivery log are deleted with it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from receiver.erasure.pseudonyms import lives_in
from receiver.erasure.redact import named_card_holder, redact
from receiver.events.catalogue import canonical_name
from receiver.events.content import UNREADABLE, decode, encode, fingerprint
from receiver.events.kinds import BY_NAME, KIND_OF, payload_type
from receiver.events.parse import EventEntry, parse_entry
from receiver.json_rows import bytea, rows_parameter
from receiver.records.models import Transaction
from receiver.records.rewrite import rewriting, subject_of_event
from receiver.records.write import ChangeReason, Outdated, commit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import psycopg

    from receiver.erasure.pseudonyms import Life, Pseudonyms
    from receiver.events.event import Event
    from receiver.json_rows import Row
    from receiver.records.write import LogChange

ERASED: Final = "its card holder was erased"
"""Takes the place of an error, which may name the person."""
BODIES_AT_ONCE: Final = 20
_CARD_HOLDER: Final = BY_NAME["card_holder"]

# by reference: what the event log still has of them; by pseudonym: retries of what is rewritten already
_DELIVERIES_ABOUT: Final = """
SELECT stored.id, stored.webhook_id, outcome.fingerprint, outcome.position, person.number - 1 AS person,
    event.card_holder_reference_id = person.reference AS plain, event.fingerprint AS event_fingerprint
FROM receiver.stored_deliveries AS stored
JOIN receiver.outcomes AS outcome ON outcome.delivery_id = stored.id
JOIN ems.events AS event ON event.position = outcome.position
JOIN unnest(
    CAST(%(organizations)s AS text[]), CAST(%(references)s AS text[]), CAST(%(pseudonyms)s AS text[]),
    CAST(%(recreated)s AS timestamptz[])
) WITH ORDINALITY AS person (organization, reference, pseudonym, recreated_at, number)
    ON person.organization = event.organization_reference_id
    AND event.card_holder_reference_id IN (person.reference, person.pseudonym)
WHERE stored.id > %(after)s AND stored.id <= %(until)s AND {which}
    AND (person.recreated_at IS NULL OR event.occurred_at < person.recreated_at)
ORDER BY stored.id
"""
_OF_SLICE: Final = _DELIVERIES_ABOUT.format(which="event.type <> ALL(%(types)s)")
_OF_PEOPLE: Final = _DELIVERIES_ABOUT.format(which="event.type = ANY(%(types)s)")
_ENTRIES: Final = """
SELECT position, type, organization_reference_id, card_holder_reference_id, transaction_id, subject_id, occurred_at,
    source, delivery_id, fingerprint, payload::text
FROM ems.events WHERE position = ANY(%s)
"""
_DELETE_ATTEMPTS: Final = "DELETE FROM receiver.processing_attempts WHERE delivery_id = ANY(%(ids)s)"
# one that is being tried again keeps its body until that has ended, and loses it then
_DELETE_BODIES: Final = (
    "DELETE FROM receiver.bodies WHERE delivery_id = ANY(%(ids)s) AND NOT EXISTS "
    "(SELECT FROM receiver.queue AS queued WHERE queued.delivery_id = bodies.delivery_id)"
)
_DELETE_ENTRIES: Final = """
DELETE FROM receiver.delivery_log AS entry
USING (
    SELECT DISTINCT * FROM json_to_recordset(CAST(%(rows)s AS json)) AS passed (webhook_id bigint, plain bytea)
) AS passed
WHERE entry.webhook_id = passed.webhook_id AND entry.fingerprint = passed.plain
"""
_OUTCOMES: Final = """
UPDATE receiver.outcomes AS outcome SET fingerprint = coalesce(passed.keyed, outcome.fingerprint),
    card_holder_reference_id = CASE WHEN outcome.card_holder_reference_id IS NOT NULL THEN passed.pseudonym END,
    error = CASE WHEN outcome.error IS NOT NULL THEN %(erased)s END
FROM json_to_recordset(CAST(%(rows)s AS json)) AS passed (id bigint, keyed bytea, pseudonym text)
WHERE outcome.delivery_id = passed.id
"""
# not a line whose purchase still names them: its events are rewritten in a later slice, and the line with them
_JOURNAL: Final = """
UPDATE ems.ledger_journal AS line SET card_holder_reference_id = person.pseudonym
FROM json_to_recordset(CAST(%(purchases)s AS json)) AS purchase (organization text, id text, holder text)
JOIN json_to_recordset(CAST(%(people)s AS json)) AS person (organization text, reference text, pseudonym text)
    ON person.organization = purchase.organization AND person.reference <> purchase.holder
WHERE line.organization_reference_id = purchase.organization AND line.transaction_id = purchase.id
    AND line.card_holder_reference_id = person.reference
"""
# entries of type receiver.changed: no delivery brought them
_ANNOUNCEMENTS: Final = """
UPDATE ems.events AS event SET card_holder_reference_id = person.pseudonym,
    subject_id = CASE WHEN event.transaction_id IS NULL THEN person.pseudonym ELSE event.subject_id END
FROM json_to_recordset(CAST(%(subjects)s AS json)) AS subject (organization text, id text)
JOIN json_to_recordset(CAST(%(people)s AS json)) AS person (
    organization text, reference text, pseudonym text, recreated_at timestamptz
) USING (organization)
WHERE event.organization_reference_id = subject.organization AND event.subject_id = subject.id
    AND event.type = 'receiver.changed' AND event.card_holder_reference_id = person.reference
    AND (person.recreated_at IS NULL OR event.occurred_at < person.recreated_at)
"""
_MARK_ERASED: Final = """
UPDATE ems.card_holders AS holder SET erased_at = clock_timestamp(), updated_at = clock_timestamp()
FROM json_to_recordset(CAST(current_setting('receiver.erased') AS json)) AS person (organization text, pseudonym text)
WHERE holder.organization_reference_id = person.organization AND holder.reference_id = person.pseudonym
"""
_NOT_APPLIED: Final = f"""
SELECT stored.id, webhook.organization_reference_id, stored.event, body.body, stored.occurred_at,
    outcome.card_holder_reference_id, outcome.fingerprint
FROM receiver.stored_deliveries AS stored
JOIN receiver.webhooks AS webhook ON webhook.id = stored.webhook_id
JOIN receiver.outcomes AS outcome ON outcome.delivery_id = stored.id
LEFT JOIN receiver.bodies AS body ON body.delivery_id = stored.id
WHERE stored.id > %(after)s AND stored.id <= %(until)s AND outcome.status IN ('dead', 'quarantined', 'ignored')
    AND (body.body IS NOT NULL OR outcome.card_holder_reference_id IS NOT NULL)
ORDER BY stored.id LIMIT {BODIES_AT_ONCE}
"""  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True)
class Person:
    """A card holder who is being erased."""

    organization: str
    reference: str
    pseudonym: str
    recreated_at: datetime | None


def erase_slice(
    connection: psycopg.Connection[Any], pseudonyms: Pseudonyms, people: Sequence[Person], *, after: int, until: int
) -> int:
    """Rewrite what the deliveries of a slice about *people* brought, card-holder events apart; return their number."""
    return _erase(connection, pseudonyms, people, _OF_SLICE, {"after": after, "until": until})


def erase_people(
    connection: psycopg.Connection[Any], pseudonyms: Pseudonyms, people: Sequence[Person], *, last: int
) -> None:
    """Rewrite the card-holder events of *people*: from then on nothing knows their references."""
    _erase(connection, pseudonyms, people, _OF_PEOPLE, {"after": 0, "until": last})


def _erase(
    connection: psycopg.Connection[Any],
    pseudonyms: Pseudonyms,
    people: Sequence[Person],
    query: str,
    parameters: dict[str, Any],
) -> int:
    if not people:
        return 0
    parameters = {
        **parameters,
        "types": list(_CARD_HOLDER.payloads),
        "organizations": [person.organization for person in people],
        "references": [person.reference for person in people],
        "pseudonyms": [person.pseudonym for person in people],
        "recreated": [person.recreated_at for person in people],
    }
    while True:
        deliveries = connection.execute(query, parameters, prepare=False).fetchall()
        if not deliveries:
            return 0
        plain = {position: people[person] for _, _, _, position, person, is_plain, _ in deliveries if is_plain}
        entries = [EventEntry._make(row) for row in connection.execute(_ENTRIES, [list(plain)])]
        logged = [parse_entry(entry) for entry in entries]
        change = rewriting(
            connection,
            {event.position or 0: subject_of_event(event) for event in logged},
            {event.position or 0: _rewritten(event, plain[event.position or 0], pseudonyms) for event in logged},
            ChangeReason.CARD_HOLDER_ERASED,
        )
        change.before += _statements(pseudonyms, people, deliveries)
        change.before += [_rewrite_journal(people, change), _rewrite_announcements(people, change)]
        if query is _OF_PEOPLE:
            erased = [{"organization": person.organization, "pseudonym": person.pseudonym} for person in people]
            change.after = [(_MARK_ERASED, "erased", erased)]
        try:
            commit(connection, change)
        except Outdated:
            continue
        return len(deliveries)


def _rewrite_journal(people: Sequence[Person], change: LogChange) -> tuple[str, dict[str, Any]]:
    """Return the statement that replaces references in the journal's lines of the purchases in *change*."""
    named = [
        {"organization": row["organization_reference_id"], "id": row["id"], "holder": row["card_holder_reference_id"]}
        for row in change.rows.get(Transaction, [])
    ]
    # all of their events are retracted
    named += [{"organization": each.organization, "id": each.id, "holder": ""} for each in change.without_events()]
    known = [
        {"organization": person.organization, "reference": person.reference, "pseudonym": person.pseudonym}
        for person in people
    ]
    return _JOURNAL, {"purchases": rows_parameter(named), "people": rows_parameter(known)}


def _rewrite_announcements(people: Sequence[Person], change: LogChange) -> tuple[str, dict[str, Any]]:
    """Return the statement that replaces references in the announcements of the subjects of *change*."""
    subjects = [{"organization": each.organization, "id": each.id} for each in dict.fromkeys(change.subjects)]
    return _ANNOUNCEMENTS, {"subjects": rows_parameter(subjects), "people": rows_parameter([asdict(p) for p in people])}


def _rewritten(event: Event, person: Person, pseudonyms: Pseudonyms) -> Event:
    """Return *event* as the event log is to have it."""
    payload = encode(redact(decode(event.document or b"{}"), payload_type(event.name), person.pseudonym))
    return parse_entry(
        EventEntry(
            position=event.position or 0,
            type=event.name,
            organization_reference_id=event.organization_reference_id,
            card_holder_reference_id=person.pseudonym,
            transaction_id=event.transaction_id,
            subject_id=person.pseudonym if KIND_OF[event.name] is _CARD_HOLDER else event.subject_id,
            occurred_at=event.occurred_at,
            source=event.source,
            delivery_id=event.delivery_id,
            fingerprint=pseudonyms.fingerprint(event.fingerprint),
            payload=payload.decode(),
        )
    )


def _statements(
    pseudonyms: Pseudonyms, people: Sequence[Person], deliveries: Sequence[tuple[Any, ...]]
) -> list[tuple[str, dict[str, Any]]]:
    """Return the statements that delete what else names *people*, of the deliveries *deliveries*."""
    logged: list[Row] = []
    outcomes: list[Row] = []
    for delivery_id, webhook_id, own, _, person, is_plain, of_event in deliveries:
        known = [bytes(value) for value in ((own, of_event) if is_plain else (own,)) if value is not None]
        logged += [{"webhook_id": webhook_id, "plain": bytea(value)} for value in known]
        done = own is not None and not is_plain and bytes(own) == bytes(of_event)  # in a walk before this one
        keyed = None if own is None or done else bytea(pseudonyms.fingerprint(bytes(own)))
        outcomes.append({"id": delivery_id, "keyed": keyed, "pseudonym": people[person].pseudonym})
    ids = {"ids": [row["id"] for row in outcomes]}
    return [
        (_DELETE_ATTEMPTS, ids),
        (_DELETE_BODIES, ids),
        (_DELETE_ENTRIES, {"rows": rows_parameter(logged)}),
        (_OUTCOMES, {"rows": rows_parameter(outcomes), "erased": ERASED}),
    ]


def erase_not_applied(connection: psycopg.Connection[Any], pseudonyms: Pseudonyms, *, after: int, until: int) -> None:
    """Delete the bodies of a slice that were never applied and name a person who is erased."""
    lives: dict[str, dict[str, Life]] = {}
    while True:
        found = connection.execute(_NOT_APPLIED, {"after": after, "until": until}, prepare=False).fetchall()
        rows = []
        for delivery_id, organization, event, body, occurred_at, reference, known in found:
            if organization not in lives:
                lives[organization] = lives_in(connection, organization)
            named = reference if body is None else _named(body)
            pseudonym = None if named is None else pseudonyms.of(organization, named)
            life = lives[organization].get(pseudonym or "")
            if life is not None and life.held(occurred_at):
                if body is not None:
                    known = _identified(canonical_name(event) or event, body, organization)  # noqa: PLW2901
                keyed = None if known is None else bytea(pseudonyms.fingerprint(bytes(known)))
                rows.append({"id": delivery_id, "keyed": keyed, "pseudonym": pseudonym})
        if rows:
            ids = {"ids": [row["id"] for row in rows]}
            with connection.pipeline():
                connection.execute(_DELETE_ATTEMPTS, ids)
                connection.execute(_DELETE_BODIES, ids)
                connection.execute(_OUTCOMES, {"rows": rows_parameter(rows), "erased": ERASED})
        if len(found) < BODIES_AT_ONCE:
            return
        after = found[-1][0]


def _identified(event: str, body: bytes, organization: str) -> bytes:
    try:
        return fingerprint(event, body, organization)
    except UNREADABLE:
        return b""


def _named(body: bytes) -> str | None:
    """Return the reference of the card holder that *body* names; ``None`` if it names none."""
    try:
        return named_card_holder(decode(body))
    except UNREADABLE:
        return None

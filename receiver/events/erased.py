"""Card holders who are erased: nothing that comes late brings their reference back.

An erased card holder is known by a pseudonym, made from organization and reference under a key that is stored
encrypted: who has the reference and the key can tell that they belong together, and nobody else can, not even by
trying every number that an employee may have. The same holds for fingerprints of payloads that named the person.

A delivery about such a person, a purchase that is invoiced late for one, is applied under the pseudonym, and its body
is not kept. Once the person was created anew, the reference is in use again for what occurs from then on.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
from sqlalchemy import text

from receiver.events.content import decode, encode
from receiver.events.redact import redact
from receiver.events.registry import load_handlers
from receiver.events.understand import understand
from receiver.records.upsert import rows_parameter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from receiver.encryption import Encryption
    from receiver.events.event import Event, StoredDelivery

log = structlog.stdlib.get_logger(__name__)

SIGNS_OF_LIFE: Final = frozenset({"card_holder.created", "card_holder.identified", "card_holder.signed.pdpc"})
"""Events that only somebody has who was created anew."""
PREFIX: Final = "erased-"

PersonKey = tuple[str, str]
"""Organization and pseudonym."""

_KEY: Final = text("SELECT key FROM receiver.erasure_key")
_MAKE_KEY: Final = text("INSERT INTO receiver.erasure_key (id, key) VALUES (1, :key) ON CONFLICT (id) DO NOTHING")
_LIVES: Final = """
SELECT erased.organization_reference_id, erased.pseudonym, erased.erased_at, erased.recreated_at,
    erased.finished_at IS NOT NULL AS finished
FROM receiver.erased_card_holders AS erased {which}
"""
_LIVES_OF: Final = text(
    _LIVES.format(
        which="JOIN jsonb_to_recordset(CAST(:keys AS jsonb)) AS asked (organization_reference_id text, pseudonym text) "
        "ON asked.organization_reference_id = erased.organization_reference_id AND asked.pseudonym = erased.pseudonym"
    )
)
_LIVES_IN: Final = text(_LIVES.format(which="WHERE erased.organization_reference_id = :organization"))
_RECREATED: Final = text(
    """
UPDATE receiver.erased_card_holders SET recreated_at = least(recreated_at, :at)
WHERE organization_reference_id = :organization AND pseudonym = :pseudonym
"""
)
_LATE: Final = text(
    """
UPDATE receiver.erased_card_holders AS erased
SET late_deliveries = erased.late_deliveries + late.number, late_at = clock_timestamp()
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS late (organization_reference_id text, pseudonym text, number integer)
WHERE erased.organization_reference_id = late.organization_reference_id AND erased.pseudonym = late.pseudonym
"""
)
# What is known of an event is known under its plain fingerprint until the person is erased everywhere.
RENAME_KNOWN: Final = text(
    """
WITH named AS (
    SELECT DISTINCT plain, keyed FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS told (plain bytea, keyed bytea)
), renamed AS (
    INSERT INTO receiver.known_events AS known (fingerprint, occurrences, delivery_ids)
    SELECT named.keyed, before.occurrences, before.delivery_ids
    FROM named JOIN receiver.known_events AS before ON before.fingerprint = named.plain ORDER BY named.keyed
    ON CONFLICT (fingerprint) DO UPDATE SET occurrences = known.occurrences || excluded.occurrences,
        delivery_ids = known.delivery_ids || excluded.delivery_ids
)
DELETE FROM receiver.known_events AS known USING named WHERE known.fingerprint = named.plain
"""
)
_EMPTY: Final = text("UPDATE receiver.deliveries SET body = NULL, headers = '{}' WHERE id = ANY(:ids)")


@dataclass(frozen=True, slots=True)
class Life:
    """The life of a card holder that is erased, and whether another one has begun."""

    erased_at: datetime
    recreated_at: datetime | None
    finished: bool
    """Whether the reference is gone from all that was stored before."""

    def held(self, at: datetime | None) -> bool:
        """Return whether what occurred *at* that time belongs to the life that is erased."""
        return self.recreated_at is None or at is None or at < self.recreated_at


class Pseudonyms:
    """Makes what stands for a reference, and for a fingerprint; the same every time."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, organization: str, reference: str) -> str:
        """Return the pseudonym of a card holder."""
        return PREFIX + self._keyed(b"card holder\0" + msgspec.json.encode([organization, reference])).hex()[:32]

    def fingerprint(self, plain: bytes) -> bytes:
        """Return what stands for the fingerprint of a payload that named the person."""
        return self._keyed(b"fingerprint\0" + plain)

    def _keyed(self, said: bytes) -> bytes:
        return hmac.digest(self._key, said, hashlib.sha256)


def read_pseudonyms(connection: Connection) -> Pseudonyms | None:
    """Return what makes pseudonyms; ``None`` as long as nobody was ever erased.

    The engine must have been made with the keys of ``ENCRYPTION_KEYS``: see ``engine_for``.
    """
    stored = connection.scalar(_KEY)
    return None if stored is None else Pseudonyms(bytes.fromhex(_encryption(connection).decrypt(bytes(stored))))


def make_pseudonyms(connection: Connection) -> Pseudonyms:
    """Return what makes pseudonyms, with a new key if there is none yet."""
    connection.execute(_MAKE_KEY, {"key": _encryption(connection).encrypt(secrets.token_hex(32))})
    made = read_pseudonyms(connection)
    assert made is not None  # noqa: S101 - the row is there
    return made


def _encryption(connection: Connection) -> Encryption:
    encryption: Encryption | None = connection.get_execution_options().get("encryption")
    if encryption is None:
        raise RuntimeError("card holders were erased, and this engine was made without the keys to recognize them")
    return encryption


def lives_in(connection: Connection, organization: str) -> dict[str, Life]:
    """Return the erased card holders of an organization, by pseudonym."""
    return {key[1]: life for key, life in _lives(connection.execute(_LIVES_IN, {"organization": organization}))}


def conceal(
    connection: Connection, events: Sequence[Event], deliveries: Iterable[StoredDelivery]
) -> tuple[list[Event], set[int]]:
    """Return *events* (oldest first), those about erased card holders under their pseudonyms; and which those are."""
    named = {
        (event.organization_reference_id, event.card_holder_reference_id)
        for event in events
        if event.card_holder_reference_id is not None
    }
    pseudonyms = read_pseudonyms(connection) if named else None
    if pseudonyms is None:
        return list(events), set()
    people = {holder: (holder[0], pseudonyms.of(*holder)) for holder in named}
    lives = _lives_of(connection, people.values())
    if not lives:
        return list(events), set()
    stored = {delivery.id: delivery for delivery in deliveries}
    told, concealed = [], []
    for event in events:
        person = people.get((event.organization_reference_id, event.card_holder_reference_id or ""))
        if person in lives and _held(connection, lives, person, event):
            told.append(_concealed(event, stored[event.delivery_id], person[1], pseudonyms))
            concealed.append((event, person))
        else:
            told.append(event)
    _note(connection, concealed, lives, pseudonyms)
    return told, {event.delivery_id for event, _ in concealed}


def empty_concealed(connection: Connection, delivery_ids: Collection[int]) -> None:
    """Let the bodies of deliveries go that are settled under a pseudonym: their events tell the payloads themselves."""
    if delivery_ids:
        connection.execute(_EMPTY, {"ids": list(delivery_ids)})


def _held(connection: Connection, lives: dict[PersonKey, Life], person: PersonKey, event: Event) -> bool:
    """Return whether *event* belongs to the erased life; one that only a new life has is its beginning."""
    life = lives[person]
    if event.name in SIGNS_OF_LIFE and event.occurred_at > life.erased_at and life.held(event.occurred_at):
        at = {"organization": person[0], "pseudonym": person[1], "at": event.occurred_at}
        connection.execute(_RECREATED, at)
        lives[person] = life = replace(life, recreated_at=event.occurred_at)
        log.info("an erased card holder was created anew", delivery_id=event.delivery_id)
    return life.held(event.occurred_at)


def _concealed(event: Event, delivery: StoredDelivery, pseudonym: str, pseudonyms: Pseudonyms) -> Event:
    handlers = load_handlers()
    body = encode(redact(decode(delivery.body), handlers[event.name].payload_type, pseudonym))
    told = understand(replace(delivery, body=body), handlers)
    return replace(told, fingerprint=pseudonyms.fingerprint(event.fingerprint), document=body)


def _note(
    connection: Connection,
    concealed: Sequence[tuple[Event, PersonKey]],
    lives: Mapping[PersonKey, Life],
    pseudonyms: Pseudonyms,
) -> None:
    """Leave the trace that something came late."""
    numbers: dict[PersonKey, int] = {}
    for event, person in concealed:
        numbers[person] = numbers.get(person, 0) + 1
        log.info("delivery about an erased card holder applied under the pseudonym", delivery_id=event.delivery_id)
    late = [
        {"organization_reference_id": person[0], "pseudonym": person[1], "number": numbers[person]}
        for person in sorted(numbers)
    ]
    if late:
        connection.execute(_LATE, {"rows": rows_parameter(late)})
    rename_known(
        connection, pseudonyms, [event.fingerprint for event, person in concealed if not lives[person].finished]
    )


def rename_known(connection: Connection, pseudonyms: Pseudonyms, fingerprints: Iterable[bytes]) -> None:
    """Let what is known under plain fingerprints be known under those that stand for them."""
    rows = [
        {"plain": "\\x" + plain.hex(), "keyed": "\\x" + pseudonyms.fingerprint(plain).hex()}
        for plain in sorted(set(fingerprints))
    ]
    if rows:
        connection.execute(RENAME_KNOWN, {"rows": rows_parameter(rows)})


def _lives_of(connection: Connection, people: Iterable[PersonKey]) -> dict[PersonKey, Life]:
    keys = [{"organization_reference_id": person[0], "pseudonym": person[1]} for person in people]
    return dict(_lives(connection.execute(_LIVES_OF, {"keys": rows_parameter(keys)})))


def _lives(rows: Iterable[tuple[str, str, datetime, datetime | None, bool]]) -> Iterable[tuple[PersonKey, Life]]:
    for organization, pseudonym, erased_at, recreated_at, finished in rows:
        yield (organization, pseudonym), Life(erased_at, recreated_at, finished)

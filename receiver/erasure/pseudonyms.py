"""Pseudonyms of erased card holders: late deliveries do not bring their reference back.

An erased card holder is known by a pseudonym, made from organization and reference under a key that is stored
encrypted: without that key a reference and a pseudonym cannot be shown to belong together, not even by
trying every number that an employee may have. The same holds for fingerprints of payloads that named the person.

A delivery about such a person, a purchase that is invoiced late for one, is applied under the pseudonym, and its body
is not kept. Once the person was created again, the reference is in use again for what occurs from then on.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from receiver.json_rows import rows_parameter

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    import psycopg

    from receiver.encryption import Encryption

PREFIX: Final = "erased-"

PersonKey = tuple[str, str]
"""Organization and pseudonym."""

_KEY: Final = "SELECT key FROM receiver.erasure_key"
_MAKE_KEY: Final = "INSERT INTO receiver.erasure_key (id, key) VALUES (1, %(key)s) ON CONFLICT (id) DO NOTHING"
_LIVES: Final = """
SELECT erased.organization_reference_id, erased.pseudonym, erased.erased_at, erased.recreated_at,
    erased.finished_at IS NOT NULL AS finished
FROM receiver.erased_card_holders AS erased {which}
"""
_LIVES_OF: Final = _LIVES.format(
    which="JOIN jsonb_to_recordset(CAST(%(keys)s AS jsonb)) AS asked (organization_reference_id text, pseudonym text) "
    "ON asked.organization_reference_id = erased.organization_reference_id AND asked.pseudonym = erased.pseudonym"
)
_LIVES_IN: Final = _LIVES.format(which="WHERE erased.organization_reference_id = %(organization)s")


@dataclass(frozen=True, slots=True)
class Life:
    """The life of a card holder that is erased, and whether another one has begun."""

    erased_at: datetime
    recreated_at: datetime | None
    finished: bool
    """Whether the reference was removed from everything that was stored before."""

    def held(self, at: datetime | None) -> bool:
        """Return whether what occurred *at* that time belongs to the life that is erased."""
        return self.recreated_at is None or at is None or at < self.recreated_at


class Pseudonyms:
    """Makes the pseudonym of a reference, and of a fingerprint; the same every time."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, organization: str, reference: str) -> str:
        """Return the pseudonym of a card holder."""
        return PREFIX + self._keyed(b"card holder\0" + msgspec.json.encode([organization, reference])).hex()[:32]

    def fingerprint(self, plain: bytes) -> bytes:
        """Return the pseudonym of the fingerprint of a payload that named the person."""
        return self._keyed(b"fingerprint\0" + plain)

    def _keyed(self, content: bytes) -> bytes:
        return hmac.digest(self._key, content, hashlib.sha256)


def read_pseudonyms(connection: psycopg.Connection[Any], encryption: Encryption | None) -> Pseudonyms | None:
    """Return what makes pseudonyms; ``None`` as long as no person was ever erased.

    Raises ``RuntimeError`` where one was and *encryption*, with the keys of ``ENCRYPTION_KEYS``, is not given.
    """
    row = connection.execute(_KEY).fetchone()
    if row is None:
        return None
    if encryption is None:
        raise RuntimeError("card holders were erased, and the keys to recognize them were not given")
    return Pseudonyms(bytes.fromhex(encryption.decrypt(bytes(row[0]))))


def make_pseudonyms(connection: psycopg.Connection[Any], encryption: Encryption) -> Pseudonyms:
    """Return what makes pseudonyms, with a new key if there is none yet."""
    connection.execute(_MAKE_KEY, {"key": encryption.encrypt(secrets.token_hex(32))})
    made = read_pseudonyms(connection, encryption)
    assert made is not None  # noqa: S101 - the row is there
    return made


def lives_in(connection: psycopg.Connection[Any], organization: str) -> dict[str, Life]:
    """Return the erased card holders of an organization, by pseudonym."""
    rows = connection.execute(_LIVES_IN, {"organization": organization})
    return {key[1]: life for key, life in _lives(rows)}


def lives_of(connection: psycopg.Connection[Any], people: Iterable[PersonKey]) -> dict[PersonKey, Life]:
    """Return those of *people* who are erased."""
    keys = [{"organization_reference_id": person[0], "pseudonym": person[1]} for person in people]
    return dict(_lives(connection.execute(_LIVES_OF, {"keys": rows_parameter(keys)})))


def _lives(rows: Iterable[tuple[Any, ...]]) -> Iterable[tuple[PersonKey, Life]]:
    for organization, pseudonym, erased_at, recreated_at, finished in rows:
        yield (organization, pseudonym), Life(erased_at, recreated_at, finished)

"""Log entries about erased card holders: compared like all others, and mirrored without their content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.db import driver_of
from receiver.erasure.pseudonyms import Life, Pseudonyms, lives_in, read_pseudonyms
from receiver.erasure.redact import named_card_holder
from receiver.events.content import UNREADABLE, decode
from receiver.json_rows import rows_parameter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Connection

    from receiver.encryption import Encryption

ERASED_ITEM: Final = b'{"erased":true}'
"""The content of such an entry in the mirror."""

_ERASURE_PENDING: Final = text(
    "SELECT reference_id FROM ems.card_holders "
    "WHERE organization_reference_id = :organization AND deleted_at IS NOT NULL AND erased_at IS NULL"
)
_UNERASED: Final = text(
    """
SELECT named.* FROM (
    SELECT stored.id, stored.fingerprint, stored.at AS occurred_at,
        coalesce(outcome.card_holder_reference_id, event.card_holder_reference_id) AS reference
    FROM pg_temp.log_stored AS stored
    JOIN receiver.outcomes AS outcome ON outcome.delivery_id = stored.id
    LEFT JOIN ems.events AS event ON event.position = outcome.position
    WHERE coalesce(outcome.fingerprint, event.fingerprint) IS NOT NULL
) AS named WHERE named.reference = ANY(:references)
"""
)
_APPLY_PSEUDONYMS: Final = text(
    """
UPDATE pg_temp.log_stored AS stored SET fingerprint = keyed.fingerprint
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS keyed (id bigint, fingerprint bytea) WHERE stored.id = keyed.id
"""
)


@dataclass(frozen=True, slots=True)
class ErasedCardHolders:
    """The erased card holders of one organization."""

    organization: str
    pseudonyms: Pseudonyms
    lives: Mapping[str, Life]

    @classmethod
    def read(cls, connection: Connection, organization: str, encryption: Encryption) -> ErasedCardHolders | None:
        """Return ``None`` where no card holder is erased."""
        driver = driver_of(connection)
        pseudonyms = read_pseudonyms(driver, encryption)
        lives = {} if pseudonyms is None else lives_in(driver, organization)
        return cls(organization, pseudonyms, lives) if pseudonyms is not None and lives else None

    @property
    def marked(self) -> dict[str, datetime]:
        """When each of them was marked for erasure, by pseudonym."""
        return {pseudonym: life.erased_at for pseudonym, life in self.lives.items()}

    def is_about(self, body: bytes, at: datetime | None) -> bool:
        """Whether *body*, of an event that occurred *at* that time, is about one of them."""
        try:
            reference = named_card_holder(decode(body))
        except UNREADABLE:
            return False
        life = None if reference is None else self.lives.get(self.pseudonyms.of(self.organization, reference))
        return life is not None and life.held(at)

    def fingerprint(self, plain: bytes) -> bytes:
        """Return the keyed fingerprint that replaces *plain*, that of a payload that names one of them."""
        return self.pseudonyms.fingerprint(plain)

    def apply_pseudonyms(self, connection: Connection) -> None:
        """Key the fingerprints of deliveries whose card holder's erasure is unfinished, as the erasure will."""
        if all(life.finished for life in self.lives.values()):
            return
        lives = {
            reference: self.lives.get(self.pseudonyms.of(self.organization, reference))
            for reference in connection.scalars(_ERASURE_PENDING, {"organization": self.organization})
        }
        rows = [
            {"id": row.id, "fingerprint": "\\x" + self.fingerprint(bytes(row.fingerprint)).hex()}
            for row in connection.execute(_UNERASED, {"references": list(lives)}).all()
            if (life := lives[row.reference]) is not None and life.held(row.occurred_at)
        ]
        if rows:
            connection.execute(_APPLY_PSEUDONYMS, {"rows": rows_parameter(rows)})

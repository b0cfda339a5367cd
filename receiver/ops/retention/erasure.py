"""The erasure of card holders who were deleted long enough ago and not created again.

First they are *marked*, under the feed's lock: whatever is committed about them from then on is under a pseudonym
(``erasure.late``). Then one walk over all deliveries rewrites what each of theirs left behind, wherever it is. At its
end their rows in ``ems.card_holders`` have the pseudonym, and the reference is stored nowhere. It may be interrupted
anywhere: what is rewritten no longer matches, and the next run continues the walk where it stopped.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.db import dedicated_connection, driver_of
from receiver.erasure.erase import Person, erase_not_applied, erase_people, erase_slice
from receiver.erasure.pseudonyms import Pseudonyms, make_pseudonyms, read_pseudonyms
from receiver.json_rows import rows_parameter
from receiver.ops.retention.walk import begin_walk, remember, restart_walk
from receiver.ops.retention.yielding import yielding_transaction
from receiver.records.locked import write_under_lock
from receiver.records.write import writing_connection

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Engine

    from receiver.encryption import Encryption

NAME: Final = "card_holders"
WORDS: Final = "references of deleted card holders"
SETTING: Final = "ERASE_CARD_HOLDERS_DAYS"
SLICE: Final = 2000
"""How many deliveries are looked at in one transaction."""

_Key = tuple[str, str]

_DUE: Final = text(
    """
SELECT organization_reference_id, reference_id FROM ems.card_holders
WHERE deleted_at IS NOT NULL AND erased_at IS NULL AND deleted_at < :before
"""
)
_MARK: Final = """
INSERT INTO receiver.erased_card_holders AS erased (organization_reference_id, pseudonym, erased_at)
SELECT organization_reference_id, pseudonym, clock_timestamp()
FROM json_to_recordset(CAST(current_setting('receiver.due') AS json))
    AS due (organization_reference_id text, pseudonym text)
ON CONFLICT (organization_reference_id, pseudonym) DO UPDATE
SET erased_at = excluded.erased_at, finished_at = NULL, recreated_at = NULL
WHERE erased.finished_at IS NOT NULL
"""
_UNFINISHED: Final = text(
    "SELECT organization_reference_id, pseudonym, recreated_at FROM receiver.erased_card_holders "
    "WHERE finished_at IS NULL AND erased_at < :marked_before"
)
_AT_IT: Final = text("SELECT EXISTS (SELECT FROM receiver.erased_card_holders WHERE finished_at IS NULL)")
_ANYBODY: Final = text("SELECT EXISTS (SELECT FROM receiver.erased_card_holders)")
_HOLDERS: Final = text(
    "SELECT reference_id FROM ems.card_holders WHERE organization_reference_id = :organization AND erased_at IS NULL"
)
_LAST: Final = text("SELECT coalesce(max(id), 0) FROM receiver.stored_deliveries")
_NEXT: Final = text(
    "SELECT max(id) FROM ("
    "SELECT id FROM receiver.stored_deliveries WHERE id > :after AND id <= :last ORDER BY id LIMIT :limit) AS slice"
)
_FORGET_SEARCHES: Final = text(
    "UPDATE receiver.replays SET filter = filter - 'card_holder_reference_id' "
    "WHERE filter ->> 'card_holder_reference_id' = ANY(:references)"
)
_FINISH: Final = text(
    "UPDATE receiver.erased_card_holders SET finished_at = clock_timestamp() "
    "WHERE finished_at IS NULL AND erased_at < :marked_before"
)
_NOW: Final = text("SELECT clock_timestamp()")


class Erasing:
    """The erasure, step by step."""

    name = NAME
    words = WORDS

    def __init__(self, engine: Engine, encryption: Encryption, *, before: datetime | None, write: bool) -> None:
        """*before*: card holders deleted before this time are due; ``None``: none are."""
        self.removed = 0
        self.yielded = False
        self._engine = engine
        self._encryption = encryption
        self._before = before
        self._write = write
        self._marked_before: datetime | None = None
        self._references: dict[_Key, str] | None = None
        self._position = self._last = 0

    def step(self) -> bool:
        """Do one step; return whether it is finished, or cannot go on now."""
        if not self._write:
            self.removed = self._count_due()
            return True
        if self._marked_before is None:
            return not self._mark()
        with yielding_transaction(self._engine) as connection:
            return self._walk(connection)

    def _count_due(self) -> int:
        if self._before is None:
            return 0
        with self._engine.connect() as connection:
            return len(connection.execute(_DUE, {"before": self._before}).all())

    def _mark(self) -> bool:
        """Mark the card holders whose erasure is due, and return whether any marked one has still to be erased.

        None is marked while others are being erased: a mark restarts the walk, which has to reach its end.
        """
        with self._engine.begin() as connection:
            mark_none = self._before is None or connection.scalar(_AT_IT)
            due = [] if mark_none else connection.execute(_DUE, {"before": self._before}).all()
            if due:
                with closing(dedicated_connection(self._engine)) as own:
                    pseudonyms = make_pseudonyms(own, self._encryption)
                    rows = [
                        {"organization_reference_id": organization, "pseudonym": pseudonyms.of(organization, reference)}
                        for organization, reference in due
                    ]
                    write_under_lock(own, {"due": rows_parameter(rows)}, [_MARK])
            if not connection.scalar(_ANYBODY):
                return False
            self._position = (restart_walk if due else begin_walk)(connection, NAME)
        with self._engine.begin() as connection:
            self._marked_before = connection.execute(_NOW).scalar_one()
            self._last = connection.execute(_LAST).scalar_one()
        return True

    def _walk(self, connection: Connection) -> bool:
        """Rewrite what is in the next slice; at the end of the last one, finish."""
        pseudonyms = read_pseudonyms(driver_of(connection), self._encryption)
        assert pseudonyms is not None  # noqa: S101 - a person is marked
        people = self._people(connection, pseudonyms)
        parameters = {"after": self._position, "last": self._last, "limit": SLICE}
        until = connection.scalar(_NEXT, parameters)
        with closing(writing_connection(self._engine)) as own:
            if until is None:
                with self._engine.begin() as searches:
                    searches.execute(_FORGET_SEARCHES, {"references": [person.reference for person in people]})
                erase_people(own, pseudonyms, people, last=self._last)
                self.removed += len(people)
                connection.execute(_FINISH, {"marked_before": self._marked_before})
                return True
            erase_slice(own, pseudonyms, people, after=self._position, until=until)
            erase_not_applied(own, pseudonyms, after=self._position, until=until)
        remember(connection, NAME, until)
        self._position = until
        return False

    def _people(self, connection: Connection, pseudonyms: Pseudonyms) -> list[Person]:
        """Return those who are being erased, as of now: one may have been created again meanwhile."""
        marked = connection.execute(_UNFINISHED, {"marked_before": self._marked_before}).all()
        if self._references is None:
            self._references = _references(connection, pseudonyms, [(row[0], row[1]) for row in marked])
        return [
            Person(organization, self._references[organization, pseudonym], pseudonym, recreated_at)
            for organization, pseudonym, recreated_at in marked
            if (organization, pseudonym) in self._references
        ]


def _references(connection: Connection, pseudonyms: Pseudonyms, marked: list[_Key]) -> dict[_Key, str]:
    """Return the references of those who are marked: their rows still have them."""
    return {
        key: reference
        for organization in sorted({organization for organization, _ in marked})
        for reference in connection.scalars(_HOLDERS, {"organization": organization})
        if (key := (organization, pseudonyms.of(organization, reference))) in set(marked)
    }

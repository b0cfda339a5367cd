"""Writing to ``ems``: events appended to the event log and the rows folded from it, in one transaction.

Positions are assigned under the feed's lock, so that a reader of position *n* never misses a smaller position that is
committed later (see ``locked``).

Rows are folded from events that were read without the lock. So under the lock PostgreSQL checks that no event of these
subjects was added since. If one was, nothing is written, and the caller reads and folds again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec
from psycopg.errors import InvalidSqlStatementName, SerializationFailure

from receiver.db import dedicated_connection
from receiver.json_rows import bytea, ids_parameter, rows_parameter
from receiver.records.epochs import DATABASE_IS_KNOWN, compare_history
from receiver.records.folds import tables_of
from receiver.records.journal import BOOK_CHANGES
from receiver.records.locked import write_under_lock
from receiver.records.models import Receipt, Transaction, VatTotal
from receiver.records.tables import FOLDED, FoldedTable, append_statement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import psycopg
    from sqlalchemy import Engine

    from receiver.db import Base
    from receiver.events.event import Event
    from receiver.json_rows import Row
    from receiver.records.history import History, Subject

CHANGED: Final = "receiver.changed"
"""Type of the feed entries for changes that come from no event of OpenCard."""
RECEIVER_SOURCE: Final = "receiver"
"""Source of these entries."""


class ChangeReason(StrEnum):
    """Why rows changed without an event of OpenCard, as the entry says; readers may rely on these words."""

    EARLIER_ATTEMPT_FOUND = "earlier_attempt_found"
    """OpenCard's delivery log has an earlier attempt of an event, so events were put in another order."""
    FILE_STORED = "file_stored"
    CARD_HOLDER_ERASED = "card_holder_erased"
    ROWS_REBUILT = "rows_rebuilt"
    """``receiver rebuild`` computed rows again that differed."""
    EVENT_RETRACTED = "event_retracted"
    """An operator retracted a forged delivery."""
    RETRACTION_UNDONE = "retraction_undone"


LEASE_ENDED: Final = "the lease ended"
"""The message of ``receiver.expect`` in a claim's statements."""
_MARKED: Final = "SELECT coalesce(CAST(max(erased_at) AS text), '-infinity') FROM receiver.erased_card_holders"
_EXPECT: Final = f"""
SELECT receiver.expect(NOT EXISTS (
        SELECT FROM (
            SELECT * FROM ems.events WHERE position > CAST(current_setting('receiver.read_up_to') AS bigint) OFFSET 0
        ) AS added
        JOIN json_to_recordset(CAST(current_setting('receiver.subjects') AS json))
            AS subject (organization text, id text)
            ON added.organization_reference_id = subject.organization AND added.subject_id = subject.id
    ) AND CAST(current_setting('receiver.number_of_retries') AS bigint) = (
        SELECT count(*) FROM receiver.outcomes WHERE status = 'duplicate'
            AND position = ANY(CAST(current_setting('receiver.positions') AS bigint[]))
    ), 'something was added to these subjects'),
    receiver.expect({DATABASE_IS_KNOWN}, 'the history of PostgreSQL branched'),
    receiver.expect(current_setting('receiver.marked') IN ('', ({_MARKED})), 'a card holder was marked as erased')
"""  # noqa: S608 - a constant
_CORRECT_TIMES: Final = """
UPDATE ems.events AS event SET occurred_at = corrected.occurred_at
FROM json_to_recordset(CAST(current_setting('receiver.corrected_times') AS json)) AS corrected (
    position bigint, occurred_at timestamptz
)
WHERE event.position = corrected.position
    AND event.position = ANY(CAST(current_setting('receiver.positions') AS bigint[]))
"""
# the statements of ``FoldedTable.replace`` do this for the other tables
_DELETE_TRANSACTIONS: Final = """
DELETE FROM ems.transactions AS stored
USING json_to_recordset(CAST(current_setting('receiver.without_events') AS json))
    AS subject (organization text, id text)
WHERE stored.organization_reference_id = subject.organization AND stored.id = subject.id
"""
_APPEND: Final = append_statement()
_PREPARED: Final = {"receiver_expect": _EXPECT, "receiver_append": _APPEND}
_LEDGER_MODELS: Final = frozenset({Transaction, Receipt, VatTotal})
"""One table of each kind of event that can change a booked column (``VatTotal`` and ``VatRate`` are of one kind)."""
# One index lookup for each key, however large the tables are: a plan made for empty tables remains good.
_SESSION: Final = "SELECT set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false)"


class Outdated(Exception):
    """Something changed since the history was read: nothing was written, and the caller starts again."""

    @property
    def lease_ended(self) -> bool:
        """Whether another worker may have claimed the deliveries."""
        return LEASE_ENDED in str(self)


@dataclass(slots=True)
class LogChange:
    """A change to write, for subjects whose history was read."""

    subjects: Sequence[Subject]
    history: History
    marked: str = ""
    """The result of ``read_marked`` when the history was read; empty if the change adds no card holder's data."""
    before: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Statements that need no lock, such as the end of a claim."""
    events: list[Event] = field(default_factory=list)
    """Events to append, in this order."""
    announced: list[tuple[Subject, Event, ChangeReason]] = field(default_factory=list)
    """Subjects whose rows change without a new event, each with the event that it is derived from, and the reason."""
    corrected_times: dict[int, datetime] = field(default_factory=dict)
    """The corrected times of events in the event log, by position."""
    rows: dict[type[Base], list[Row]] = field(default_factory=dict)
    outcomes: list[Row] = field(default_factory=list)
    """``delivery_id``, ``status``, ``attempts``, and ``position`` or, for a new event, ``first_delivery_id``."""
    after: list[tuple[str, str, list[Row]]] = field(default_factory=list)
    """Statements that run after the rows are written, such as noting downloads; each with a setting and its rows."""

    def settings(self) -> dict[str, str]:
        """Return the values to write, by name: statements read each with ``current_setting('receiver.<name>')``.

        ``sql/append.sql`` reads ``events``, ``transactions`` and ``outcomes``, ``sql/replace_rows.sql`` the rows and
        subjects of the other tables, ``sql/journal.sql`` the ``purchases``.
        """
        rows: dict[str, list[Row]] = {
            "events": [*map(entry_of, self.events), *(_announcement(*each) for each in self.announced)],
            "transactions": sorted(
                self.rows.get(Transaction, []), key=lambda row: (row["organization_reference_id"], row["id"])
            ),
            "outcomes": self.outcomes,
            "subjects": _keys(self.subjects),
            "purchases": _keys(self._purchases()),
            "corrected_times": [
                {"position": position, "occurred_at": at} for position, at in self.corrected_times.items()
            ],
            "without_events": _keys(self.without_events()),
        }
        for table in self._tables():
            touched = [subject for subject in self.subjects if table.model in tables_of(subject.kind)]
            rows[f"subjects_of_{table.table.name}"] = _keys(touched)
            rows[f"rows_of_{table.table.name}"] = sorted(self.rows.get(table.model, []), key=table.place)
        rows |= {setting: setting_rows for _, setting, setting_rows in self.after}
        known = {
            "marked": self.marked,
            "read_up_to": str(self.history.read_up_to),
            "number_of_retries": str(self.history.number_of_retries),
            "positions": ids_parameter(self.history.positions),
        }
        return {name: rows_parameter(of_name) for name, of_name in rows.items()} | known

    def statements(self) -> list[str]:
        """Return the statements that write the values of ``settings``."""
        if not self.subjects:
            return []
        statements = ["EXECUTE receiver_expect"]
        if self.corrected_times:
            statements.append(_CORRECT_TIMES)
        statements += [table.replace for table in self._tables()]
        if self.without_events():
            statements.append(_DELETE_TRANSACTIONS)
        statements.append("EXECUTE receiver_append")
        statements += [statement for statement, _, _ in self.after]
        if self._purchases():
            statements.append(BOOK_CHANGES)
        return statements

    def _purchases(self) -> list[Subject]:
        """Return one subject for each purchase whose line in the ledger may change."""
        return list(
            {
                subject[1:]: subject for subject in self.subjects if _LEDGER_MODELS & set(tables_of(subject.kind))
            }.values()
        )

    def without_events(self) -> list[Subject]:
        """Return the transactions that have no row: no event is left of them."""
        written = {(row["organization_reference_id"], row["id"]) for row in self.rows.get(Transaction, [])}
        return [each for each in self.subjects if Transaction in tables_of(each.kind) and each[1:] not in written]

    def _tables(self) -> list[FoldedTable]:
        """Return the tables with rows of the subjects, except ``transactions``, in the order of writing."""
        touched = {model for subject in self.subjects for model in tables_of(subject.kind)} - {Transaction}
        return [table for model, table in FOLDED.items() if model in touched]


def read_marked(connection: psycopg.Connection[Any]) -> str:
    """Return when a card holder was last marked as erased; a write about card holders fails if one was marked since."""
    row = connection.execute(_MARKED).fetchone()
    return str(row[0]) if row else ""


def writing_connection(engine: Engine) -> psycopg.Connection[Any]:
    """Return a connection for reading histories and committing changes: in autocommit; the caller closes it."""
    connection = dedicated_connection(engine)
    try:
        connection.execute(_SESSION)
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    connection.prepare_threshold = 2
    return connection


def _prepare(connection: psycopg.Connection[Any]) -> None:
    for name, statement in _PREPARED.items():
        connection.execute(f"PREPARE {name} AS {statement}".encode(), prepare=False)


def commit(connection: psycopg.Connection[Any], change: LogChange) -> None:
    """Write *change* in one transaction; *connection* is a ``writing_connection``.

    Begins an epoch first if PostgreSQL's history had branched when that of the subjects was read (see ``epochs``).
    Raises ``Outdated`` when something was added to the subjects since, when the history branched since, or when a lease
    ended; and psycopg's errors. Then nothing is written.
    """
    if not change.history.database_is_known:
        compare_history(connection)
    settings, statements = change.settings(), change.statements()
    try:
        try:
            write_under_lock(connection, settings, statements, before=change.before)
        except InvalidSqlStatementName:  # psycopg deallocates all after a rollback
            _prepare(connection)
            write_under_lock(connection, settings, statements, before=change.before)
    except SerializationFailure as error:
        raise Outdated(str(error).partition("\n")[0]) from None


def _keys(subjects: Sequence[Subject]) -> list[Row]:
    return [{"organization": subject.organization, "id": subject.id} for subject in subjects]


def entry_of(event: Event) -> Row:
    """Return the columns of an event in the event log; its payload is null where the stored body has it."""
    return {
        "type": event.name,
        "organization_reference_id": event.organization_reference_id,
        "card_holder_reference_id": event.card_holder_reference_id,
        "transaction_id": event.transaction_id,
        "subject_id": event.subject_id,
        "occurred_at": event.occurred_at,
        "source": event.source,
        "delivery_id": event.delivery_id,
        "fingerprint": bytea(event.fingerprint),
        "document": None if event.document is None else msgspec.Raw(event.document),
    }


def _announcement(subject: Subject, event: Event, reason: ChangeReason) -> Row:
    return {
        **entry_of(event),
        "type": CHANGED,
        "occurred_at": "now",
        "source": RECEIVER_SOURCE,
        "fingerprint": None,
        "document": {"reason": reason, "tables": [str(FOLDED[model].table.name) for model in tables_of(subject.kind)]},
    }

"""Writing to ``ems``: events appended to the log and the rows folded from it, in one transaction that nobody can hold.

Positions are given out under one lock, so that whoever has read position *n* never misses a smaller one that commits
later. What is to be written is sent first, as settings of the transaction. Only then follow the statements, all
together, with the end of the transaction behind them: however this process freezes or vanishes, PostgreSQL has all that
it needs to go on to the commit, and frees the lock by itself.

Rows are folded from what was read without the lock. So under the lock PostgreSQL checks that nothing was added to
these subjects since; where something was, nothing is written, and the caller folds anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
import psycopg
import structlog
from psycopg import errors

from receiver.counters import FEED_LOCK_TIMEOUTS
from receiver.json_rows import bytea, rows_parameter
from receiver.locks import Lock
from receiver.records.epochs import HISTORY_IS_KNOWN
from receiver.records.folds import tables_of
from receiver.records.models import Transaction
from receiver.records.tables import FOLDED, FoldedTable, append_statement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from receiver.db import Base
    from receiver.events.event import Event
    from receiver.json_rows import Row
    from receiver.records.history import History, Subject

log = structlog.stdlib.get_logger(__name__)

CHANGED: Final = "receiver.changed"
"""Type of the entries that announce what no event of OpenCard announces."""
OURS: Final = "receiver"
"""Source of such an entry."""

LEASE_ENDED: Final = "the lease ended"
"""What a claim's statements expect not to be so."""
_GIVE: Final = """
SELECT count(set_config(name, value, true))
FROM unnest(CAST(%(names)s AS text[]), CAST(%(values)b AS text[])) AS given (name, value)
"""
_LOCK: Final = "SELECT pg_advisory_xact_lock(%(key)s)"
_EXPECT: Final = f"""
SELECT receiver.expect(NOT EXISTS (
        SELECT FROM (SELECT * FROM ems.events WHERE position > %(horizon)s OFFSET 0) AS added
        JOIN json_to_recordset(CAST(current_setting('receiver.subjects') AS json)) AS subject (organization text, id text)
            ON added.organization_reference_id = subject.organization AND added.subject_id = subject.id
    ) AND %(repeats)s = (
        SELECT count(*) FROM receiver.outcomes WHERE status = 'duplicate' AND position = ANY(%(positions)s)
    ), 'something was added to these subjects'),
    receiver.expect({HISTORY_IS_KNOWN}, 'the history of PostgreSQL branched')
"""  # noqa: S608 - a constant
_DATE: Final = """
UPDATE ems.events AS event SET occurred_at = given.occurred_at
FROM unnest(CAST(%(positions)s AS bigint[]), CAST(%(times)s AS timestamptz[])) AS given (position, occurred_at)
WHERE event.position = given.position AND event.position = ANY(CAST(%(positions)s AS bigint[]))
"""
_APPEND: Final = append_statement()


class Outdated(Exception):  # noqa: N818 - what happened
    """Something changed since the history was read: nothing was written, and the caller begins anew."""

    @property
    def lease_ended(self) -> bool:
        """Whether another worker may have the deliveries now."""
        return LEASE_ENDED in str(self)


@dataclass(slots=True)
class Change:
    """What is to be written, for subjects whose history was read."""

    subjects: Sequence[Subject]
    history: History
    before: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Statements for which no lock is needed, such as the end of a claim."""
    events: list[Event] = field(default_factory=list)
    """To be appended, in this order."""
    announced: list[tuple[Subject, Event, str]] = field(default_factory=list)
    """Subjects whose rows change though no event is appended: the event that they come from, and the reason."""
    dated: dict[int, datetime] = field(default_factory=dict)
    """Events of the log that occurred at another time than it says, by position."""
    rows: dict[type[Base], list[Row]] = field(default_factory=dict)
    outcomes: list[Row] = field(default_factory=list)
    """``delivery_id``, ``status``, ``attempts``, ``position`` or ``brought_by`` (the delivery of the event)."""
    after: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Statements that go by the rows, such as noting what is to be downloaded."""

    def parameters(self) -> dict[str, str]:
        """Return what is to be written, by the setting in which it is given."""
        rows = {
            "events": [*map(_entry, self.events), *(_announcement(*each) for each in self.announced)],
            "transactions": sorted(
                self.rows.get(Transaction, []), key=lambda row: (row["organization_reference_id"], row["id"])
            ),
            "outcomes": self.outcomes,
            "subjects": [{"organization": subject.organization, "id": subject.id} for subject in self.subjects],
        }
        for table in self._tables():
            rows[table.setting] = sorted(
                self.rows.get(table.model, []), key=lambda row, key=table.sorted_by: tuple(row[name] for name in key)
            )
        return {f"receiver.{name}": rows_parameter(given) for name, given in rows.items()}

    def statements(self) -> list[tuple[str, dict[str, Any], bool]]:
        """Return the statements that follow, each with its parameters and whether it is prepared."""
        found: list[tuple[str, dict[str, Any], bool]] = [
            (_LOCK, {"key": int(Lock.FEED)}, True),
            (_EXPECT, self._expected(), True),
        ]
        if self.dated:
            found.append((_DATE, {"positions": list(self.dated), "times": list(self.dated.values())}, False))
        found += [(table.replace, {}, False) for table in self._tables()]
        found.append((_APPEND, {}, True))
        found += [(statement, parameters, True) for statement, parameters in self.after]
        return found

    def _tables(self) -> list[FoldedTable]:
        """Return the tables that hold rows of the subjects, but for ``transactions``, in their order."""
        touched = {model for subject in self.subjects for model in tables_of(subject.kind)} - {Transaction}
        return [table for model, table in FOLDED.items() if model in touched]

    def _expected(self) -> dict[str, Any]:
        return {
            "horizon": self.history.horizon,
            "positions": self.history.positions,
            "repeats": self.history.repeats,
        }


def commit(connection: psycopg.Connection[Any], change: Change) -> None:
    """Write *change* in a transaction of its own; *connection* commits automatically.

    Raises ``Outdated`` when something was added to the subjects since their history was read, or when the history of
    PostgreSQL branched, and psycopg's errors. Nothing is written then.
    """
    try:
        with connection.pipeline():
            for statement, parameters in change.before:
                connection.execute(statement, parameters)
            if change.subjects:
                given = change.parameters()
                connection.execute(_GIVE, {"names": list(given), "values": list(given.values())})
                for statement, own, prepared in change.statements():
                    connection.execute(statement, own, prepare=None if prepared else False)
    except errors.SerializationFailure as error:
        raise Outdated(str(error).partition("\n")[0]) from None
    except errors.LockNotAvailable:
        FEED_LOCK_TIMEOUTS.inc()
        log.warning("feed lock not free", see="receiver status names the process that holds it")
        raise


def _entry(event: Event) -> Row:
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


def _announcement(subject: Subject, event: Event, reason: str) -> Row:
    return {
        **_entry(event),
        "type": CHANGED,
        "occurred_at": "now",
        "source": OURS,
        "fingerprint": None,
        "document": {"reason": reason, "tables": [str(FOLDED[model].table.name) for model in tables_of(subject.kind)]},
    }

"""Temporary tables that hold a run's log entries and deliveries, so that memory stays flat."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import text

from receiver.db import driver_of
from receiver.errors import OperationRefused
from receiver.events.catalogue import spellings
from receiver.reconcile import statements
from receiver.reconcile.compare import ComparedDelivery, LogAttempt, compare, compare_without_payload
from receiver.reconcile.erased import ErasedCardHolders
from receiver.reconcile.identity import CHALLENGE, entry_key, event_fingerprint, event_name
from receiver.records.folds.card_holders import TIME_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from receiver.encryption import Encryption
    from receiver.opencard.delivery_log_item import LogItem
    from receiver.reconcile.compare import Comparison

T = TypeVar("T")

FINGERPRINTS_PER_FETCH: Final = 1000
BODIES_PER_FETCH: Final = 20
ERASED_MEANWHILE: Final = "card holders were erased during the run: run again"


class Workspace:
    """The temporary tables of one connection, for one webhook at a time."""

    def __init__(self, connection: Connection, organization_reference_id: str, encryption: Encryption) -> None:
        self._connection = connection
        self._encryption = encryption
        self._organization_reference_id = organization_reference_id
        self._erased: ErasedCardHolders | None = None
        self._number = 0
        self._timeless = False
        self.entries = 0
        """After deduplication."""
        self.oldest: datetime | None = None
        """The earliest time of an entry."""
        self.clock_offset = timedelta()
        """By how much the log's times are corrected, see ``clock``."""

    def prepare(self) -> None:
        """Create the tables that do not exist, and truncate all."""
        for name, columns in statements.TABLES.items():
            definition = ", ".join(f"{column} {kind}" for column, kind in columns.items())
            self._connection.execute(text(f"CREATE TEMPORARY TABLE IF NOT EXISTS {name} ({definition})"))
        self._connection.execute(statements.SMALL_SAMPLES)
        self.clear()
        self._erased = self._read_erased()

    def require_no_new_erasure(self) -> None:
        """Raise ``OperationRefused`` where card holders were marked for erasure since ``prepare``.

        Entries about them were read, and would be mirrored, with their content.
        """
        erased = self._read_erased()
        if erased is not None and (self._erased is None or erased.marked != self._erased.marked):
            raise OperationRefused(ERASED_MEANWHILE)

    def _read_erased(self) -> ErasedCardHolders | None:
        return ErasedCardHolders.read(self._connection, self._organization_reference_id, self._encryption)

    def clear(self) -> None:
        """Truncate all tables."""
        self._connection.execute(statements.CLEAR)

    def add(self, entries: Iterable[LogItem]) -> None:
        """Copy *entries* into ``log_read`` with their fingerprints."""
        self._copy("log_read", (self._row(entry) for entry in entries))

    def _row(self, entry: LogItem) -> tuple[Any, ...]:
        self._number += 1
        fingerprint, erased = None, False
        payload = entry.payload or b""
        if entry.payload is not None and entry.event:
            fingerprint, erased = self._identify(entry.event, payload, entry.attempted_at)
        begins = entry.item.find(payload)
        return (
            self._number,
            entry_key(entry, fingerprint),
            entry.id,
            entry.event,
            entry.response_status,
            entry.attempted_at,
            fingerprint,
            entry.item,
            begins + 1,
            len(payload),
            payload if begins < 0 else None,
            erased,
        )

    def _identify(self, event: str, body: bytes, at: datetime | None) -> tuple[bytes, bool]:
        """Return the fingerprint by which an event is compared, and whether it is about an erased card holder."""
        fingerprint = event_fingerprint(event, body, self._organization_reference_id)
        if self._erased is not None and self._erased.is_about(body, at):
            return self._erased.fingerprint(fingerprint), True
        return fingerprint, False

    def deduplicate(self, *, merge_equal: bool) -> None:
        """Keep each of the entries that were read once."""
        self._connection.execute(statements.ANALYZE_READ)
        self._connection.execute(statements.DEDUPLICATE, {"merge_equal": merge_equal})
        self.entries, self.oldest, self._timeless = self._connection.execute(statements.EXTENT).one()

    def load_deliveries(self, webhook_id: int, *, since: datetime | None, slack: timedelta, window: timedelta) -> None:
        """Load the stored deliveries of a webhook that may be among the attempts read.

        *since* is how far back the log was read for sure. Attempts without a time may be of any age.
        """
        after = None
        if since is not None and not self._timeless:
            after = min(since, self.oldest or since) - slack
        parameters = {"webhook_id": webhook_id, "after": after}
        # Unprocessed ones first: one that is processed meanwhile is then found twice, and inserted once.
        options = {"yield_per": BODIES_PER_FETCH}
        with self._connection.execute(statements.UNPROCESSED, parameters, execution_options=options) as waiting:
            for rows in waiting.partitions(BODIES_PER_FETCH):
                self._copy(
                    "log_stored",
                    ((*row[:2], *row[3:7], self._identify(row.event, row.body, row.occurred_at)[0]) for row in rows),
                )
        self._connection.execute(statements.LOAD_PROCESSED, parameters)
        if self._erased is not None:
            self._erased.apply_pseudonyms(self._connection)
        if after is not None and self._connection.scalar(statements.ANY_NEVER_ACCEPTED):
            in_order = [spelling for name in TIME_COLUMNS for spelling in spellings(name)]
            self._connection.execute(statements.LOAD_OLDER, {**parameters, "window": window, "in_order": in_order})
        self._connection.execute(statements.ANALYZE_STORED)

    def compare_single(self) -> tuple[int, timedelta | None]:
        """Compare the events that are once in the log and stored at most once.

        Return how many are stored, and how far OpenCard's clock is ahead by them; ``None`` if none shows it.
        """
        matched, clock_offset = self._connection.execute(statements.COMPARE_SINGLE, {"challenge": CHALLENGE}).one()
        return matched, clock_offset

    def compare_several(self) -> int:
        """Compare the other events with a payload; return the number of matched occurrences."""
        matched = 0
        parameters = {"challenge": CHALLENGE, "clock_offset": self.clock_offset}
        options = {"yield_per": FINGERPRINTS_PER_FETCH}
        with self._connection.execute(statements.SEVERAL, parameters, execution_options=options) as several:
            for rows in several.partitions(FINGERPRINTS_PER_FETCH):
                comparisons = [
                    compare(event, _each(LogAttempt, fields[:3]), _each(ComparedDelivery, fields[3:]))
                    for event, *fields in rows
                ]
                matched += sum(comparison.matched for comparison in comparisons)
                self._save(comparisons)
        self._connection.execute(statements.ANALYZE_FOUND)
        return matched

    def compare_without_payload(self, webhook_id: int, *, open_since: datetime) -> tuple[int, int]:
        """Compare the attempts without a payload; return how many match, and how many are unrecoverable."""
        by_event: dict[str, list[LogAttempt]] = {}
        parameters = {
            "webhook_id": webhook_id,
            "open_since": open_since,
            "clock_offset": self.clock_offset,
            "challenge": CHALLENGE,
        }
        for number, event, at, accepted in self._connection.execute(statements.WITHOUT_PAYLOAD, parameters):
            by_event.setdefault(event_name(event), []).append(LogAttempt(number, at, accepted))
        if not by_event:
            return 0, 0
        self._connection.execute(statements.MARK_EXPLAINED)
        comparisons = [
            compare_without_payload(attempts, self._unexplained(event)) for event, attempts in by_event.items()
        ]
        self._save(comparisons)
        return sum(each.matched for each in comparisons), sum(len(each.unrecoverable) for each in comparisons)

    def _unexplained(self, event: str) -> Iterator[ComparedDelivery]:
        for row in self._connection.execute(statements.UNEXPLAINED, {"events": spellings(event)}):
            yield ComparedDelivery(*row)

    def _save(self, comparisons: Sequence[Comparison]) -> None:
        self._copy("log_found", (found for comparison in comparisons for found in _findings(comparison)))

    def _copy(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        columns = statements.TABLES[table]
        statement = f"COPY pg_temp.{table} ({', '.join(columns)}) FROM STDIN (FORMAT binary)"
        with driver_of(self._connection).cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(list(columns.values()))
            for row in rows:
                copy.write_row(row)


def _findings(comparison: Comparison) -> Iterator[tuple[str, int, datetime | None]]:
    """Yield the rows of ``log_found``."""
    yield from (("missing", attempt.number, None) for attempt in comparison.missing)
    yield from (("unrecoverable", attempt.number, None) for attempt in comparison.unrecoverable)
    yield from (("confirmed", delivery, None) for delivery in comparison.confirmed)
    yield from (("backdated", delivery, at) for delivery, at in comparison.backdated)


def _each(kind: Callable[..., T], columns: Sequence[Sequence[Any] | None]) -> list[T]:
    """Return a *kind* for each row of these *columns*; none where they are null."""
    return [kind(*values) for values in zip(*(column or () for column in columns), strict=True)]

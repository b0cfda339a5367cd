"""Temporary tables that hold a run's log entries and deliveries, so that memory stays flat."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import text

from receiver.db import driver_of
from receiver.events.catalogue import spellings
from receiver.reconcile.compare import ComparedDelivery, LogAttempt, compare, compare_without_payload
from receiver.reconcile.erased import ErasedCardHolders
from receiver.reconcile.identity import CHALLENGE, entry_key, event_fingerprint, event_name

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

_TABLES: Final = {
    # the entries, each once after ``deduplicate``; their times are of OpenCard's clock
    "log_read": {
        "number": "bigint",
        "identity": "bytea",
        "opencard_event_id": "text",
        "event": "text",
        "response_status": "integer",
        "attempted_at": "timestamptz",
        "fingerprint": "bytea",
        "item": "bytea",
        "payload_from": "integer",  # where the payload begins in the item, from 1
        "payload_bytes": "integer",
        "payload": "bytea",  # only if the item does not contain it byte for byte
        "about_erased": "boolean",
    },
    "log_stored": {
        "id": "bigint",
        "event": "text",
        "at": "timestamptz",
        "from_log": "boolean",
        "confirmed": "boolean",
        "arrived": "timestamptz",
        "fingerprint": "bytea",
    },
    # the result: entries that are missing or unrecoverable, deliveries that are confirmed, backdated or explained
    "log_found": {"finding": "text", "number": "bigint", "at": "timestamptz"},
}
_CLEAR: Final = text(f"TRUNCATE {', '.join(f'pg_temp.{name}' for name in _TABLES)}")

# Of entries with the same id only the one read last counts. Equal entries without ids count each, or once.
_DEDUPLICATE: Final = text(
    """
WITH repeated AS (
    SELECT number, row_number() OVER (PARTITION BY identity ORDER BY number DESC) AS rank,
        opencard_event_id IS NULL AND NOT :merge_equal AS counts
    FROM pg_temp.log_read
    WHERE identity IN (SELECT identity FROM pg_temp.log_read GROUP BY identity HAVING count(*) > 1)
), merged AS (
    DELETE FROM pg_temp.log_read AS entry USING repeated
    WHERE entry.number = repeated.number AND rank > 1 AND NOT counts
)
UPDATE pg_temp.log_read AS entry SET identity = sha256(identity || int8send(rank)) FROM repeated
WHERE entry.number = repeated.number AND rank > 1 AND counts
"""
)
# enough to tell which plans fit
_SMALL_SAMPLES: Final = text("SELECT set_config('default_statistics_target', '10', false)")
_ANALYZE_READ: Final = text("ANALYZE pg_temp.log_read (number, identity, event, attempted_at, fingerprint)")
_ANALYZE_STORED: Final = text("ANALYZE pg_temp.log_stored")
_ANALYZE_FOUND: Final = text("ANALYZE pg_temp.log_found")
_EXTENT: Final = text("SELECT count(*), min(attempted_at), bool_or(attempted_at IS NULL) FROM pg_temp.log_read")
_ACCEPTED: Final = "coalesce(response_status BETWEEN 200 AND 299, false)"
_FINGERPRINT: Final = "coalesce(outcome.fingerprint, event.fingerprint)"
_OCCURRED_AT: Final = "coalesce(confirmation.occurred_at, stored.occurred_at)"
# A retracted delivery is not compared: if the log has its event after all, the event is recovered.
_NOT_RETRACTED: Final = """
NOT EXISTS (
    SELECT FROM receiver.delivery_decisions AS answer
    WHERE answer.delivery_id = stored.id AND answer.answer = 'retracted'
)
"""
_STORED: Final = f"""
SELECT stored.id, stored.event, {{body}}{_OCCURRED_AT} AS occurred_at, stored.source = 'log',
    confirmation.confirmed_at IS NOT NULL, stored.received_at, {_FINGERPRINT}
FROM receiver.stored_deliveries AS stored
LEFT JOIN receiver.confirmations AS confirmation ON confirmation.delivery_id = stored.id
LEFT JOIN receiver.outcomes AS outcome ON outcome.delivery_id = stored.id
LEFT JOIN ems.events AS event ON event.position = outcome.position
"""  # noqa: S608 - constants
_IN_THE_WINDOW: Final = f"""
stored.webhook_id = :webhook_id AND stored.received_at >= coalesce(CAST(:after AS timestamptz), '-infinity')
    AND (stored.source = 'push' OR {_OCCURRED_AT} >= coalesce(CAST(:after AS timestamptz), '-infinity'))
    AND {_NOT_RETRACTED}
"""
_BEFORE_THE_WINDOW: Final = f"""
stored.webhook_id = :webhook_id AND stored.received_at >= :after - CAST(:window AS interval)
    AND (stored.received_at < :after OR (stored.source = 'log' AND {_OCCURRED_AT} < :after))
    AND {_NOT_RETRACTED}
"""
_LOAD_PROCESSED: Final = text(
    f"""
INSERT INTO pg_temp.log_stored {_STORED.format(body="")}
WHERE {_IN_THE_WINDOW} AND {_FINGERPRINT} IS NOT NULL
    AND NOT EXISTS (SELECT FROM pg_temp.log_stored AS loaded WHERE loaded.id = stored.id)
"""
)
_UNPROCESSED: Final = text(
    f"""
{_STORED.format(body="body.body, ")} JOIN receiver.bodies AS body ON body.delivery_id = stored.id
WHERE {_IN_THE_WINDOW} AND {_FINGERPRINT} IS NULL
"""
)
# If what was stored before the window is sent again and fails, that is no new event.
_NEVER_ACCEPTED: Final = f"""
SELECT fingerprint, min(attempted_at) AS begun FROM pg_temp.log_read AS attempt
WHERE fingerprint IS NOT NULL
    AND NOT EXISTS (SELECT FROM pg_temp.log_stored AS stored WHERE stored.fingerprint = attempt.fingerprint)
GROUP BY fingerprint HAVING NOT bool_or({_ACCEPTED})
"""  # noqa: S608 - constants
_ANY_NEVER_ACCEPTED: Final = text(f"SELECT EXISTS ({_NEVER_ACCEPTED})")
_LOAD_OLDER: Final = text(
    f"""
INSERT INTO pg_temp.log_stored
SELECT known.* FROM ({_STORED.format(body="")} WHERE {_BEFORE_THE_WINDOW})
    AS known (id, event, at, from_log, confirmed, arrived, fingerprint)
JOIN ({_NEVER_ACCEPTED}) AS attempt ON attempt.fingerprint = known.fingerprint
WHERE known.at BETWEEN attempt.begun - CAST(:window AS interval)
    AND attempt.begun + CAST(:window AS interval)
"""  # noqa: S608 - likewise
)
# One pass instead of a join, whose plan would depend on estimates.
_TOGETHER: Final = f"""
SELECT fingerprint, event, number, attempted_at, {_ACCEPTED} AS accepted, CAST(NULL AS bigint) AS id,
    CAST(NULL AS timestamptz) AS at, CAST(NULL AS boolean) AS from_log, CAST(NULL AS boolean) AS confirmed,
    CAST(NULL AS timestamptz) AS arrived
FROM pg_temp.log_read WHERE fingerprint IS NOT NULL AND event <> :challenge
UNION ALL
SELECT fingerprint, NULL, NULL, NULL, NULL, id, at, from_log, confirmed, arrived FROM pg_temp.log_stored
"""  # noqa: S608 - constants
# An event that is once in the log and stored at most once needs no rule of ``compare``: it is stored, or missing.
# Such a pair also shows the difference of the clocks if it was pushed and accepted. The fastest deliveries measure it
# best, because latency looks like a clock that is behind; the 90th percentile leaves out a few outliers.
_COMPARE_SINGLE: Final = text(
    f"""
WITH single AS MATERIALIZED (
    SELECT min(number) AS number, min(id) AS id, bool_or(from_log) AS from_log, bool_or(confirmed) AS confirmed,
        min(attempted_at) - min(at) AS ahead, bool_or(accepted) AS accepted
    FROM ({_TOGETHER}) AS one GROUP BY fingerprint HAVING count(number) = 1 AND count(id) <= 1
), found AS (
    INSERT INTO pg_temp.log_found
    SELECT CASE WHEN id IS NULL THEN 'missing' ELSE 'confirmed' END, coalesce(id, number) FROM single
    WHERE id IS NULL OR NOT (from_log OR confirmed)
)
SELECT count(id), percentile_disc(0.9) WITHIN GROUP (ORDER BY ahead) FILTER (WHERE accepted AND NOT from_log)
FROM single
"""  # noqa: S608 - constants
)
_SEVERAL: Final = text(
    f"""
WITH together AS ({_TOGETHER}), several AS (
    SELECT fingerprint FROM together GROUP BY fingerprint
    HAVING count(number) > 1 OR (count(number) = 1 AND count(id) > 1)
)
SELECT min(event), array_agg(number) FILTER (WHERE number IS NOT NULL),
    array_agg(attempted_at - CAST(:ahead AS interval)) FILTER (WHERE number IS NOT NULL),
    array_agg(accepted) FILTER (WHERE number IS NOT NULL),
    array_agg(id) FILTER (WHERE id IS NOT NULL), array_agg(at) FILTER (WHERE id IS NOT NULL),
    array_agg(from_log) FILTER (WHERE id IS NOT NULL), array_agg(confirmed) FILTER (WHERE id IS NOT NULL),
    array_agg(arrived) FILTER (WHERE id IS NOT NULL)
FROM together WHERE fingerprint IN (SELECT fingerprint FROM several) GROUP BY fingerprint
"""  # noqa: S608 - constants
)
# The attempts explain as many stored deliveries as there are attempts, the oldest ones.
_MARK_EXPLAINED: Final = text(
    """
INSERT INTO pg_temp.log_found
SELECT 'explained', placed.id
FROM (
    SELECT id, row_number() OVER (PARTITION BY fingerprint ORDER BY from_log DESC, at, id) AS rank, fingerprint
    FROM pg_temp.log_stored
) AS placed
JOIN (
    SELECT fingerprint, count(*) AS number FROM pg_temp.log_read
    WHERE fingerprint IS NOT NULL GROUP BY fingerprint
) AS attempts ON attempts.fingerprint = placed.fingerprint AND placed.rank <= attempts.number
"""
)
# Open ones of earlier runs are compared again, because a later attempt may close them. Their numbers are negative.
_WITHOUT_PAYLOAD: Final = text(
    f"""
SELECT number, event, attempted_at - CAST(:ahead AS interval), {_ACCEPTED} FROM pg_temp.log_read
WHERE fingerprint IS NULL AND event <> :challenge
UNION ALL
SELECT -id, event, attempted_at - CAST(:ahead AS interval), {_ACCEPTED}
FROM receiver.delivery_log AS entry
WHERE webhook_id = :webhook_id AND unrecoverable AND (attempted_at IS NULL OR attempted_at >= :open_since)
    AND NOT EXISTS (SELECT FROM pg_temp.log_read AS attempt WHERE attempt.identity = entry.identity)
"""  # noqa: S608 - constants
)
_UNEXPLAINED: Final = text(
    """
SELECT id, at, from_log, confirmed FROM pg_temp.log_stored AS stored
WHERE event = ANY(:events)
    AND NOT EXISTS (SELECT FROM pg_temp.log_found WHERE finding = 'explained' AND number = stored.id)
"""
)


class Workspace:
    """The temporary tables of one connection, for one webhook at a time."""

    def __init__(self, connection: Connection, organization: str, encryption: Encryption) -> None:
        self._connection = connection
        self._encryption = encryption
        self._organization = organization
        self._erased: ErasedCardHolders | None = None
        self._number = 0
        self._timeless = False
        self.entries = 0
        """After deduplication."""
        self.oldest: datetime | None = None
        """The earliest time of an entry."""
        self.ahead = timedelta()
        """By how much the log's times are corrected, see ``clock``."""

    def prepare(self) -> None:
        """Create the tables that do not exist, and truncate all."""
        for name, columns in _TABLES.items():
            definition = ", ".join(f"{column} {kind}" for column, kind in columns.items())
            self._connection.execute(text(f"CREATE TEMPORARY TABLE IF NOT EXISTS {name} ({definition})"))
        self._connection.execute(_SMALL_SAMPLES)
        self.clear()
        self._erased = ErasedCardHolders.read(self._connection, self._organization, self._encryption)

    def clear(self) -> None:
        """Truncate all tables."""
        self._connection.execute(_CLEAR)

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
        fingerprint = event_fingerprint(event, body, self._organization)
        if self._erased is not None and self._erased.is_about(body, at):
            return self._erased.fingerprint(fingerprint), True
        return fingerprint, False

    def deduplicate(self, *, merge_equal: bool) -> None:
        """Keep each of the entries that were read once."""
        self._connection.execute(_ANALYZE_READ)
        self._connection.execute(_DEDUPLICATE, {"merge_equal": merge_equal})
        self.entries, self.oldest, self._timeless = self._connection.execute(_EXTENT).one()

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
        with self._connection.execute(_UNPROCESSED, parameters, execution_options=options) as waiting:
            for rows in waiting.partitions(BODIES_PER_FETCH):
                self._copy(
                    "log_stored",
                    ((*row[:2], *row[3:7], self._identify(row.event, row.body, row.occurred_at)[0]) for row in rows),
                )
        self._connection.execute(_LOAD_PROCESSED, parameters)
        if self._erased is not None:
            self._erased.apply_pseudonyms(self._connection)
        if after is not None and self._connection.scalar(_ANY_NEVER_ACCEPTED):
            self._connection.execute(_LOAD_OLDER, {**parameters, "window": window})
        self._connection.execute(_ANALYZE_STORED)

    def compare_single(self) -> tuple[int, timedelta | None]:
        """Compare the events that are once in the log and stored at most once.

        Return how many are stored, and how far OpenCard's clock is ahead by them; ``None`` if none shows it.
        """
        matched, ahead = self._connection.execute(_COMPARE_SINGLE, {"challenge": CHALLENGE}).one()
        return matched, ahead

    def compare_several(self) -> int:
        """Compare the other events with a payload; return the number of matched occurrences."""
        matched = 0
        parameters = {"challenge": CHALLENGE, "ahead": self.ahead}
        options = {"yield_per": FINGERPRINTS_PER_FETCH}
        with self._connection.execute(_SEVERAL, parameters, execution_options=options) as several:
            for rows in several.partitions(FINGERPRINTS_PER_FETCH):
                comparisons = [
                    compare(event, _each(LogAttempt, fields[:3]), _each(ComparedDelivery, fields[3:]))
                    for event, *fields in rows
                ]
                matched += sum(comparison.matched for comparison in comparisons)
                self._save(comparisons)
        self._connection.execute(_ANALYZE_FOUND)
        return matched

    def compare_without_payload(self, webhook_id: int, *, open_since: datetime) -> tuple[int, int]:
        """Compare the attempts without a payload; return how many match, and how many are unrecoverable."""
        by_event: dict[str, list[LogAttempt]] = {}
        parameters = {"webhook_id": webhook_id, "open_since": open_since, "ahead": self.ahead, "challenge": CHALLENGE}
        for number, event, at, accepted in self._connection.execute(_WITHOUT_PAYLOAD, parameters):
            by_event.setdefault(event_name(event), []).append(LogAttempt(number, at, accepted))
        if not by_event:
            return 0, 0
        self._connection.execute(_MARK_EXPLAINED)
        comparisons = [
            compare_without_payload(attempts, self._unexplained(event)) for event, attempts in by_event.items()
        ]
        self._save(comparisons)
        return sum(each.matched for each in comparisons), sum(len(each.unrecoverable) for each in comparisons)

    def _unexplained(self, event: str) -> Iterator[ComparedDelivery]:
        for row in self._connection.execute(_UNEXPLAINED, {"events": spellings(event)}):
            yield ComparedDelivery(*row)

    def _save(self, comparisons: Sequence[Comparison]) -> None:
        self._copy("log_found", (found for comparison in comparisons for found in _findings(comparison)))

    def _copy(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        columns = _TABLES[table]
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

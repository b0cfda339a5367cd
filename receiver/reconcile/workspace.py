"""Temporary tables that hold a run's log entries and deliveries, so that memory stays flat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import text

from receiver.events.catalogue import spellings
from receiver.reconcile.compare import ComparedDelivery, LogAttempt, compare, compare_without_payload
from receiver.reconcile.erased import ERASED_ITEM, ErasedCardHolders
from receiver.reconcile.identity import CHALLENGE, entry_key, event_fingerprint, event_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime, timedelta

    import psycopg
    from sqlalchemy import Connection

    from receiver.encryption import Encryption
    from receiver.opencard.delivery_log_item import LogItem
    from receiver.reconcile.compare import Comparison

T = TypeVar("T")

FINGERPRINTS_PER_FETCH: Final = 1000
BODIES_PER_FETCH: Final = 20

_TABLES: Final = (
    # as read; the same entry may appear twice
    """CREATE TEMPORARY TABLE IF NOT EXISTS log_read (
        number bigint, entry_key bytea, opencard_event_id text, event text, response_status integer,
        attempted_at timestamptz, fingerprint bytea, payload bytea, item bytea
    )""",
    # each entry once; its time is converted to our clock later, see ``clock``
    """CREATE TEMPORARY TABLE IF NOT EXISTS log_attempts (
        number bigint PRIMARY KEY, identity bytea, event text, accepted boolean, attempted_at timestamptz,
        fingerprint bytea
    )""",
    "CREATE INDEX IF NOT EXISTS log_attempts_fingerprint ON pg_temp.log_attempts (fingerprint, number)",
    """CREATE TEMPORARY TABLE IF NOT EXISTS log_stored (
        id bigint PRIMARY KEY, event text, at timestamptz, from_log boolean, confirmed boolean, arrived timestamptz,
        fingerprint bytea, explained boolean DEFAULT false
    )""",
    "CREATE INDEX IF NOT EXISTS log_stored_fingerprint ON pg_temp.log_stored (fingerprint)",
    # the result of the comparison
    "CREATE TEMPORARY TABLE IF NOT EXISTS log_missing (number bigint)",
    "CREATE TEMPORARY TABLE IF NOT EXISTS log_confirmed (id bigint)",
    "CREATE TEMPORARY TABLE IF NOT EXISTS log_unrecoverable (number bigint)",
    "CREATE TEMPORARY TABLE IF NOT EXISTS log_backdated (id bigint, at timestamptz)",
)
_TABLE_NAMES: Final = ("read", "attempts", "stored", "missing", "confirmed", "unrecoverable", "backdated")
_CLEAR: Final = text(f"TRUNCATE {', '.join(f'pg_temp.log_{name}' for name in _TABLE_NAMES)}")

# Of entries with the same id only the one read last counts. Equal entries without ids count each, or once.
_DEDUPLICATE: Final = text(
    """
INSERT INTO pg_temp.log_attempts
SELECT number, CASE WHEN rank = 1 THEN entry_key ELSE sha256(entry_key || int8send(rank)) END, event,
    coalesce(response_status BETWEEN 200 AND 299, false), attempted_at, fingerprint
FROM (
    SELECT *, row_number() OVER (PARTITION BY entry_key ORDER BY number DESC) AS rank FROM pg_temp.log_read
) AS entry
WHERE rank = 1 OR (opencard_event_id IS NULL AND NOT :merge_equal)
"""
)
_OLDEST: Final = text("SELECT min(attempted_at), bool_or(attempted_at IS NULL) FROM pg_temp.log_attempts")
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
ON CONFLICT (id) DO NOTHING
"""
)
_UNPROCESSED: Final = text(
    f"""
{_STORED.format(body="body.body, ")} JOIN receiver.bodies AS body ON body.delivery_id = stored.id
WHERE {_IN_THE_WINDOW} AND {_FINGERPRINT} IS NULL
"""
)
# If what was stored before the window is sent again and fails, that is no new event.
_NEVER_ACCEPTED: Final = """
SELECT fingerprint, min(attempted_at) AS begun FROM pg_temp.log_attempts AS attempt
WHERE fingerprint IS NOT NULL
    AND NOT EXISTS (SELECT FROM pg_temp.log_stored AS stored WHERE stored.fingerprint = attempt.fingerprint)
GROUP BY fingerprint HAVING NOT bool_or(accepted)
"""
_ANY_NEVER_ACCEPTED: Final = text(f"SELECT EXISTS ({_NEVER_ACCEPTED})")
_LOAD_OLDER: Final = text(
    f"""
INSERT INTO pg_temp.log_stored
SELECT known.* FROM ({_STORED.format(body="")} WHERE {_BEFORE_THE_WINDOW})
    AS known (id, event, at, from_log, confirmed, arrived, fingerprint)
JOIN ({_NEVER_ACCEPTED}) AS attempt ON attempt.fingerprint = known.fingerprint
WHERE known.at BETWEEN attempt.begun - CAST(:window AS interval)
    AND attempt.begun + CAST(:window AS interval)
ON CONFLICT (id) DO NOTHING
"""  # noqa: S608 - likewise
)
# An event that is once in the log and stored at most once needs no rule of ``compare``: it is stored, or missing.
_COMPARE_SINGLE: Final = text(
    """
WITH single AS MATERIALIZED (
    SELECT logged.number, here.id, here.is_proven
    FROM (
        SELECT fingerprint, min(number) AS number FROM pg_temp.log_attempts
        WHERE fingerprint IS NOT NULL AND event <> :challenge GROUP BY fingerprint HAVING count(*) = 1
    ) AS logged
    LEFT JOIN (
        SELECT fingerprint, min(id) AS id, count(*) AS deliveries, bool_or(from_log OR confirmed) AS is_proven
        FROM pg_temp.log_stored GROUP BY fingerprint
    ) AS here ON here.fingerprint = logged.fingerprint
    WHERE here.deliveries IS NULL OR here.deliveries = 1
), missing AS (
    INSERT INTO pg_temp.log_missing SELECT number FROM single WHERE id IS NULL
), confirmed AS (
    INSERT INTO pg_temp.log_confirmed SELECT id FROM single WHERE NOT is_proven
)
SELECT count(id) FROM single
"""
)
_SEVERAL: Final = text(
    """
WITH several AS (
    SELECT fingerprint FROM pg_temp.log_attempts GROUP BY fingerprint HAVING count(*) > 1
    UNION ALL
    SELECT fingerprint FROM pg_temp.log_stored GROUP BY fingerprint HAVING count(*) > 1
), logged AS (
    SELECT fingerprint, min(event) AS event, array_agg(number) AS numbers, array_agg(attempted_at) AS times,
        array_agg(accepted) AS accepted
    FROM pg_temp.log_attempts WHERE event <> :challenge AND fingerprint IN (SELECT fingerprint FROM several)
    GROUP BY fingerprint
), here AS (
    SELECT fingerprint, array_agg(id) AS ids, array_agg(at) AS at, array_agg(from_log) AS from_log,
        array_agg(confirmed) AS confirmed, array_agg(arrived) AS arrived
    FROM pg_temp.log_stored WHERE fingerprint IN (SELECT fingerprint FROM several) GROUP BY fingerprint
)
SELECT event, numbers, times, accepted, ids, at, from_log, confirmed, arrived
FROM logged LEFT JOIN here ON here.fingerprint = logged.fingerprint
"""
)
# The attempts explain as many stored deliveries as there are attempts, the oldest ones.
_MARK_EXPLAINED: Final = text(
    """
UPDATE pg_temp.log_stored AS stored SET explained = true
FROM (
    SELECT id, row_number() OVER (PARTITION BY fingerprint ORDER BY from_log DESC, at, id) AS rank, fingerprint
    FROM pg_temp.log_stored
) AS placed
JOIN (
    SELECT fingerprint, count(*) AS number FROM pg_temp.log_attempts
    WHERE fingerprint IS NOT NULL GROUP BY fingerprint
) AS attempts ON attempts.fingerprint = placed.fingerprint AND placed.rank <= attempts.number
WHERE placed.id = stored.id
"""
)
# Open ones of earlier runs are compared again, because a later attempt may close them. Their numbers are negative.
_WITHOUT_PAYLOAD: Final = text(
    """
SELECT number, event, attempted_at, accepted FROM pg_temp.log_attempts
WHERE fingerprint IS NULL AND event <> :challenge
UNION ALL
SELECT -id, event, attempted_at - CAST(:clock_ahead AS interval), coalesce(response_status BETWEEN 200 AND 299, false)
FROM receiver.delivery_log AS entry
WHERE webhook_id = :webhook_id AND unrecoverable AND (attempted_at IS NULL OR attempted_at >= :open_since)
    AND NOT EXISTS (SELECT FROM pg_temp.log_attempts AS attempt WHERE attempt.identity = entry.identity)
"""
)
_UNEXPLAINED: Final = text(
    "SELECT id, at, from_log, confirmed FROM pg_temp.log_stored WHERE event = ANY(:events) AND NOT explained"
)
_READ_COLUMNS: Final = (
    "log_read (number, entry_key, opencard_event_id, event, response_status, attempted_at, fingerprint, payload, item)"
)
_STORED_COLUMNS: Final = "log_stored (id, event, at, from_log, confirmed, arrived, fingerprint)"


class Workspace:
    """The temporary tables of one connection, for one webhook at a time."""

    def __init__(self, connection: Connection, organization: str, encryption: Encryption) -> None:
        self._connection = connection
        self._encryption = encryption
        self._organization = organization
        self._erased: ErasedCardHolders | None = None
        self._number = 0

    def prepare(self) -> None:
        """Create the tables that do not exist, and truncate all."""
        for table in _TABLES:
            self._connection.execute(text(table))
        self.clear()
        self._erased = ErasedCardHolders.read(self._connection, self._organization, self._encryption)

    def clear(self) -> None:
        """Truncate all tables."""
        self._connection.execute(_CLEAR)

    def add(self, entries: Iterable[LogItem]) -> None:
        """Copy *entries* into ``log_read`` with their fingerprints."""
        self._copy(_READ_COLUMNS, (self._row(entry) for entry in entries))

    def _row(self, entry: LogItem) -> tuple[Any, ...]:
        self._number += 1
        fingerprint, erased = None, False
        if entry.payload is not None and entry.event:
            fingerprint, erased = self._identify(entry.event, entry.payload, entry.attempted_at)
        return (
            self._number,
            entry_key(entry, fingerprint),
            entry.id,
            entry.event,
            entry.response_status,
            entry.attempted_at,
            fingerprint,
            entry.payload,
            ERASED_ITEM if erased else entry.item,
        )

    def _identify(self, event: str, body: bytes, at: datetime | None) -> tuple[bytes, bool]:
        """Return the fingerprint by which an event is compared, and whether it is about an erased card holder."""
        fingerprint = event_fingerprint(event, body, self._organization)
        if self._erased is not None and self._erased.is_about(body, at):
            return self._erased.fingerprint(fingerprint), True
        return fingerprint, False

    def deduplicate(self, *, merge_equal: bool) -> None:
        """Copy the entries that were read into ``log_attempts``, each once."""
        self._connection.execute(_DEDUPLICATE, {"merge_equal": merge_equal})
        for table in ("read", "attempts"):
            self._connection.execute(text(f"ANALYZE pg_temp.log_{table}"))

    def count_attempts(self) -> int:
        """Count the entries after deduplication."""
        return self._connection.scalar(text("SELECT count(*) FROM pg_temp.log_attempts")) or 0

    def load_deliveries(self, webhook_id: int, *, since: datetime | None, slack: timedelta, window: timedelta) -> None:
        """Load the stored deliveries of a webhook that may be among the attempts read.

        *since* is how far back the log was read for sure. Attempts without a time may be of any age.
        """
        oldest, timeless = self._connection.execute(_OLDEST).one()
        after = None
        if since is not None and not timeless:
            after = min(since, oldest or since) - slack
        parameters = {"webhook_id": webhook_id, "after": after}
        # Unprocessed ones first: one that is processed meanwhile is then found twice, and inserted once.
        options = {"yield_per": BODIES_PER_FETCH}
        with self._connection.execute(_UNPROCESSED, parameters, execution_options=options) as waiting:
            for rows in waiting.partitions():
                self._copy(
                    _STORED_COLUMNS,
                    ((*row[:2], *row[3:7], self._identify(row.event, row.body, row.occurred_at)[0]) for row in rows),
                )
        self._connection.execute(_LOAD_PROCESSED, parameters)
        if self._erased is not None:
            self._erased.apply_pseudonyms(self._connection)
        if after is not None and self._connection.scalar(_ANY_NEVER_ACCEPTED):
            self._connection.execute(_LOAD_OLDER, {**parameters, "window": window})
        self._connection.execute(text("ANALYZE pg_temp.log_stored"))

    def compare(self) -> int:
        """Compare the attempts with a payload, fingerprint by fingerprint; return the number of matched occurrences."""
        parameters = {"challenge": CHALLENGE}
        matched: int = self._connection.execute(_COMPARE_SINGLE, parameters).scalar_one()
        options = {"yield_per": FINGERPRINTS_PER_FETCH}
        with self._connection.execute(_SEVERAL, parameters, execution_options=options) as several:
            for rows in several.partitions():
                comparisons = [
                    compare(event, _each(LogAttempt, fields[:3]), _each(ComparedDelivery, fields[3:]))
                    for event, *fields in rows
                ]
                matched += sum(comparison.matched for comparison in comparisons)
                self._save(comparisons)
        return matched

    def compare_without_payload(
        self, webhook_id: int, *, open_since: datetime, clock_ahead: timedelta
    ) -> tuple[int, int]:
        """Compare the attempts without a payload; return how many match, and how many are unrecoverable."""
        by_event: dict[str, list[LogAttempt]] = {}
        parameters = {
            "webhook_id": webhook_id,
            "open_since": open_since,
            "clock_ahead": clock_ahead,
            "challenge": CHALLENGE,
        }
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
        self._copy("log_missing", ((attempt.number,) for each in comparisons for attempt in each.missing))
        self._copy("log_confirmed", ((number,) for each in comparisons for number in each.confirmed))
        self._copy("log_backdated", (each for comparison in comparisons for each in comparison.backdated))
        self._copy("log_unrecoverable", ((attempt.number,) for each in comparisons for attempt in each.unrecoverable))

    def _copy(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        driver: psycopg.Connection[Any] = self._connection.connection.dbapi_connection  # type: ignore[assignment]
        with driver.cursor() as cursor, cursor.copy(f"COPY pg_temp.{table} FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)


def _each(kind: Callable[..., T], columns: Sequence[Sequence[Any] | None]) -> list[T]:
    """Return a *kind* for each row of these *columns*; none where they are null."""
    return [kind(*values) for values in zip(*(column or () for column in columns), strict=True)]

"""Where a run lays log and deliveries side by side: temporary tables of its session, so that memory stays flat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from receiver.events.catalogue import spellings
from receiver.reconcile.compare import Attempt, Stored, compare, compare_without_payload
from receiver.reconcile.erased import ERASED_ITEM, ErasedOf
from receiver.reconcile.identity import CHALLENGE, event_name, identify, likeness

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime, timedelta

    import psycopg
    from sqlalchemy import Connection

    from receiver.encryption import Encryption
    from receiver.opencard.delivery_log_item import LogEntry
    from receiver.reconcile.compare import Verdict

AT_ONCE: Final = 1000
"""How many fingerprints are compared at a time."""
BODIES_AT_ONCE: Final = 20

_TABLES: Final = (
    # as read; the same entry may be here twice
    """CREATE TEMPORARY TABLE IF NOT EXISTS log_read (
        number bigint, likeness bytea, opencard_event_id text, event text, response_status integer,
        attempted_at timestamptz, fingerprint bytea, payload bytea, item bytea
    )""",
    # each entry once; its time is told by our clock in the end, see ``clock``
    """CREATE TEMPORARY TABLE IF NOT EXISTS log_attempts (
        number bigint PRIMARY KEY, identity bytea, event text, taken boolean, attempted_at timestamptz,
        fingerprint bytea
    )""",
    "CREATE INDEX IF NOT EXISTS log_attempts_fingerprint ON pg_temp.log_attempts (fingerprint, number)",
    """CREATE TEMPORARY TABLE IF NOT EXISTS log_stored (
        id bigint PRIMARY KEY, event text, at timestamptz, from_log boolean, confirmed boolean, arrived timestamptz,
        fingerprint bytea, explained boolean DEFAULT false
    )""",
    "CREATE INDEX IF NOT EXISTS log_stored_fingerprint ON pg_temp.log_stored (fingerprint)",
    # what came of comparing
    "CREATE TEMPORARY TABLE IF NOT EXISTS log_missing (number bigint)",
    "CREATE TEMPORARY TABLE IF NOT EXISTS log_confirmed (id bigint)",
    "CREATE TEMPORARY TABLE IF NOT EXISTS log_unrecoverable (number bigint)",
    "CREATE TEMPORARY TABLE IF NOT EXISTS log_earlier (id bigint, at timestamptz)",
)
_NAMES: Final = ("read", "attempts", "stored", "missing", "confirmed", "unrecoverable", "earlier")
_CLEAR: Final = text(f"TRUNCATE {', '.join(f'pg_temp.log_{name}' for name in _NAMES)}")

# An id tells an entry; of those that are seen twice the later sight counts. Without ids, entries that are alike are as
# many as were seen, or one.
_TELL_APART: Final = text(
    """
INSERT INTO pg_temp.log_attempts
SELECT number, CASE WHEN place = 1 THEN likeness ELSE sha256(likeness || int8send(place)) END, event,
    coalesce(response_status BETWEEN 200 AND 299, false), attempted_at, fingerprint
FROM (
    SELECT *, row_number() OVER (PARTITION BY likeness ORDER BY number DESC) AS place FROM pg_temp.log_read
) AS told
WHERE place = 1 OR (opencard_event_id IS NULL AND NOT :alike_are_one)
"""
)
_OLDEST: Final = text("SELECT min(attempted_at), bool_or(attempted_at IS NULL) FROM pg_temp.log_attempts")
_FINGERPRINT: Final = "coalesce(outcome.fingerprint, event.fingerprint)"
_OCCURRED_AT: Final = "coalesce(confirmation.occurred_at, stored.occurred_at)"
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
"""
_BEFORE_THE_WINDOW: Final = f"""
stored.webhook_id = :webhook_id AND stored.received_at >= :after - CAST(:known_within AS interval)
    AND (stored.received_at < :after OR (stored.source = 'log' AND {_OCCURRED_AT} < :after))
"""
_KNOWN: Final = text(
    f"""
INSERT INTO pg_temp.log_stored {_STORED.format(body="")}
WHERE {_IN_THE_WINDOW} AND {_FINGERPRINT} IS NOT NULL
ON CONFLICT (id) DO NOTHING
"""
)
_NOT_KNOWN_YET: Final = text(
    f"""
{_STORED.format(body="body.body, ")} JOIN receiver.bodies AS body ON body.delivery_id = stored.id
WHERE {_IN_THE_WINDOW} AND {_FINGERPRINT} IS NULL
"""
)
# An attempt in vain to send again what is known since before the window is no event.
_IN_VAIN: Final = """
SELECT fingerprint, min(attempted_at) AS begun FROM pg_temp.log_attempts AS attempt
WHERE fingerprint IS NOT NULL
    AND NOT EXISTS (SELECT FROM pg_temp.log_stored AS stored WHERE stored.fingerprint = attempt.fingerprint)
GROUP BY fingerprint HAVING NOT bool_or(taken)
"""
_ANY_IN_VAIN: Final = text(f"SELECT EXISTS ({_IN_VAIN})")
_KNOWN_BEFORE: Final = text(
    f"""
INSERT INTO pg_temp.log_stored
SELECT known.* FROM ({_STORED.format(body="")} WHERE {_BEFORE_THE_WINDOW})
    AS known (id, event, at, from_log, confirmed, arrived, fingerprint)
JOIN ({_IN_VAIN}) AS attempt ON attempt.fingerprint = known.fingerprint
WHERE known.at BETWEEN attempt.begun - CAST(:known_within AS interval)
    AND attempt.begun + CAST(:known_within AS interval)
ON CONFLICT (id) DO NOTHING
"""  # noqa: S608 - likewise
)
_ATTEMPTS: Final = text(
    """
SELECT fingerprint, min(event) AS event, array_agg(number) AS numbers, array_agg(attempted_at) AS times,
    array_agg(taken) AS taken
FROM pg_temp.log_attempts WHERE fingerprint > :last AND event <> :challenge
GROUP BY fingerprint ORDER BY fingerprint LIMIT :limit
"""
)
_OF_FINGERPRINTS: Final = text(
    "SELECT fingerprint, id, at, from_log, confirmed, arrived FROM pg_temp.log_stored "
    "WHERE fingerprint = ANY(:fingerprints) ORDER BY at, id"
)
# Of the stored, as many as there are attempts are explained by them, the oldest ones.
_EXPLAINED: Final = text(
    """
UPDATE pg_temp.log_stored AS stored SET explained = true
FROM (
    SELECT id, row_number() OVER (PARTITION BY fingerprint ORDER BY from_log DESC, at, id) AS place, fingerprint
    FROM pg_temp.log_stored
) AS placed
JOIN (
    SELECT fingerprint, count(*) AS number FROM pg_temp.log_attempts
    WHERE fingerprint IS NOT NULL GROUP BY fingerprint
) AS attempts ON attempts.fingerprint = placed.fingerprint AND placed.place <= attempts.number
WHERE placed.id = stored.id
"""
)
# Those that are open since before are looked at again, for a later attempt may close them. Their numbers are negative.
_WITHOUT_PAYLOAD: Final = text(
    """
SELECT number, event, attempted_at, taken FROM pg_temp.log_attempts
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
    "log_read (number, likeness, opencard_event_id, event, response_status, attempted_at, fingerprint, payload, item)"
)
_STORED_COLUMNS: Final = "log_stored (id, event, at, from_log, confirmed, arrived, fingerprint)"


class Workspace:
    """The temporary tables of one session."""

    def __init__(self, connection: Connection, organization: str, encryption: Encryption) -> None:
        self._connection = connection
        self._encryption = encryption
        self._organization = organization
        self._erased: ErasedOf | None = None
        self._number = 0

    def prepare(self) -> None:
        """Make the tables if they are not there, and empty them."""
        for table in _TABLES:
            self._connection.execute(text(table))
        self.clear()

        self._erased = ErasedOf.read(self._connection, self._organization, self._encryption)

    def clear(self) -> None:
        """Empty the tables."""
        self._connection.execute(_CLEAR)

    def add(self, entries: Iterable[LogEntry]) -> None:
        """Lay entries of the log down."""
        self._copy(_READ_COLUMNS, (self._row(entry) for entry in entries))

    def _row(self, entry: LogEntry) -> tuple[Any, ...]:
        self._number += 1
        known, erased = None, False
        if entry.payload is not None and entry.event:
            known, erased = self._identify(entry.event, entry.payload, entry.attempted_at)
        return (
            self._number,
            likeness(entry, known),
            entry.id,
            entry.event,
            entry.response_status,
            entry.attempted_at,
            known,
            entry.payload,
            ERASED_ITEM if erased else entry.item,
        )

    def _identify(self, event: str, body: bytes, at: datetime | None) -> tuple[bytes, bool]:
        """Return the fingerprint by which an event is compared, and whether it is about an erased card holder."""
        known = identify(event, body, self._organization)
        if self._erased is not None and self._erased.names(body, at):
            return self._erased.fingerprint(known), True
        return known, False

    def tell_apart(self, *, alike_are_one: bool) -> None:
        """Let each entry stand once."""
        self._connection.execute(_TELL_APART, {"alike_are_one": alike_are_one})
        for table in ("read", "attempts"):
            self._connection.execute(text(f"ANALYZE pg_temp.log_{table}"))

    def count_attempts(self) -> int:
        """Return how many attempts were read."""
        return self._connection.scalar(text("SELECT count(*) FROM pg_temp.log_attempts")) or 0

    def lay_beside(self, webhook_id: int, *, since: datetime | None, slack: timedelta, known_within: timedelta) -> None:
        """Lay the stored deliveries of a webhook beside the entries: those that may be among the attempts read.

        *since* is how far back the log was read for sure. Attempts without a time may be of any age.
        """
        oldest, timeless = self._connection.execute(_OLDEST).one()
        after = None
        if since is not None and not timeless:
            after = min(since, oldest or since) - slack
        asked = {"webhook_id": webhook_id, "after": after}
        # These first: what is processed meanwhile is then seen twice, and counts once.
        in_parts = {"yield_per": BODIES_AT_ONCE}
        with self._connection.execute(_NOT_KNOWN_YET, asked, execution_options=in_parts) as waiting:
            for rows in waiting.partitions():
                self._copy(
                    _STORED_COLUMNS,
                    ((*row[:2], *row[3:7], self._identify(row.event, row.body, row.occurred_at)[0]) for row in rows),
                )
        self._connection.execute(_KNOWN, asked)
        if self._erased is not None:
            self._erased.lay_over(self._connection)
        if after is not None and self._connection.scalar(_ANY_IN_VAIN):
            self._connection.execute(_KNOWN_BEFORE, {**asked, "known_within": known_within})
        self._connection.execute(text("ANALYZE pg_temp.log_stored"))

    def compare(self) -> int:
        """Compare all that has a payload, fingerprint by fingerprint; return the number of occurrences that match."""
        matched = 0
        last = b""
        while True:
            rows = self._connection.execute(_ATTEMPTS, {"last": last, "limit": AT_ONCE, "challenge": CHALLENGE}).all()
            if not rows:
                return matched
            last = bytes(rows[-1].fingerprint)
            stored: dict[bytes, list[Stored]] = {bytes(row.fingerprint): [] for row in rows}
            found = self._connection.execute(_OF_FINGERPRINTS, {"fingerprints": list(stored)})
            for fingerprint, *fields in found:
                stored[bytes(fingerprint)].append(Stored(*fields))
            verdicts = [
                compare(
                    row.event,
                    [Attempt(*fields) for fields in zip(row.numbers, row.times, row.taken, strict=True)],
                    stored[bytes(row.fingerprint)],
                )
                for row in rows
            ]
            matched += sum(verdict.matched for verdict in verdicts)
            self._note(verdicts)

    def compare_without_payload(
        self, webhook_id: int, *, open_since: datetime, clock_ahead: timedelta
    ) -> tuple[int, int]:
        """Compare what the log tells no payload of; return how many match, and how many cannot be recovered."""
        by_event: dict[str, list[Attempt]] = {}
        asked = {
            "webhook_id": webhook_id,
            "open_since": open_since,
            "clock_ahead": clock_ahead,
            "challenge": CHALLENGE,
        }
        for number, event, at, taken in self._connection.execute(_WITHOUT_PAYLOAD, asked):
            by_event.setdefault(event_name(event), []).append(Attempt(number, at, taken))
        if not by_event:
            return 0, 0
        self._connection.execute(_EXPLAINED)
        verdicts = [compare_without_payload(attempts, self._unexplained(event)) for event, attempts in by_event.items()]
        self._note(verdicts)
        return sum(each.matched for each in verdicts), sum(len(each.unrecoverable) for each in verdicts)

    def _unexplained(self, event: str) -> Iterator[Stored]:
        for row in self._connection.execute(_UNEXPLAINED, {"events": spellings(event)}):
            yield Stored(*row)

    def _note(self, verdicts: Sequence[Verdict]) -> None:
        self._copy("log_missing", ((attempt.number,) for each in verdicts for attempt in each.missing))
        self._copy("log_confirmed", ((number,) for each in verdicts for number in each.confirmed))
        self._copy("log_earlier", (each for verdict in verdicts for each in verdict.earlier))
        self._copy("log_unrecoverable", ((attempt.number,) for each in verdicts for attempt in each.unrecoverable))

    def _copy(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        driver: psycopg.Connection[Any] = self._connection.connection.dbapi_connection  # type: ignore[assignment]
        with driver.cursor() as cursor, cursor.copy(f"COPY pg_temp.{table} FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)

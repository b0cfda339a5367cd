"""Claims on deliveries: leases, so that no two workers process the same one, and a dead worker blocks none for long.

A lease is committed before the work begins, and counts the attempt. The transaction that writes the outcome ends it; if
the lease expired before, that transaction is rolled back. Deliveries whose lease expired without an outcome become due
again: those of a batch are then processed alone, and one that was processed alone has failed.

A ``Backlog`` claims the oldest deliveries first. A second processing thread claims new deliveries first, so that a new
purchase does not wait behind a hundred thousand older ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog

from receiver.deliveries.models import ABANDONED, HELD_UP
from receiver.events.event import ClaimedDelivery
from receiver.json_rows import ids_parameter
from receiver.processing.failures import AttemptFailure, AttemptOutcome, write_failures
from receiver.sql import read_sql

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    import psycopg

log = structlog.stdlib.get_logger(__name__)

LEASE: Final = timedelta(seconds=20)
"""How long a worker has for a batch: many times what one takes."""
MAX_WORKER_CRASHES: Final = 3
"""How often a delivery may crash a worker that processes it alone before it is ``dead``."""
MAX_BYTES: Final = 4 * 1024**2
"""Maximum size of the bodies of a batch, in bytes. A parsed body takes some twenty times its size in memory."""
NEW: Final = timedelta(seconds=30)
"""How long after its arrival a delivery counts as new: longer than a processing thread needs for a batch."""

_OLDER: Final = (
    "NOT alone AND (due_at, delivery_id) > (CAST(%(due_at)s AS timestamptz), %(id)s) "
    "AND due_at <= now() - CAST(%(new)s AS interval)"
)
_CLAIM_OLDER: Final = read_sql(__package__, "claim", which=_OLDER, order="ASC")
_CLAIM_NEW: Final = read_sql(
    __package__, "claim", which="NOT alone AND due_at > now() - CAST(%(new)s AS interval)", order="DESC"
)
_CLAIM_ALONE: Final = read_sql(__package__, "claim", which="alone", order="ASC")
_END: Final = """
WITH ended AS (
    DELETE FROM receiver.queue
    WHERE delivery_id = ANY(CAST(%(ids)s AS bigint[])) AND leased_until = %(until)s
    RETURNING delivery_id
)
SELECT receiver.expect(count(*) = %(number)s, 'the lease ended') FROM ended
"""
_HOLD: Final = """
SELECT receiver.expect(count(*) = %(number)s, 'the lease ended') FROM (
    SELECT FROM receiver.queue
    WHERE delivery_id = ANY(CAST(%(ids)s AS bigint[])) AND leased_until = %(until)s
    FOR UPDATE
) AS held
"""
_RELEASE: Final = """
UPDATE receiver.queue SET leased_until = NULL, alone = alone OR %(alone)s, attempts = attempts - 1,
    due_at = least(due_at, now()), failed_at = CASE WHEN alone OR %(alone)s THEN now() END
WHERE delivery_id = ANY(CAST(%(ids)s AS bigint[])) AND leased_until = %(until)s
"""
_MARK_NOT_CRASHED: Final = """
UPDATE receiver.processing_attempts AS attempt SET error = %(held_up)s
FROM unnest(CAST(%(ids)s AS bigint[]), CAST(%(numbers)s AS integer[])) AS tried (delivery_id, number)
WHERE attempt.delivery_id = tried.delivery_id AND attempt.number = tried.number AND attempt.error = %(abandoned)s
"""
_END_LEASES: Final = read_sql(__package__, "end_leases")
_CRASHED: Final = """
SELECT delivery.id, delivery.event, coalesce(outcome.attempts_before_replay, 0), ARRAY(
    SELECT attempt.number FROM receiver.processing_attempts AS attempt
    WHERE attempt.delivery_id = delivery.id AND attempt.error = %(abandoned)s
) FROM receiver.stored_deliveries AS delivery
LEFT JOIN receiver.outcomes AS outcome ON outcome.delivery_id = delivery.id
WHERE delivery.id = ANY(%(ids)s)
"""
# A delivery that never failed is due when it arrived, a failed one a pause after ``failed_at``. If arrival or failure
# is in the future, the clock was set back since. The five seconds are for those that arrive while this runs.
_MAKE_DUE: Final = """
UPDATE receiver.queue
SET due_at = now() + coalesce(due_at - failed_at, interval '0'), failed_at = least(failed_at, now())
WHERE delivery_id IN (
    SELECT delivery_id FROM receiver.queue
    WHERE NOT alone AND due_at > now() + interval '5 seconds' OR failed_at > now() + interval '5 seconds'
    FOR UPDATE SKIP LOCKED
)
"""
_COLUMNS: Final = len(ClaimedDelivery.__struct_fields__)
_BEGINNING: Final[tuple[datetime | str, int]] = ("-infinity", 0)


@dataclass(frozen=True)
class Claim:
    """Deliveries that this worker has until the lease ends."""

    deliveries: list[ClaimedDelivery]
    until: datetime
    """The end of the lease, which identifies it."""
    full: bool = False
    """Whether there may be more of the same."""

    @property
    def lease(self) -> dict[str, Any]:
        """The parameters by which statements find it."""
        ids = ids_parameter(delivery.id for delivery in self.deliveries)
        return {"ids": ids, "until": self.until, "number": len(self.deliveries)}

    @property
    def begun(self) -> datetime:
        """When it was made, by PostgreSQL's clock, which dates arrivals, too."""
        return self.until - LEASE

    def arrival_times_at_first_attempt(self, applied: Collection[int]) -> Iterator[datetime]:
        """Yield the arrival of each pushed delivery of *applied* that its first processing attempt applied."""
        for each in self.deliveries:
            tried = each.attempts > 1 or each.attempts_before_replay or each.position is not None
            if each.id in applied and each.source == "push" and not tried:
                yield each.occurred_at

    def end(self) -> tuple[str, dict[str, Any]]:
        """Return the statement that ends the lease. It fails if the lease has expired."""
        return _END, self.lease

    def hold(self) -> tuple[str, dict[str, Any]]:
        """Return the statement that prevents another worker from claiming them while a failure is stored."""
        return _HOLD, self.lease

    def release(self, *, alone: bool) -> tuple[str, dict[str, Any]]:
        """Return the statement that gives the deliveries back as they were before; *alone*: to be tried alone."""
        return _RELEASE, {**self.lease, "alone": alone}

    def mark_not_crashed(self) -> tuple[str, dict[str, Any]]:
        """Return the statement that stores, after the lease expired, that these deliveries did not crash the worker."""
        numbers = ids_parameter(delivery.attempts for delivery in self.deliveries)
        return _MARK_NOT_CRASHED, {**self.lease, "numbers": numbers, "held_up": HELD_UP, "abandoned": ABANDONED}


class Backlog:
    """The waiting deliveries, as one thread claims them: the oldest first; with *new_first* the newest before them.

    It remembers its place, so that a claim does not read the entries of claimed deliveries again: PostgreSQL keeps dead
    index entries as long as an old snapshot may need them. At the end it starts again from the oldest.
    """

    def __init__(self, *, new_first: bool = False) -> None:
        self._new = NEW if new_first else timedelta()
        self._reached = _BEGINNING

    def claim(self, connection: psycopg.Connection[Any], limit: int) -> Claim | None:
        """Lease up to *limit* deliveries whose time has come; ``None`` when there are none."""
        if self._new:
            claim, _ = _claimed(connection, _CLAIM_NEW, limit, new=self._new)
            if claim is not None:
                return claim
        claim, reached = self._claim_after(connection, limit)
        if claim is None and self._reached is not _BEGINNING:
            self._reached = _BEGINNING
            claim, reached = self._claim_after(connection, limit)
        self._reached = reached if claim is not None and claim.full else _BEGINNING
        return claim

    def _claim_after(
        self, connection: psycopg.Connection[Any], limit: int
    ) -> tuple[Claim | None, tuple[datetime | str, int]]:
        due_at, delivery_id = self._reached
        return _claimed(connection, _CLAIM_OLDER, limit, new=self._new, due_at=due_at, id=delivery_id)


def claim_alone(connection: psycopg.Connection[Any]) -> Claim | None:
    """Lease one delivery that is to be processed alone and whose time has come; ``None`` when there is none."""
    return _claimed(connection, _CLAIM_ALONE, 1)[0]


def _claimed(
    connection: psycopg.Connection[Any], statement: str, limit: int, **parameters: object
) -> tuple[Claim | None, tuple[datetime | str, int]]:
    """Return what *statement* leases, and how far it has come."""
    parameters = {"limit": limit, "lease": LEASE, "bytes": MAX_BYTES, **parameters}
    rows = connection.execute(statement, parameters, binary=True).fetchall()
    if not rows:
        return None, _BEGINNING
    *_, until, due_at, found = rows[-1]
    deliveries = [ClaimedDelivery(*row[:_COLUMNS]) for row in rows]
    claim = Claim(deliveries, until, full=found == limit or len(rows) < found)
    return claim, (due_at, rows[-1][0])


def end_leases(connection: psycopg.Connection[Any]) -> list[AttemptOutcome]:
    """End the leases of workers that died or hang; return the outcomes of the deliveries that crashed them."""
    with connection.transaction():
        ended = connection.execute(_END_LEASES, {"lease": LEASE}, prepare=False).fetchall()
        crashed = {delivery_id: attempts for delivery_id, attempts, crashed in ended if crashed}
        if len(ended) > len(crashed):
            log.warning("leases.ended", deliveries=len(ended) - len(crashed))
        return _note_crashes(connection, crashed)


def _note_crashes(connection: psycopg.Connection[Any], attempts: Mapping[int, int]) -> list[AttemptOutcome]:
    """Note that deliveries crashed the worker that had each alone; *attempts*: how often each was tried."""
    if not attempts:
        return []
    failures = []
    for delivery_id, event, before, numbers in connection.execute(
        _CRASHED, {"ids": list(attempts), "abandoned": ABANDONED}
    ).fetchall():
        crashes = 1 + sum(number > before for number in numbers)
        retryable = crashes < MAX_WORKER_CRASHES
        status = "failed" if retryable else "dead"
        log.error("delivery.crashed_worker", delivery_id=delivery_id, status=status, times=crashes)
        failures.append(
            AttemptFailure(
                delivery_id,
                event,
                attempts[delivery_id],
                ABANDONED,
                retryable=retryable,
                before_replay=before,
            )
        )
    return write_failures(connection, failures)


def make_due(connection: psycopg.Connection[Any]) -> None:
    """After the clock was set back: make earlier arrivals due now, and begin now the pauses that began before."""
    connection.execute(_MAKE_DUE, prepare=False)

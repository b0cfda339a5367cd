"""Claims on deliveries that a replay selected, made when no newer delivery waits.

A delivery keeps its status until it is processed again: only its row in ``replay_deliveries`` waits. So cancelling a
replay means dropping the waiting rows, and nothing has to be repaired after a worker dies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from receiver.json_rows import rows_parameter
from receiver.processing.claim import LEASE, MAX_BYTES, Claim, claimed, note_crashes
from receiver.sql import read_sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from receiver.processing.failures import AttemptOutcome

log = structlog.stdlib.get_logger(__name__)

CANCELLED: Final = "cancelled"
WITHOUT_BODY: Final = "without-body"
CUT_OFF_AFTER: Final = "10 minutes"
"""How long after its last progress a selection counts as cut off."""
CUT_OFF: Final = "the service: the selection was interrupted"
AT_ONCE: Final = 5000

# at random, so that a small replay does not wait for a large one
_TURNS: Final = (
    "SELECT id FROM receiver.replays WHERE ended_at IS NULL AND selected_at IS NOT NULL AND cancelled_at IS NULL "
    "ORDER BY random()"
)
_CLAIM: Final = read_sql(__package__, "claim_replayed")
_MINE: Final = "replay_id = %(replay_id)s AND delivery_id = ANY(CAST(%(ids)s AS bigint[])) AND leased_until = %(until)s"
_END: Final = f"""
WITH ended AS (
    UPDATE receiver.replay_deliveries AS member
    SET outcome = given.status, completed_at = clock_timestamp(), leased_until = NULL
    FROM json_to_recordset(CAST(%(outcomes)s AS json)) AS given (id bigint, status text)
    WHERE {_MINE} AND member.delivery_id = given.id RETURNING member.delivery_id, member.outcome
), processed AS (
    DELETE FROM receiver.queue
    WHERE delivery_id = ANY (ARRAY(SELECT delivery_id FROM ended WHERE outcome <> 'failed')) AND leased_until IS NULL
)
SELECT receiver.expect(count(*) = %(number)s, 'the lease ended') FROM ended
"""  # noqa: S608 - a constant
_HOLD: Final = f"""
SELECT receiver.expect(count(*) = %(number)s, 'the lease ended') FROM (
    SELECT FROM receiver.replay_deliveries WHERE {_MINE} FOR UPDATE
) AS held
"""  # noqa: S608 - a constant
_RELEASE: Final = f"""
UPDATE receiver.replay_deliveries SET leased_until = NULL, alone = alone OR %(alone)s, attempts = attempts - 1
WHERE {_MINE}
"""  # noqa: S608 - a constant
_END_LEASES: Final = """
WITH ended AS MATERIALIZED (
    SELECT replay_id, delivery_id, alone, leased_until,
        leased_until < now() AND leased_until - CAST(%(lease)s AS interval) > pg_postmaster_start_time() AS to_blame
    FROM receiver.replay_deliveries
    WHERE outcome IS NULL AND (leased_until < now() OR leased_until > now() + 2 * CAST(%(lease)s AS interval))
    FOR UPDATE SKIP LOCKED
), noted AS (
    INSERT INTO receiver.worker_deaths (at, deliveries)
    SELECT leased_until, count(*) FROM ended WHERE to_blame GROUP BY leased_until
    ON CONFLICT DO NOTHING
), released AS (
    UPDATE receiver.replay_deliveries AS member SET leased_until = NULL, alone = member.alone OR ended.to_blame
    FROM ended WHERE member.replay_id = ended.replay_id AND member.delivery_id = ended.delivery_id
)
SELECT ended.replay_id, ended.delivery_id, ended.alone AND ended.to_blame AS crashed,
    1 + coalesce(queued.attempts, outcome.attempts, 0) AS attempts
FROM ended
LEFT JOIN receiver.queue AS queued ON queued.delivery_id = ended.delivery_id
LEFT JOIN receiver.outcomes AS outcome ON outcome.delivery_id = ended.delivery_id
"""
_CRASHED: Final = """
UPDATE receiver.replay_deliveries AS member SET outcome = delivery.status, completed_at = clock_timestamp()
FROM receiver.outcomes AS delivery
WHERE member.delivery_id = ANY(%(ids)s) AND member.outcome IS NULL AND member.leased_until IS NULL
    AND delivery.delivery_id = member.delivery_id
"""
_CUT_OFF: Final = f"""
UPDATE receiver.replays SET cancelled_at = clock_timestamp(), cancelled_by = %(cut_off)s
WHERE ended_at IS NULL AND selected_at IS NULL AND cancelled_at IS NULL
    AND selecting_at < clock_timestamp() - interval '{CUT_OFF_AFTER}'
"""  # noqa: S608 - a constant
_OPEN: Final = (
    "SELECT id, cancelled_at IS NOT NULL AS cancelled FROM receiver.replays "
    "WHERE ended_at IS NULL AND (selected_at IS NOT NULL OR cancelled_at IS NOT NULL) ORDER BY id"
)
_CLOSE: Final = """
WITH closed AS MATERIALIZED (
    SELECT member.replay_id, member.delivery_id FROM receiver.replay_deliveries AS member
    WHERE member.replay_id = %(replay_id)s AND member.outcome IS NULL AND ({which})
    LIMIT %(at_once)s FOR UPDATE OF member SKIP LOCKED
)
UPDATE receiver.replay_deliveries AS member
SET outcome = %(outcome)s, completed_at = clock_timestamp(), leased_until = NULL
FROM closed WHERE member.replay_id = closed.replay_id AND member.delivery_id = closed.delivery_id
"""
_CLOSE_CANCELLED: Final = _CLOSE.format(which="member.leased_until IS NULL OR member.leased_until < now()")
_CLOSE_WITHOUT_BODY: Final = _CLOSE.format(
    which="NOT EXISTS (SELECT FROM receiver.bodies AS body WHERE body.delivery_id = member.delivery_id)"
)
_END_REPLAY: Final = """
UPDATE receiver.replays AS replay
SET ended_at = clock_timestamp(), processed = counted.processed, failed = counted.failed
FROM (
    SELECT count(*) FILTER (WHERE outcome IN ('processed', 'duplicate')) AS processed,
        count(*) FILTER (WHERE outcome IN ('failed', 'dead', 'quarantined', 'ignored')) AS failed
    FROM receiver.replay_deliveries WHERE replay_id = %(replay_id)s
) AS counted
WHERE replay.id = %(replay_id)s AND replay.ended_at IS NULL AND NOT EXISTS (
    SELECT FROM receiver.replay_deliveries WHERE replay_id = %(replay_id)s AND outcome IS NULL
)
RETURNING replay.selected, replay.processed, replay.failed
"""


@dataclass(frozen=True)
class ReplayClaim(Claim):
    """Deliveries of a replay that this worker has until the lease ends."""

    replay_id: int = 0

    @property
    def lease(self) -> dict[str, Any]:
        """The parameters by which statements find it."""
        return {**super().lease, "replay_id": self.replay_id}

    def end(self, outcomes: Sequence[AttemptOutcome]) -> list[tuple[str, dict[str, Any]]]:
        """Return the statements that end it with *outcomes*, if it is still this worker's."""
        rows = [{"id": outcome.delivery_id, "status": outcome.status} for outcome in outcomes]
        return [(_END, {**self.lease, "outcomes": rows_parameter(rows)})]

    def hold(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the statements that keep anybody else from taking it over while a failure is noted."""
        return [(_HOLD, self.lease)]

    def end_failed(self, outcomes: Sequence[AttemptOutcome]) -> list[tuple[str, dict[str, Any]]]:
        """Return the statements that end it where a failure was noted."""
        return self.end(outcomes)

    def release(self, *, alone: bool) -> tuple[str, dict[str, Any]]:
        """Return the statement that gives the deliveries back as they were before; *alone*: to be tried alone."""
        return _RELEASE, {**self.lease, "alone": alone}


def claim_replayed(connection: psycopg.Connection[Any], limit: int, *, alone: bool = False) -> ReplayClaim | None:
    """Lease up to *limit* deliveries of one replay, oldest first; *alone*: of those to be processed alone."""
    for (replay_id,) in connection.execute(_TURNS).fetchall():
        asked = {"replay_id": replay_id, "limit": limit, "alone": alone, "lease": LEASE, "bytes": MAX_BYTES}
        rows = connection.execute(_CLAIM, asked, binary=True).fetchall()
        if rows:
            *_, until, _, found = rows[-1]
            deliveries = claimed(rows)
            return ReplayClaim(deliveries, until, full=found == limit or len(rows) < found, replay_id=replay_id)
    return None


def end_replay_leases(connection: psycopg.Connection[Any]) -> list[AttemptOutcome]:
    """Take back what workers held that died or hang; return what became of deliveries by that.

    One that was tried alone and crashed its worker is tried again as every delivery that failed is.
    """
    with connection.transaction():
        ended = connection.execute(_END_LEASES, {"lease": LEASE}, prepare=False).fetchall()
        crashed = {delivery_id: attempts for _, delivery_id, to_blame, attempts in ended if to_blame}
        if len(ended) > len(crashed):
            log.warning("leases.ended", replayed=len(ended) - len(crashed))
        outcomes = note_crashes(connection, crashed, replayed=True)
        if crashed:
            connection.execute(_CRASHED, {"ids": list(crashed)})
        return outcomes


def end_replays(connection: psycopg.Connection[Any]) -> None:
    """End the replays of which nothing waits any more, and write their totals."""
    connection.execute(_CUT_OFF, {"cut_off": CUT_OFF})
    for replay_id, cancelled in connection.execute(_OPEN).fetchall():
        end_replay(connection, replay_id, cancelled=cancelled)


def end_replay(connection: psycopg.Connection[Any], replay_id: int, *, cancelled: bool) -> None:
    """End a replay if nothing of it waits any more; what waits of a *cancelled* one is not processed."""
    close, outcome = (_CLOSE_CANCELLED, CANCELLED) if cancelled else (_CLOSE_WITHOUT_BODY, WITHOUT_BODY)
    asked = {"replay_id": replay_id, "outcome": outcome, "at_once": AT_ONCE}
    closed = AT_ONCE
    while closed == AT_ONCE:
        closed = connection.execute(close, asked, prepare=False).rowcount
    ended = connection.execute(_END_REPLAY, {"replay_id": replay_id}).fetchone()
    if ended is not None:
        selected, processed, failed = ended
        log.info("replay.ended", replay_id=replay_id, selected=selected, processed=processed, failed=failed)

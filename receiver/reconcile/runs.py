"""The rows of ``receiver.reconcile_runs``: one for each run of each webhook, its ``checked_until`` written last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sqlalchemy import Connection

INTERRUPTED: Final = "it was interrupted: its process ended or hung; the next run repeats it"

_CHECKED_UNTIL: Final = text(
    "SELECT checked_until FROM receiver.reconcile_runs "
    "WHERE webhook_id = :webhook_id AND checked_until IS NOT NULL ORDER BY started_at DESC LIMIT 1"
)
_NOW: Final = text("SELECT clock_timestamp()")
_BEGIN: Final = text(
    "INSERT INTO receiver.reconcile_runs (webhook_id, started_at, since) "
    "VALUES (:webhook_id, :started_at, :since) RETURNING id"
)
# The holder of the lock knows that none of these still runs, or that it hung for so long that it lost the lock.
_MARK_INTERRUPTED: Final = text(
    "UPDATE receiver.reconcile_runs SET ended_at = clock_timestamp(), error = :error "
    "WHERE webhook_id = :webhook_id AND ended_at IS NULL AND started_at > now() - interval '30 days'"
)
_STILL_RUNS: Final = text("SELECT 1 FROM receiver.reconcile_runs WHERE id = :id AND ended_at IS NULL FOR UPDATE")
_RECORD_ERROR: Final = text(
    "UPDATE receiver.reconcile_runs SET ended_at = clock_timestamp(), error = :error WHERE id = :id"
)
_END: Final = text(
    """
UPDATE receiver.reconcile_runs AS run
SET ended_at = clock_timestamp(), log_entries = :log_entries, matched = :matched, recovered = :recovered,
    unconfirmed = :unconfirmed, unrecoverable = :unrecoverable, checked_until = :checked_until,
    unconfirmed_before = :unconfirmed_before, clock_ahead = :clock_ahead,
    recovered_in_all = :recovered + coalesce((
        SELECT before.recovered_in_all FROM receiver.reconcile_runs AS before
        WHERE before.webhook_id = run.webhook_id AND before.ended_at IS NOT NULL AND before.error IS NULL
            AND before.id <> run.id
        ORDER BY before.started_at DESC LIMIT 1
    ), 0)
WHERE id = :id
"""
)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a run found; see ``ReconcileOutcome``."""

    log_entries: int
    matched: int
    recovered: int
    unconfirmed: int
    unrecoverable: int
    clock_ahead: timedelta | None
    """How far OpenCard's clock is ahead of PostgreSQL's; ``None`` if this run could not measure it."""


def now(connection: Connection) -> datetime:
    """Return the time by PostgreSQL's clock, which also dates the deliveries."""
    return connection.execute(_NOW).scalar_one()  # type: ignore[no-any-return]


def checked_until(connection: Connection, webhook_id: int) -> datetime | None:
    """Return up to when a webhook's log has been checked from its beginning; ``None`` if it has not."""
    return connection.execute(_CHECKED_UNTIL, {"webhook_id": webhook_id}).scalar_one_or_none()


def begin(connection: Connection, webhook_id: int, *, started_at: datetime, since: datetime | None) -> int:
    """Insert a run and return its id; mark earlier runs that never ended as interrupted."""
    connection.execute(_MARK_INTERRUPTED, {"webhook_id": webhook_id, "error": INTERRUPTED})
    values = {"webhook_id": webhook_id, "started_at": started_at, "since": since}
    return int(connection.execute(_BEGIN, values).scalar_one())


def still_runs(connection: Connection, run_id: int) -> bool:
    """Whether no later run has marked this one as interrupted; none can until this transaction ends."""
    return connection.scalar(_STILL_RUNS, {"id": run_id}) is not None


def fail(connection: Connection, run_id: int, error: str) -> None:
    """End a run with *error*."""
    connection.execute(_RECORD_ERROR, {"id": run_id, "error": error.replace("\0", "")})


def end(
    connection: Connection,
    run_id: int,
    counts: Counts,
    *,
    checked_until: datetime | None,
    unconfirmed_before: datetime,
) -> None:
    """Write a run's counts, and up to when nothing is missing."""
    connection.execute(
        _END,
        {
            "id": run_id,
            "log_entries": counts.log_entries,
            "matched": counts.matched,
            "recovered": counts.recovered,
            "unconfirmed": counts.unconfirmed,
            "unrecoverable": counts.unrecoverable,
            "checked_until": checked_until,
            "unconfirmed_before": unconfirmed_before,
            "clock_ahead": counts.clock_ahead,
        },
    )

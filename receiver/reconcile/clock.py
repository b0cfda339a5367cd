"""The offset of OpenCard's clock from PostgreSQL's, measured by events that both the log and a delivery have.

Card-holder events carry no time of their own; their order decides. A recovered one is ordered among those that arrived,
so its time in the log is converted to the clock that dates those, PostgreSQL's.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

CLOCK_TOLERANCE: Final = timedelta(seconds=2)
"""Smaller offsets are explained by network latency and by a log in whole seconds."""

# Only an unambiguous pair counts: one accepted attempt, one delivery. The fastest deliveries measure the clock best,
# because latency looks like a clock that is behind; the 90th percentile leaves out a few outliers.
_OFFSET: Final = text(
    """
SELECT percentile_disc(0.9) WITHIN GROUP (ORDER BY logged.at - arrived.at)
FROM (
    SELECT fingerprint, min(attempted_at) AS at FROM pg_temp.log_attempts
    WHERE fingerprint IS NOT NULL GROUP BY fingerprint HAVING count(*) = 1 AND bool_and(accepted)
) AS logged
JOIN (
    SELECT fingerprint, min(at) AS at FROM pg_temp.log_stored
    GROUP BY fingerprint HAVING count(*) = 1 AND NOT bool_or(from_log)
) AS arrived ON arrived.fingerprint = logged.fingerprint
"""
)
# OpenCard has one clock: a measurement by any webhook counts.
_LAST_OFFSET: Final = text(
    "SELECT clock_ahead FROM receiver.reconcile_runs "
    "WHERE clock_ahead IS NOT NULL AND started_at > now() - interval '1 day' ORDER BY started_at DESC LIMIT 1"
)
_CORRECT_TIMES: Final = text(
    "UPDATE pg_temp.log_attempts SET attempted_at = attempted_at - CAST(:ahead AS interval) "
    "WHERE attempted_at IS NOT NULL"
)


def measure_clock_offset(connection: Connection) -> timedelta | None:
    """Return how far OpenCard's clock is ahead, by this run's entries; ``None`` if no entry has a counterpart."""
    offset: timedelta | None = connection.scalar(_OFFSET)
    return offset


def last_clock_offset(connection: Connection) -> timedelta:
    """Return the offset that was last measured within a day; zero if there is none."""
    return connection.scalar(_LAST_OFFSET) or timedelta()


def correct_attempt_times(connection: Connection, offset: timedelta) -> None:
    """Convert the times of the attempts to PostgreSQL's clock, if the offset exceeds the tolerance."""
    if abs(offset) >= CLOCK_TOLERANCE:
        connection.execute(_CORRECT_TIMES, {"ahead": offset})

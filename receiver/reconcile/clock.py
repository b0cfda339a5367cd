"""OpenCard's clock beside ours: how far it is ahead, from what both sides saw; what is recovered is dated by ours.

Card-holder events carry no time and are valued in order. One that is recovered stands among those that arrived, so
its time in the log has to be told in the time in which those are dated, PostgreSQL's.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

NOTICEABLE: Final = timedelta(seconds=2)
"""Less than this is the way of a request and a log that tells whole seconds, and no clock that is wrong."""

# Only what can be nothing else is a pair: one attempt, taken, and one delivery. What arrived the fastest shows the
# clock best, for a long way looks like a clock that is behind; a few may be odd, so it is not the very fastest.
_AHEAD: Final = text(
    """
SELECT percentile_disc(0.9) WITHIN GROUP (ORDER BY told.at - arrived.at)
FROM (
    SELECT fingerprint, min(attempted_at) AS at FROM pg_temp.log_attempts
    WHERE fingerprint IS NOT NULL GROUP BY fingerprint HAVING count(*) = 1 AND bool_and(taken)
) AS told
JOIN (
    SELECT fingerprint, min(at) AS at FROM pg_temp.log_stored
    GROUP BY fingerprint HAVING count(*) = 1 AND NOT bool_or(from_log)
) AS arrived ON arrived.fingerprint = told.fingerprint
"""
)
# It is one clock, whichever webhook showed it.
_LAST_SEEN: Final = text(
    "SELECT clock_ahead FROM receiver.reconcile_runs "
    "WHERE clock_ahead IS NOT NULL AND started_at > now() - interval '1 day' ORDER BY started_at DESC LIMIT 1"
)
_IN_OUR_TIME: Final = text(
    "UPDATE pg_temp.log_attempts SET attempted_at = attempted_at - CAST(:ahead AS interval) "
    "WHERE attempted_at IS NOT NULL"
)


def see_clock(connection: Connection) -> timedelta | None:
    """Return how far OpenCard's clock is ahead, by what this run has laid side by side; ``None`` if nothing tells."""
    ahead: timedelta | None = connection.scalar(_AHEAD)
    return ahead


def last_seen_clock(connection: Connection) -> timedelta:
    """Return what the last run of the last day saw that saw anything; nothing if none did."""
    return connection.scalar(_LAST_SEEN) or timedelta()


def tell_in_our_time(connection: Connection, ahead: timedelta) -> None:
    """Let the attempts be dated by our clock from now on, if the difference is noticeable."""
    if abs(ahead) >= NOTICEABLE:
        connection.execute(_IN_OUR_TIME, {"ahead": ahead})

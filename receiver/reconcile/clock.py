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

# OpenCard has one clock: a measurement by any webhook counts.
_LAST_OFFSET: Final = text(
    "SELECT clock_ahead FROM receiver.reconcile_runs "
    "WHERE clock_ahead IS NOT NULL AND started_at > now() - interval '1 day' ORDER BY started_at DESC LIMIT 1"
)


def last_clock_offset(connection: Connection) -> timedelta:
    """Return the offset that was last measured within a day; zero if there is none."""
    return connection.scalar(_LAST_OFFSET) or timedelta()


def correction(offset: timedelta) -> timedelta:
    """Return by how much the log's times are ahead of PostgreSQL's: *offset*, if it exceeds the tolerance."""
    return offset if abs(offset) >= CLOCK_TOLERANCE else timedelta()

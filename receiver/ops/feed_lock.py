"""Which process holds the feed's lock, and for how long: meanwhile no worker can finish a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from receiver.locks import Lock
from receiver.ops.findings import Finding, FindingKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from receiver.ops.retention.record import Query

HELD_SECONDS: Final = 15
"""A batch holds the lock for moments; a process that holds it for longer hangs."""

# a backend's state changes with each of its statements; of another role's backend it is hidden, its waiters' are not
_HOLDER: Final = f"""
WITH lock AS (
    SELECT * FROM pg_locks
    WHERE locktype = 'advisory' AND classid = 0 AND objid = {int(Lock.FEED)} AND objsubid = 1
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
), waiting AS (
    SELECT count(*) AS number, min(waitstart) AS since FROM lock WHERE NOT granted
)
SELECT holder.pid, activity.application_name AS application, host(activity.client_addr) AS address,
    coalesce(extract(epoch FROM clock_timestamp() - least(activity.state_change, waiting.since)), 0)::float8 AS seconds,
    waiting.number AS waiting
FROM lock AS holder JOIN pg_stat_activity AS activity ON activity.pid = holder.pid CROSS JOIN waiting
WHERE holder.granted
"""  # noqa: S608 - a number


@dataclass(frozen=True, slots=True)
class FeedLock:
    """The session that holds the feed's lock at this moment."""

    pid: int
    """Of PostgreSQL's process."""
    application: str
    address: str | None
    """Of the machine that is connected; ``None`` for PostgreSQL's own, or another role's session."""
    seconds: float
    """Since its last statement began or ended, or since the first of the others waits."""
    waiting: int
    """How many others wait."""


def read_feed_lock(query: Query) -> FeedLock | None:
    """Return who holds the lock; ``None`` when it is free."""
    return next((FeedLock(**each) for each in query(_HOLDER)), None)


def find_held_lock(lock: FeedLock | None) -> Iterable[Finding]:
    """Yield that a process hangs, if one does."""
    if lock is None or lock.seconds < HELD_SECONDS:
        return
    where = f" at {lock.address}" if lock.address else ""
    who = f"{lock.application or 'a session'}{where}"
    held = f"has held the feed's lock for {lock.seconds:.0f} s, and {lock.waiting} wait for it: nothing is processed"
    end = f"PostgreSQL ends it after a minute without a statement; SELECT pg_terminate_backend({lock.pid}) ends it now"
    yield Finding(FindingKind.FEED_LOCK, f"feed: {who} {held}. {end}")

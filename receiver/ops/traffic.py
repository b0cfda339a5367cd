"""The outcomes of the deliveries of the last hour, day or week, and which hours of each organization are complete.

Nothing here reads a whole table: minutes and hours were counted by ``rollup``, and lost events have an index.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.ops.activity import deliveries_by_hour
from receiver.ops.rollup import HOUR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Connection

SHOWN_AS_FAILED: Final = ("failed", "dead", "quarantined")
MEASURED: Final = 1000
"""The number of newest deliveries whose latency is measured."""
MARKS: Final = 20
"""How many replays a chart marks."""

# what had been counted at two minutes that follow each other; a gap between them is of the later one
_MINUTES: Final = text(
    """
SELECT date_trunc('minute', at) AS at, sum(greatest(0, processed)) AS processed, sum(greatest(0, failed)) AS failed
FROM (
    SELECT at, processed - lag(processed) OVER earlier AS processed, failed - lag(failed) OVER earlier AS failed
    FROM receiver.counter_minutes WHERE at >= :since - interval '2 minutes'
    WINDOW earlier AS (ORDER BY at)
) AS counted
WHERE at >= :since GROUP BY 1
"""
)
_REFUSED: Final = text(
    """
SELECT minute, CAST(sum(number) AS bigint) AS number FROM receiver.refused_deliveries
WHERE minute >= :since GROUP BY minute
"""
)
_RECOVERED: Final = text(
    """
SELECT date_trunc('minute', run.ended_at) AS minute, CAST(sum(run.recovered) AS bigint) AS number
FROM receiver.webhooks AS webhook CROSS JOIN LATERAL (
    SELECT ended_at, recovered FROM receiver.reconcile_runs
    WHERE webhook_id = webhook.id AND started_at >= :since - interval '1 hour' AND ended_at >= :since AND recovered > 0
) AS run GROUP BY 1
"""
)
_HOURS: Final = text(
    """
SELECT webhook.organization_reference_id, counted.hour,
    CAST(sum(deliveries) FILTER (WHERE source = 'log') AS bigint) AS recovered,
    CAST(sum(deliveries) FILTER (WHERE status IN ('failed', 'dead', 'quarantined')) AS bigint) AS failed
FROM receiver.delivery_hours AS counted JOIN receiver.webhooks AS webhook ON webhook.id = counted.webhook_id
WHERE counted.hour >= :since AND NOT webhook.test
    AND (counted.source = 'log' OR counted.status IN ('failed', 'dead', 'quarantined'))
GROUP BY 1, 2
"""
)
_LOST: Final = text(
    """
SELECT webhook.organization_reference_id, date_trunc('hour', entry.attempted_at, 'UTC') AS hour, count(*) AS number
FROM receiver.delivery_log AS entry JOIN receiver.webhooks AS webhook ON webhook.id = entry.webhook_id
WHERE entry.unrecoverable AND entry.attempted_at >= :since GROUP BY 1, 2
"""
)
_LATENCY: Final = text(
    """
SELECT percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY outcome.processed_at - newest.received_at)
FROM (
    SELECT id, received_at, source FROM receiver.stored_deliveries ORDER BY id DESC LIMIT :most
) AS newest
JOIN receiver.outcomes AS outcome ON outcome.delivery_id = newest.id
WHERE newest.source = 'push' AND outcome.status IN ('processed', 'duplicate')
    AND NOT EXISTS (SELECT FROM receiver.replay_deliveries AS replayed WHERE replayed.delivery_id = newest.id)
"""
)


_REPLAYS: Final = text(
    """
SELECT id, at FROM (SELECT id, created_at AS at FROM receiver.replays ORDER BY id DESC LIMIT :most) AS newest
WHERE at >= :since ORDER BY id
"""
)


_OUTAGES: Final = text(
    """
SELECT opened_at, resolved_at FROM receiver.issues
WHERE kind = 'storage-failing' AND coalesce(resolved_at, now()) >= :since ORDER BY opened_at
"""
)


@dataclass(frozen=True, slots=True)
class Range:
    """A length of time up to now, and the length of each of its parts."""

    name: str
    words: str
    length: timedelta
    step: timedelta


RANGES: Final = {
    each.name: each
    for each in (
        Range("1h", "1 hour", HOUR, timedelta(minutes=1)),
        Range("24h", "24 hours", 24 * HOUR, HOUR),
        Range("7d", "7 days", 168 * HOUR, 4 * HOUR),
    )
}


@dataclass(frozen=True, slots=True)
class Part:
    """How many deliveries of a part of a range, which begins *at* (UTC), became what."""

    at: datetime
    processed: int = 0
    """Pushed, and applied, known already, or nothing to apply."""
    recovered: int = 0
    """From OpenCard's log."""
    pending: int = 0
    failed: int = 0
    """Also those that are dead or quarantined."""
    refused: int = 0
    """Answered with an error, so not stored."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.processed + self.recovered + self.pending + self.failed + self.refused


@dataclass(frozen=True, slots=True)
class ReplayMark:
    """A replay, and when it was requested (UTC)."""

    id: int
    at: datetime


@dataclass(frozen=True, slots=True)
class DatabaseOutage:
    """When PostgreSQL did not store deliveries (UTC), as its issue says."""

    began: datetime
    ended: datetime | None
    """``None`` while it lasts."""


@dataclass(frozen=True, slots=True)
class CompletenessHour:
    """What is known of an organization's hour (UTC)."""

    hour: datetime
    checked: bool = False
    """Whether the log was compared up to its end, or up to now."""
    recovered: int = 0
    failed: int = 0
    lost: int = 0
    """Events that the log has without a payload."""


def read_traffic(connection: Connection, range_: Range, now: datetime) -> list[Part]:
    """Return the parts of a range that ends with the hour or minute of *now*, oldest first."""
    unit = min(HOUR, range_.step)
    number = range_.length // range_.step
    end = _begin(now, unit) + unit
    beginnings = [end - (number - place) * range_.step for place in range(number)]
    counts: dict[datetime, dict[str, int]] = {at: defaultdict(int) for at in beginnings}

    def add(at: datetime, kind: str, several: int) -> None:
        place = (at - beginnings[0]) // range_.step
        if 0 <= place < number:
            counts[beginnings[place]][kind] += several

    since = {"since": beginnings[0]}
    if range_.step < HOUR:
        for row in connection.execute(_MINUTES, since):
            add(row.at, "processed", int(row.processed or 0))
            add(row.at, "failed", int(row.failed or 0))
        for row in connection.execute(_RECOVERED, since):
            add(row.minute, "recovered", row.number)
    else:
        for each in deliveries_by_hour(connection, hours=range_.length // HOUR):
            add(each.hour, _kind(each.source, each.status), each.deliveries)
    for row in connection.execute(_REFUSED, since):
        add(row.minute, "refused", row.number)
    return [Part(at, **found) for at, found in counts.items()]


def _kind(source: str, status: str) -> str:
    if status in SHOWN_AS_FAILED:
        return "failed"
    if status == "pending":
        return "pending"
    return "recovered" if source == "log" else "processed"


def read_completeness(
    connection: Connection, checked_until: Mapping[str, datetime | None], now: datetime, *, hours: int
) -> dict[str, list[CompletenessHour]]:
    """Return the last *hours* hours of the organizations, by name, oldest first; *checked_until* names them."""
    last = _begin(now, HOUR)
    beginnings = [last - (hours - 1 - place) * HOUR for place in range(hours)]
    found: dict[tuple[str, datetime], CompletenessHour] = {
        (name, hour): CompletenessHour(hour, checked=until is not None and (hour == last or until >= hour + HOUR))
        for name, until in checked_until.items()
        for hour in beginnings
    }
    since = {"since": beginnings[0]}
    for row in connection.execute(_HOURS, since):
        key = (row.organization_reference_id, row.hour)
        if key in found:
            found[key] = replace(found[key], recovered=row.recovered or 0, failed=row.failed or 0)
    for row in connection.execute(_LOST, since):
        key = (row.organization_reference_id, row.hour)
        if key in found:
            found[key] = replace(found[key], lost=row.number)
    return {name: [found[name, hour] for hour in beginnings] for name in checked_until}


def read_latency(connection: Connection, *, most: int = MEASURED) -> tuple[timedelta, timedelta] | None:
    """Return how long half, and 95 in 100, of the newest pushed deliveries took at most until they were processed.

    Those that were replayed are left out: only the time of the last processing is stored.
    """
    found: list[timedelta] | None = connection.scalar(_LATENCY, {"most": most})
    return None if not found else (found[0], found[1])


def read_replays(connection: Connection, since: datetime, *, most: int = MARKS) -> list[ReplayMark]:
    """Return the replays that were requested *since* then, oldest first; of the newest *most*."""
    return [ReplayMark(row.id, row.at) for row in connection.execute(_REPLAYS, {"since": since, "most": most})]


def read_outages(connection: Connection, since: datetime) -> list[DatabaseOutage]:
    """Return the outages of PostgreSQL that lasted until *since* or later, oldest first: of each cause the last one."""
    return [DatabaseOutage(*row) for row in connection.execute(_OUTAGES, {"since": since})]


def totals(parts: Iterable[Part]) -> Part | None:
    """Return the sums over a range; ``None`` of no parts."""
    each = list(parts)
    if not each:
        return None
    kinds = ("processed", "recovered", "pending", "failed", "refused")
    return Part(each[0].at, **{kind: sum(getattr(part, kind) for part in each) for kind in kinds})


def _begin(moment: datetime, unit: timedelta) -> datetime:
    """Return the beginning of the hour or minute that a moment is in."""
    hour = moment.replace(minute=0, second=0, microsecond=0)
    return hour + (moment - hour) // unit * unit

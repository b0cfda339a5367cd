"""Activity: deliveries by hour, how fast they arrive and are processed, and failures by their cause.

Nothing here reads a whole table: ``rollup`` has counted the hours, rates are differences of counters, and an index
finds what failed.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.deliveries.models import TEST
from receiver.ops.deliveries import error_group, is_resolved
from receiver.ops.rollup import COUNT_DELIVERIES, HOUR, TOTALS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, RowMapping

MAX_FAILURES: Final = 5_000
"""How many failures are looked at, the newest ones."""
MAX_ORGANIZATIONS: Final = 5
"""How many organizations of a group of failures are named."""
LIVE_HOURS: Final = 2
"""How many hours a reader counts that no process has counted lately; older ones are left out."""
SHORT: Final = timedelta(minutes=5)

_THIS_HOUR: Final = text("SELECT date_trunc('hour', now(), 'UTC')")
# the last hour whose count holds: it is over, or was counted a moment ago
_LAST_COUNTED: Final = text(
    "SELECT max(hour) FROM receiver.counted_hours "
    "WHERE counted_at >= hour + interval '1 hour' OR counted_at > now() - interval '3 minutes'"
)
_HOURS: Final = text(
    """
SELECT hours.hour, hours.source, hours.status, CAST(sum(hours.deliveries) AS bigint) AS deliveries
FROM receiver.delivery_hours AS hours JOIN receiver.webhooks AS webhook ON webhook.id = hours.webhook_id
WHERE hours.hour >= :since AND hours.hour < :until
    AND (CAST(:organization AS text) IS NULL OR webhook.organization_reference_id = :organization)
GROUP BY 1, 2, 3
"""
)
_LIVE: Final = text(
    COUNT_DELIVERIES + "WHERE CAST(:organization AS text) IS NULL OR webhook.organization_reference_id = :organization"
)
# the minute noted last before a moment, unless it is far from it
_RATE: Final = text(
    f"""
SELECT extract(epoch FROM now() - before.at) / 60 AS minutes, totals.received - before.received AS received,
    totals.processed - before.processed AS processed, totals.failed - before.failed AS failed
FROM ({TOTALS}) AS totals, (
    SELECT * FROM receiver.counter_minutes
    WHERE at BETWEEN now() - 2 * CAST(:length AS interval) AND now() - CAST(:length AS interval)
    ORDER BY at DESC LIMIT 1
) AS before
"""  # noqa: S608 - a constant
)
# thousands of errors may differ in a number alone: those are one line, and one of them represents the group; OFFSET 0,
# so that each delivery is looked up by its id: a join might read millions
_FAILURES: Final = text(
    rf"""
SELECT found.status, stored.event, min(found.line) AS error, webhook.organization_reference_id, count(*) AS number,
    min(stored.received_at) AS oldest, max(stored.received_at) AS newest, max(stored.id) AS example_id
FROM (
    SELECT newest.delivery_id, newest.status, split_part(coalesce(newest.error, ''), chr(10), 1) AS line
    FROM unnest(ARRAY['failed', 'dead', 'quarantined', 'ignored']) AS wrong (status)
    CROSS JOIN LATERAL (
        SELECT delivery_id, status, error FROM receiver.outcomes AS outcome
        WHERE status = wrong.status AND status <> 'processed' AND error IS DISTINCT FROM '{TEST}'
            AND NOT {is_resolved("outcome.delivery_id")}
        ORDER BY delivery_id DESC LIMIT :most
    ) AS newest
    ORDER BY newest.delivery_id DESC LIMIT :most
) AS found
CROSS JOIN LATERAL (SELECT * FROM receiver.stored_deliveries WHERE id = found.delivery_id OFFSET 0) AS stored
LEFT JOIN receiver.webhooks AS webhook ON webhook.id = stored.webhook_id
GROUP BY found.status, stored.event, regexp_replace(found.line, '\y[0-9]+\y', '0', 'g'), 4
"""  # noqa: S608 - a constant
)


@dataclass(frozen=True, slots=True)
class Hour:
    """The deliveries that were received in the hour that begins at *hour* (UTC), of one source and status."""

    hour: datetime
    source: str
    status: str
    """What they were when they were counted: a minute or two ago, of hours that are long over some hours ago."""
    deliveries: int


@dataclass(frozen=True, slots=True)
class Rate:
    """How many deliveries a minute, over the last *minutes*."""

    minutes: float
    received: float
    processed: float
    """Applied, or known, or nothing to apply: what needs no other attempt."""
    failed: float
    """Attempts that went wrong."""


@dataclass(frozen=True, slots=True)
class Totals:
    """The counts since the service was installed; a restart does not reset them."""

    received: int
    """Deliveries that were stored and answered with 200."""
    processed: int
    """Attempts without a failure: the delivery is applied, a duplicate or ignored; a replay counts again."""
    failed: int
    """Attempts that went wrong."""


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Deliveries of one event and status whose errors have one cause."""

    status: str
    event: str
    error: str
    """With ``*`` for what differs between them."""
    number: int
    oldest: datetime
    newest: datetime
    """When they were received."""
    organizations: tuple[str, ...] = field(default=())
    """Some of those they are of, those with the most first."""
    number_of_organizations: int = 0
    example_id: int = 0
    """The newest of the deliveries."""


def deliveries_by_hour(connection: Connection, *, hours: int = 24, organization: str | None = None) -> list[Hour]:
    """Return the deliveries of the last *hours* hours, the one at hand included, oldest first; up to eight days.

    An hour without deliveries is not in the list; neither is one that has not been counted yet.
    """
    this_hour: datetime = connection.execute(_THIS_HOUR).scalar_one()
    since = this_hour - (hours - 1) * HOUR
    counted = connection.scalar(_LAST_COUNTED)
    live = max(since, this_hour - (LIVE_HOURS - 1) * HOUR, *([] if counted is None else [counted + HOUR]))
    parameters = {"organization": organization}
    rows = list(connection.execute(_HOURS, {**parameters, "since": since, "until": live}).mappings())
    numbers: dict[tuple[datetime, str, str], int] = defaultdict(int)
    rows += connection.execute(_LIVE, {**parameters, "since": live, "until": this_hour + HOUR}).mappings()
    for row in rows:
        numbers[row["hour"], row["source"], row["status"]] += row["deliveries"]
    return [Hour(*key, number) for key, number in sorted(numbers.items())]


def rate(connection: Connection, length: timedelta = SHORT) -> Rate | None:
    """Return the rates over some *length* of time up to now; ``None`` if nothing was noted that far back."""
    row = connection.execute(_RATE, {"length": length}).mappings().one_or_none()
    if row is None:
        return None
    minutes = float(row["minutes"])
    return Rate(minutes, *(max(0.0, row[name]) / minutes for name in ("received", "processed", "failed")))


def read_totals(connection: Connection) -> Totals:
    """Return what was counted so far."""
    row = connection.execute(text(TOTALS)).mappings().one()
    return Totals(**{name: int(row[name]) for name in ("received", "processed", "failed")})


def failures_by_error(connection: Connection, *, most: int = MAX_FAILURES) -> list[FailureGroup]:
    """Return what failed, is dead or quarantined, by status, event and cause; the largest group first.

    Of very many only the newest *most* are looked at.
    """
    groups: dict[tuple[str, str, str], list[RowMapping]] = defaultdict(list)
    for row in connection.execute(_FAILURES, {"most": most}).mappings():
        groups[row["status"], row["event"], error_group(row["error"])].append(row)
    found = [_group(*key, rows) for key, rows in groups.items()]
    return sorted(found, key=lambda group: (-group.number, group.status, group.event, group.error))


def _group(status: str, event: str, error: str, rows: Sequence[RowMapping]) -> FailureGroup:
    numbers: dict[str, int] = defaultdict(int)
    for row in rows:
        numbers[row["organization_reference_id"] or ""] += row["number"]
    most_first = sorted(numbers, key=lambda name: (-numbers[name], name))
    return FailureGroup(
        status=status,
        event=event,
        error=error,
        number=sum(numbers.values()),
        oldest=min(row["oldest"] for row in rows),
        newest=max(row["newest"] for row in rows),
        organizations=tuple(most_first[:MAX_ORGANIZATIONS]),
        number_of_organizations=len(numbers),
        example_id=max(row["example_id"] for row in rows),
    )

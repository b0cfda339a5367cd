"""How far the registered consumers have read the feed, and which of them stopped."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from shlex import quote
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.errors import OperationRefused
from receiver.ops.findings import Finding, FindingKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from receiver.ops.retention.record import Query

STOPPED_AFTER: Final = timedelta(minutes=15)
"""A consumer that is behind, and has committed no position, for this time has stopped."""
MAX_COUNTED: Final = 100_000
"""Up to how many unread events are counted."""

_CONSUMERS: Final = f"""
SELECT consumer.name, coalesce(consumer.role, consumer.name) AS role, consumer.position, unread.lag_events,
    coalesce(CAST(extract(epoch FROM greatest(clock_timestamp() - first.recorded_at, interval '0')) AS float8), 0)
        AS lag_seconds,
    consumer.registered_at, consumer.updated_at
FROM ems.consumers AS consumer
CROSS JOIN LATERAL (
    SELECT count(*) AS lag_events FROM (
        SELECT FROM ems.events WHERE position > consumer.position ORDER BY position LIMIT {MAX_COUNTED}
    ) AS counted
) AS unread
LEFT JOIN LATERAL (
    SELECT recorded_at FROM ems.events WHERE position > consumer.position ORDER BY position LIMIT 1
) AS first ON true
ORDER BY consumer.name
"""  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True)
class ConsumerLag:
    """A consumer, and how far it is behind the feed."""

    name: str
    role: str
    position: int
    lag_events: int
    """How many events it has not read, counted up to 100,000."""
    lag_seconds: float
    """Age of the oldest event that it has not read; 0 if there is none."""
    registered_at: datetime
    updated_at: datetime | None
    """When it last committed a position."""

    def has_stopped(self, at: datetime) -> bool:
        """Return whether it is behind, and has committed nothing, for longer than ``STOPPED_AFTER``."""
        seen = self.updated_at or self.registered_at
        return self.lag_seconds > STOPPED_AFTER.total_seconds() and at - seen > STOPPED_AFTER


def read_consumers(query: Query) -> tuple[ConsumerLag, ...]:
    """Read how far each registered consumer is."""
    return tuple(ConsumerLag(**row) for row in query(_CONSUMERS))


def find_stopped_consumers(consumers: Sequence[ConsumerLag], at: datetime) -> Iterable[Finding]:
    """Yield which consumers have stopped."""
    for each in consumers:
        if each.has_stopped(at):
            seen = "never" if each.updated_at is None else f"{each.updated_at:%Y-%m-%d %H:%M:%S} UTC"
            text = (
                f"consumer {each.name} stopped reading the feed: last seen {seen}, {each.lag_events} events behind; is "
                "it running? Drop it if it will not read again"
            )
            subject, drop = f"consumer {each.name}", f"receiver db consumers drop {quote(each.name)}"
            yield Finding(FindingKind.CONSUMER_STOPPED, text, subject, count=each.lag_events, command=drop)


def drop_consumer(connection: Connection, name: str) -> None:
    """Drop a consumer: what it has not read may be deleted from then on. Raises ``OperationRefused``."""
    with connection.begin():
        dropped = connection.execute(text("DELETE FROM ems.consumers WHERE name = :name"), {"name": name}).rowcount
    if not dropped:
        raise OperationRefused(f"there is no consumer {name!r}; see receiver db consumers list")

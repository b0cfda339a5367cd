"""The oldest rows of the change feed: they go from its beginning, in order, so that a reader can tell if it is behind.

Each leaves a mark on its delivery, so that a replay does not append its event again. Positions are never given again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from receiver.ops.retention.walk import Span

_COUNT: Final = text(
    "SELECT count(*) FROM ems.events WHERE position > :after AND position <= :until AND recorded_at < :before"
)
# Deliveries first, as those lock them who process them again; and none that they hold.
_LOCK: Final = text(
    """
SELECT delivery.id FROM ems.events AS event JOIN receiver.deliveries AS delivery ON delivery.id = event.delivery_id
WHERE event.position > :after AND event.position <= :until
ORDER BY delivery.id FOR NO KEY UPDATE OF delivery SKIP LOCKED
"""
)
_FIRST_HELD: Final = text(
    """
SELECT min(event.position) FROM ems.events AS event
JOIN receiver.deliveries AS delivery ON delivery.id = event.delivery_id
WHERE event.position > :after AND event.position <= :until AND event.delivery_id <> ALL(:locked)
"""
)
_LEAVE: Final = text(
    """
WITH gone AS (
    DELETE FROM ems.events WHERE position > :after AND position <= :until RETURNING delivery_id
), marked AS (
    UPDATE receiver.deliveries AS delivery SET left_feed = true FROM gone WHERE delivery.id = gone.delivery_id
)
SELECT count(*) FROM gone
"""
)


def count_events(connection: Connection, span: Span) -> int:
    """Return how many rows of a span would go."""
    return connection.scalar(_COUNT, span.parameters()) or 0


def leave_feed(connection: Connection, span: Span) -> tuple[int, bool]:
    """Delete the rows of a span up to the first whose delivery is being processed; return how many, and if all went."""
    locked = list(connection.scalars(_LOCK, span.parameters()))
    held = connection.scalar(_FIRST_HELD, {**span.parameters(), "locked": locked})
    until = span.until if held is None else held - 1
    gone = connection.execute(_LEAVE, {"after": span.after, "until": until}).scalar_one()
    return int(gone), held is None

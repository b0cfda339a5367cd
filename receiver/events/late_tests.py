"""Test deliveries that come when nobody awaits them any more: sent again, or found in OpenCard's log.

Neither is proof: a real event may say the very same. So they are quarantined, for a person.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.events.awaited_tests import CLOCKS, UNCLEAR
from receiver.events.settle import Rejection, settle_rejections
from receiver.records.upsert import ids_parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from receiver.events.event import StoredDelivery

SENT_AGAIN: Final = "equals byte for byte a delivery that is or may be a test: OpenCard's retry of it, or a real event"
REFUSED: Final = (
    "OpenCard logged it while a test was awaited that did not arrive here; nothing tells whether this is it"
)

# Only tests of the last day count, as retries do; without any, the first condition ends it. What was tried before was
# decided on before: by a person, for one, who replays it.
_LATE: Final = text(
    """
SELECT late.id, bool_or(copy.id IS NOT NULL) AS sent_again
FROM receiver.deliveries AS late
JOIN receiver.awaited_tests AS awaited ON awaited.webhook_id = late.webhook_id
    AND late.event = ANY(awaited.events) AND awaited.resolved_at > now() - interval '1 day'
    AND late.received_at >= awaited.requested_at
LEFT JOIN receiver.deliveries AS copy ON copy.webhook_id = late.webhook_id AND copy.id < late.id
    AND copy.received_at >= awaited.requested_at AND copy.received_at < awaited.expires_at
    AND (copy.id = awaited.delivery_id OR (copy.status = 'quarantined' AND copy.error = :unclear))
    AND copy.body = late.body
WHERE EXISTS (SELECT FROM receiver.awaited_tests WHERE resolved_at > now() - interval '1 day')
    AND late.id = ANY(CAST(:ids AS bigint[])) AND late.attempts = 0
    AND (copy.id IS NOT NULL OR (
        late.source = 'log' AND awaited.delivery_id IS NULL
        AND late.occurred_at >= awaited.requested_at - CAST(:clocks AS interval)
        AND late.occurred_at < awaited.expires_at + CAST(:clocks AS interval)
    ))
GROUP BY late.id
"""
)


def set_aside_tests(connection: Connection, claimed: Sequence[StoredDelivery]) -> Sequence[StoredDelivery]:
    """Quarantine what of *claimed* may be a test that comes late, and return the others."""
    asked = {"ids": ids_parameter(delivery.id for delivery in claimed), "unclear": UNCLEAR, "clocks": CLOCKS}
    late = {row.id: SENT_AGAIN if row.sent_again else REFUSED for row in connection.execute(_LATE, asked)}
    if not late:
        return claimed
    settle_rejections(
        connection, [Rejection(each, "quarantined", late[each.id]) for each in claimed if each.id in late]
    )
    return [each for each in claimed if each.id not in late]

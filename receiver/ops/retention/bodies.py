"""Emptying deliveries: the row stays, known by its fingerprint; body and headers go.

Reconciling and telling retries apart go by the fingerprint, so what is emptied never looks as if it were missing. What
could not be applied has none yet: it gets the one by which the log's copy of it is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.json_rows import rows_parameter
from receiver.reconcile.identity import identify

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from receiver.ops.retention.walk import Span

BODIES_AT_ONCE: Final = 20
"""How many bodies are read at a time, each of which may be as large as a request may be."""

# A delivery that somebody has chosen to replay keeps its body until that has ended.
_KEPT_LONG_ENOUGH: Final = """
delivery.id > :after AND delivery.id <= :until AND delivery.status = ANY(:statuses) AND delivery.body IS NOT NULL
    AND delivery.received_at < :before AND coalesce(delivery.processed_at, delivery.received_at) < :before
    AND NOT EXISTS (
        SELECT FROM receiver.replay_deliveries AS member
        WHERE member.delivery_id = delivery.id AND member.outcome IS NULL
    )
"""
_COUNT: Final = text(f"SELECT count(*) FROM receiver.deliveries AS delivery WHERE {_KEPT_LONG_ENOUGH}")  # noqa: S608
_EMPTY: Final = text(
    f"""
UPDATE receiver.deliveries SET body = NULL, headers = '{{}}'
WHERE id IN (
    SELECT id FROM receiver.deliveries AS delivery
    WHERE {_KEPT_LONG_ENOUGH} AND delivery.fingerprint IS NOT NULL
    FOR NO KEY UPDATE SKIP LOCKED
)
"""  # noqa: S608 - constants
)
_UNKNOWN: Final = text(
    f"""
SELECT delivery.id, delivery.event, delivery.body, webhook.organization_reference_id AS organization
FROM receiver.deliveries AS delivery JOIN receiver.webhooks AS webhook ON webhook.id = delivery.webhook_id
WHERE {_KEPT_LONG_ENOUGH} AND delivery.fingerprint IS NULL
ORDER BY delivery.id LIMIT {BODIES_AT_ONCE}
FOR NO KEY UPDATE OF delivery SKIP LOCKED
"""  # noqa: S608 - likewise
)
_KNOWN_BY: Final = text(
    """
UPDATE receiver.deliveries AS delivery SET body = NULL, headers = '{}', fingerprint = known.fingerprint
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS known (id bigint, fingerprint bytea) WHERE delivery.id = known.id
"""
)


def count_bodies(connection: Connection, statuses: tuple[str, ...], span: Span) -> int:
    """Return how many deliveries of a span would be emptied."""
    return connection.scalar(_COUNT, {**span.parameters(), "statuses": list(statuses)}) or 0


def empty_bodies(connection: Connection, statuses: tuple[str, ...], span: Span) -> tuple[int, bool]:
    """Empty deliveries of a span; return how many, and whether the span is done with."""
    asked = {**span.parameters(), "statuses": list(statuses)}
    emptied = connection.execute(_EMPTY, asked).rowcount
    unknown = connection.execute(_UNKNOWN, asked).all()
    if unknown:
        rows = [
            {"id": row.id, "fingerprint": "\\x" + identify(row.event, row.body, row.organization).hex()}
            for row in unknown
        ]
        connection.execute(_KNOWN_BY, {"rows": rows_parameter(rows)})
    return emptied + len(unknown), len(unknown) < BODIES_AT_ONCE

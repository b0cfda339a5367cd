"""Deleting bodies: the delivery stays, known by its fingerprint; bytes and headers are deleted.

Reconciling goes by the fingerprint, so what has no body any more never looks as if it were missing. What could not be
applied may have none yet: before its body is deleted it gets the one by which the log's copy of it is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.json_rows import rows_parameter
from receiver.reconcile.identity import event_fingerprint

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from receiver.ops.retention.walk import Span

BODIES_AT_ONCE: Final = 20
"""How many bodies are read at a time, each of which may be as large as a request may be."""

# What is to be processed keeps its body, and what was selected for a replay, until that has ended.
_KEPT_LONG_ENOUGH: Final = """
FROM receiver.bodies AS body
JOIN receiver.stored_deliveries AS stored ON stored.id = body.delivery_id
JOIN receiver.outcomes AS outcome ON outcome.delivery_id = body.delivery_id
{more}
WHERE body.delivery_id > :after AND body.delivery_id <= :until AND stored.id > :after AND stored.id <= :until
    AND outcome.status = ANY(:statuses)
    AND stored.received_at < :before AND coalesce(outcome.processed_at, stored.received_at) < :before
    AND NOT EXISTS (SELECT FROM receiver.queue AS queued WHERE queued.delivery_id = body.delivery_id)
    AND NOT EXISTS (
        SELECT FROM receiver.replay_deliveries AS member
        WHERE member.delivery_id = body.delivery_id AND member.outcome IS NULL
    )
"""
_COUNT: Final = text(f"SELECT count(*) {_KEPT_LONG_ENOUGH.format(more='')}")
_WITHOUT_FINGERPRINT: Final = text(
    f"""
SELECT stored.id, stored.event, body.body, webhook.organization_reference_id AS organization
{_KEPT_LONG_ENOUGH.format(more="JOIN receiver.webhooks AS webhook ON webhook.id = stored.webhook_id")}
    AND outcome.position IS NULL AND outcome.fingerprint IS NULL
ORDER BY stored.id LIMIT {BODIES_AT_ONCE}
FOR UPDATE OF body, outcome SKIP LOCKED
"""
)
_IDENTIFY: Final = text(
    """
UPDATE receiver.outcomes AS outcome SET fingerprint = known.fingerprint
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS known (id bigint, fingerprint bytea)
WHERE outcome.delivery_id = known.id
"""
)
_DELETE: Final = text(
    f"""
DELETE FROM receiver.bodies WHERE delivery_id > :after AND delivery_id <= :until AND delivery_id IN (
    SELECT body.delivery_id {_KEPT_LONG_ENOUGH.format(more="")}
        AND num_nonnulls(outcome.position, outcome.fingerprint) > 0
    FOR UPDATE OF body SKIP LOCKED
)
"""  # noqa: S608 - constants
)


def count_bodies(connection: Connection, statuses: tuple[str, ...], span: Span) -> int:
    """Return how many bodies of a span would be deleted."""
    return connection.scalar(_COUNT, {**span.parameters(), "statuses": list(statuses)}) or 0


def delete_bodies(connection: Connection, statuses: tuple[str, ...], span: Span) -> tuple[int, bool]:
    """Delete bodies of a span; return how many, and whether the span is finished."""
    parameters = {**span.parameters(), "statuses": list(statuses)}
    unknown = connection.execute(_WITHOUT_FINGERPRINT, parameters).all()
    if unknown:
        rows = [
            {"id": row.id, "fingerprint": "\\x" + event_fingerprint(row.event, row.body, row.organization).hex()}
            for row in unknown
        ]
        connection.execute(_IDENTIFY, {"rows": rows_parameter(rows)})
    return connection.execute(_DELETE, parameters).rowcount, len(unknown) < BODIES_AT_ONCE

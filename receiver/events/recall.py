"""Recalling what was known of events of long ago.

``known_events`` is not kept for ever. Deliveries are, and so is what they changed: where a delivery of long ago is
processed (a replay, one recovered from an old part of the log) what is known of its event is put together from these,
as if it had never been forgotten.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.records.upsert import rows_parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from receiver.events.event import Event

LONG_AGO: Final = timedelta(days=12)
"""What is younger than this is never forgotten: settings refuse less than 14 days, and equal events count for one."""

# a snapshot may have been dated back; of a TPA or an invoice the row names the delivery of its newest version
_RECALL: Final = text(
    """
INSERT INTO receiver.known_events AS known (fingerprint, occurrences, delivery_ids)
SELECT fingerprint, array_agg(at ORDER BY at, id), array_agg(id ORDER BY at, id)
FROM (
    SELECT DISTINCT told.fingerprint, delivery.id, coalesce(state.occurred_at, delivery.occurred_at) AS at
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS told (
        fingerprint bytea, organization_reference_id text, transaction_id text, id text
    )
    CROSS JOIN LATERAL (
        SELECT * FROM receiver.deliveries
        WHERE transaction_id = told.transaction_id AND deliveries.fingerprint = told.fingerprint
        UNION ALL
        SELECT delivery.* FROM ems.tpas JOIN receiver.deliveries AS delivery ON delivery.id = tpas.delivery_id
        WHERE (tpas.organization_reference_id, tpas.id) = (told.organization_reference_id, told.id)
            AND delivery.fingerprint = told.fingerprint
        UNION ALL
        SELECT delivery.* FROM ems.invoices JOIN receiver.deliveries AS delivery ON delivery.id = invoices.delivery_id
        WHERE (invoices.organization_reference_id, invoices.id) = (told.organization_reference_id, told.id)
            AND delivery.fingerprint = told.fingerprint
    ) AS delivery
    LEFT JOIN ems.transaction_states AS state ON state.delivery_id = delivery.id
    WHERE delivery.status = 'processed' OR delivery.left_feed
        OR EXISTS (SELECT FROM ems.events AS event WHERE event.delivery_id = delivery.id)
) AS counted
GROUP BY fingerprint ORDER BY fingerprint
ON CONFLICT (fingerprint) DO UPDATE SET (occurrences, delivery_ids) = (
    SELECT array_agg(at ORDER BY at, id), array_agg(id ORDER BY at, id)
    FROM (
        SELECT unnest(known.occurrences) AS at, unnest(known.delivery_ids) AS id
        UNION ALL
        SELECT at, id FROM unnest(excluded.occurrences, excluded.delivery_ids) AS recalled (at, id)
        WHERE id <> ALL(known.delivery_ids)
    ) AS together
)
"""
)


def recall(connection: Connection, events: Sequence[Event], *, now: datetime | None = None) -> None:
    """Let those of *events* that occurred long ago be known again, if they were; costs nothing when there is none."""
    since = (now or datetime.now(UTC)) - LONG_AGO
    rows = [
        {
            "fingerprint": "\\x" + event.fingerprint.hex(),
            "organization_reference_id": event.organization_reference_id,
            "transaction_id": event.transaction_id,
            "id": str(getattr(event.payload, "id", "")),
        }
        for event in events
        if event.occurred_at < since
    ]
    if rows:
        connection.execute(_RECALL, {"rows": rows_parameter(rows)})

"""What an event of later has written, written anew once an earlier copy of it was found.

Where workers are side by side, or what is fresh overtakes what is old, a retry may be taken for the event before its
original comes. What it wrote counts from the original's time then, and what lies between the two takes effect:
so the order of processing does not show. Snapshots have a history of their own, see ``handlers.transactions``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.events.event import StoredDelivery
from receiver.events.models import EnrichmentVersion
from receiver.events.recognize import spellings
from receiver.events.registry import load_handlers
from receiver.events.understand import understand
from receiver.records.models import EnvironmentalImpact, Invoice, LineItem, Receipt, Tpa, VatRate, VatTotal
from receiver.records.upsert import rows_parameter, table_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, TextClause

    from receiver.db import Base
    from receiver.events.event import Event
    from receiver.events.retries import DatedBack
    from receiver.records.upsert import Row

TIMES: Final[dict[type[Base], str]] = {
    Receipt: "fetched_at",
    EnrichmentVersion: "occurred_at",
    VatRate: "occurred_at",
    VatTotal: "occurred_at",
    LineItem: "occurred_at",
    EnvironmentalImpact: "occurred_at",
    Tpa: "occurred_at",
    Invoice: "occurred_at",
}
"""Tables of which the newest event wins → the column that tells when it occurred."""


def _set_back(model: type[Base]) -> TextClause:
    table, time = table_of(model), TIMES[model]
    key = " AND written.transaction_id = earlier.transaction_id" if "transaction_id" in table.columns else ""
    return text(
        f"""
UPDATE {table.fullname} AS written SET {time} = earlier.occurred_at
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS earlier (
    delivery_id bigint, occurred_at timestamptz, organization_reference_id text, transaction_id text
)
WHERE written.organization_reference_id = earlier.organization_reference_id{key}
    AND written.delivery_id = earlier.delivery_id AND written.{time} > earlier.occurred_at
"""  # noqa: S608 - names come from the models
    )


_SET_BACK: Final = [_set_back(model) for model in TIMES]
# the columns are those of StoredDelivery, in its order; an event occurred when its earliest copy did
_EVENTS: Final = """
SELECT DISTINCT delivery.id, webhook.organization_reference_id, delivery.event, delivery.version, delivery.body,
    delivery.source, told.occurred_at, delivery.attempts, delivery.attempts_before_replay
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS earlier (
    occurred_at timestamptz, organization_reference_id text, transaction_id text, events text[]
)
JOIN receiver.webhooks AS webhook ON webhook.organization_reference_id = earlier.organization_reference_id
JOIN receiver.deliveries AS delivery ON delivery.webhook_id = webhook.id AND delivery.event = ANY(earlier.events)
    AND {which}
JOIN receiver.known_events AS known ON known.fingerprint = delivery.fingerprint
CROSS JOIN LATERAL unnest(known.delivery_ids, known.occurrences) AS told (delivery_id, occurred_at)
WHERE told.delivery_id = delivery.id AND told.occurred_at >= earlier.occurred_at
    AND delivery.status = 'processed' AND delivery.body IS NOT NULL
"""
_OF_TRANSACTIONS: Final = text(_EVENTS.format(which="delivery.transaction_id = earlier.transaction_id"))
_OF_ORGANIZATIONS: Final = text(
    _EVENTS.format(which="earlier.transaction_id IS NULL AND delivery.received_at >= earlier.occurred_at")
)


def set_back(connection: Connection, dated_back: Sequence[DatedBack]) -> list[Event]:
    """Let what *dated_back* have written count from the earlier moment.

    Returns the events since then that write to the same place, oldest first: they are to be applied again.
    """
    rows = rows_parameter([_row(known) for known in dated_back])
    for statement in _SET_BACK:
        connection.execute(statement, {"rows": rows})
    handlers = load_handlers()
    events = [
        understand(StoredDelivery(*row), handlers)
        for query in (_OF_TRANSACTIONS, _OF_ORGANIZATIONS)
        for row in connection.execute(query, {"rows": rows}).all()
    ]
    return sorted(events, key=lambda event: (event.occurred_at, event.delivery_id))


def _row(known: DatedBack) -> Row:
    return {
        "delivery_id": known.delivery_id,
        "occurred_at": known.occurred_at,
        "organization_reference_id": known.copy.organization_reference_id,
        "transaction_id": known.copy.transaction_id,
        "events": spellings(known.copy.name),
    }

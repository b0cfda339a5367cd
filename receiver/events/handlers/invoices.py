"""``invoice.created``: an invoice of the card issuer; announced, not live."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, cast

from receiver.events.handlers.rows import newest_by_key
from receiver.events.payloads import InvoicePayload
from receiver.events.registry import handles
from receiver.records.models import Invoice
from receiver.records.upsert import Row, insert_rows, newest_wins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from receiver.events.event import Event

_ORDER: Final = ("occurred_at", "delivery_id")
_FIELDS: Final = tuple(name for name in InvoicePayload.__struct_fields__ if name != "id")


@handles({"invoice.created": InvoicePayload})
def apply_invoices(connection: Connection, events: Sequence[Event]) -> None:
    """Write each invoice as its newest event tells it; its organization is the webhook's, for it names none."""
    rows = newest_by_key((_row(event) for event in events), key=("organization_reference_id", "id"), order=_ORDER)
    insert_rows(connection, Invoice, rows, on_conflict=newest_wins(Invoice, order=_ORDER))


def _row(event: Event) -> Row:
    payload = cast("InvoicePayload", event.payload)
    row: Row = {
        "organization_reference_id": event.organization_reference_id,
        "id": str(payload.id),
        "occurred_at": event.occurred_at,
        "delivery_id": event.delivery_id,
        "updated_at": datetime.now(UTC),
    }
    for name in _FIELDS:
        row[name] = getattr(payload, name)
    return row

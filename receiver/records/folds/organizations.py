"""The rows that belong to an organization: TPAs, and the issuer's invoices. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from receiver.events.payloads import InvoicePayload, TpaPayload
from receiver.records.models import Invoice, Tpa

if TYPE_CHECKING:
    from collections.abc import Sequence

    from receiver.db import Base
    from receiver.events.event import Event
    from receiver.json_rows import Row

_INVOICE_FIELDS: Final = tuple(name for name in InvoicePayload.__struct_fields__ if name != "id")


def fold_tpa(events: Sequence[Event]) -> dict[type[Base], list[Row]]:
    """Return the row of a TPA; ``signed_at`` is the first event's time."""
    payload = cast("TpaPayload", events[-1].payload)
    row = {
        **_columns(events[-1]),
        "signed_at": events[0].occurred_at,
        "name": payload.name,
        "organization_number": payload.organization_number,
        "url": payload.url,
    }
    return {Tpa: [row]}


def fold_invoice(events: Sequence[Event]) -> dict[type[Base], list[Row]]:
    """Return the row of an invoice; its organization is that of the webhook, because the payload names none."""
    payload = events[-1].payload
    return {Invoice: [{**_columns(events[-1]), **{name: getattr(payload, name) for name in _INVOICE_FIELDS}}]}


def _columns(event: Event) -> Row:
    return {
        "organization_reference_id": event.organization_reference_id,
        "id": event.subject_id,
        "occurred_at": event.occurred_at,
        "delivery_id": event.delivery_id,
    }

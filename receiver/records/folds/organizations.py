"""The rows that belong to an organization: TPAs, and the issuer's invoices. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import asdict

from receiver.records.models import Invoice, Tpa

if TYPE_CHECKING:
    from collections.abc import Sequence

    from receiver.db import Base
    from receiver.events.event import Event
    from receiver.json_rows import Row


def fold_tpa(events: Sequence[Event]) -> dict[type[Base], list[Row]]:
    """Return the row of a TPA; ``signed_at`` is the first event's time."""
    return {Tpa: [{**_columns(events[-1]), "signed_at": events[0].occurred_at}]}


def fold_invoice(events: Sequence[Event]) -> dict[type[Base], list[Row]]:
    """Return the row of an invoice; its organization is that of the webhook, because the payload names none."""
    return {Invoice: [_columns(events[-1])]}


def _columns(event: Event) -> Row:
    """Return the columns of the event and its payload's fields; the columns have their names."""
    fields = asdict(event.payload)
    fields.pop("organization", None)
    return {
        **fields,
        "organization_reference_id": event.organization_reference_id,
        "id": event.subject_id,
        "occurred_at": event.occurred_at,
        "delivery_id": event.delivery_id,
    }

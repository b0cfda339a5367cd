"""``card.transaction.*``: snapshots of a purchase."""

from __future__ import annotations

from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Final, cast

import msgspec

from receiver.events.payloads import (
    AuthorizedPayload,
    ClearedPayload,
    DeletedPayload,
    InvoicedPayload,
    TransactionPayload,
)
from receiver.events.registry import handles
from receiver.records.transactions import insert_states, merge_all, row_of_snapshot, upsert_transactions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from receiver.events.event import Event
    from receiver.records.upsert import Row

_FIELDS: Final = tuple(
    name for name in TransactionPayload.__struct_fields__ if name not in {"id", "card_holder", "organization"}
)
_HISTORY_FIELDS: Final = (
    "state",
    "card_issuer_reference",
    "original_amount",
    "original_currency",
    "accounting_amount",
    "accounting_currency",
    "vat_amount",
    "vat_currency",
)

_values: Final = attrgetter(*_FIELDS)
_history_values: Final = attrgetter(*_HISTORY_FIELDS)


@handles(
    {
        "card.transaction.authorized": AuthorizedPayload,
        "card.transaction.cleared": ClearedPayload,
        "card.transaction.deleted": DeletedPayload,
        "card.transaction.invoiced": InvoicedPayload,
    }
)
def apply_snapshots(connection: Connection, events: Sequence[Event]) -> None:
    """Merge the snapshots into the current rows, and keep each in the history."""
    now = datetime.now(UTC)
    upsert_transactions(connection, merge_all(_current(event, now) for event in events))
    insert_states(connection, [_history(event) for event in events])


def _current(event: Event, now: datetime) -> Row:
    payload = cast("TransactionPayload", event.payload)
    fields: Row = {
        "organization_reference_id": event.organization_reference_id,
        "id": payload.id,
        "card_holder_reference_id": payload.card_holder.reference_id,
    }
    fields.update(zip(_FIELDS, _values(payload), strict=True))
    return row_of_snapshot(fields, snapshot_at=event.occurred_at, delivery_id=event.delivery_id, now=now)


def _history(event: Event) -> Row:
    payload = cast("TransactionPayload", event.payload)
    row: Row = {
        "organization_reference_id": event.organization_reference_id,
        "transaction_id": payload.id,
        "payload": None if event.document is None else msgspec.Raw(event.document),
        "occurred_at": event.occurred_at,
        "delivery_id": event.delivery_id,
    }
    row.update(zip(_HISTORY_FIELDS, _history_values(payload), strict=True))
    return row

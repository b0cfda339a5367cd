"""``transaction.line.items``: the items bought."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from receiver.events.handlers.line_sets import replace_sets
from receiver.events.handlers.rows import enrichment_columns
from receiver.events.payloads import LineItemsPayload
from receiver.events.registry import handles
from receiver.records.models import LineItem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from receiver.events.event import Event
    from receiver.records.upsert import Row


@handles({"transaction.line.items": LineItemsPayload})
def apply_line_items(connection: Connection, events: Sequence[Event]) -> None:
    """Replace the items of each transaction by its newest event's."""
    replace_sets(connection, events, {LineItem: _items})


def _items(event: Event) -> list[Row]:
    payload = cast("LineItemsPayload", event.payload)
    return [
        {
            **enrichment_columns(event, payload),
            "description": item.description,
            "amount": item.amount,
            "total_amount": item.total_amount,
            "quantity": item.quantity,
            "currency": item.currency,
        }
        for item in payload.line_items or ()
    ]

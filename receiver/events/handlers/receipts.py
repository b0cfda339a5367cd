"""``receipt.fetched``: a digital receipt was matched to a purchase."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, cast

from receiver.events.handlers.rows import enrichment_columns, newest_by_key
from receiver.events.payloads import ReceiptPayload
from receiver.events.registry import handles
from receiver.records.models import Receipt
from receiver.records.upsert import Row, insert_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from receiver.events.event import Event

_FIELDS: Final = (
    "content_type",
    "purchase_merchant",
    "original_amount",
    "original_currency",
    "purchase_date",
    "purchase_time",
)
_KEY: Final = ("organization_reference_id", "transaction_id", "url")
_TOLD: Final = (*_FIELDS, "expiration_time", "card_holder_reference_id", "card_issuer", "fetched_at", "delivery_id")
# what is known of the downloaded file stays
_NEWEST_WINS: Final = (
    f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in (*_TOLD, "updated_at"))
    + " WHERE (excluded.fetched_at, excluded.delivery_id) >= (stored.fetched_at, stored.delivery_id)"
)


@handles({"receipt.fetched": ReceiptPayload})
def apply_receipts(connection: Connection, events: Sequence[Event]) -> None:
    """Write each receipt as its newest event tells it."""
    rows = newest_by_key((_row(event) for event in events), key=_KEY, order=("fetched_at", "delivery_id"))
    insert_rows(connection, Receipt, rows, on_conflict=_NEWEST_WINS)


def _row(event: Event) -> Row:
    payload = cast("ReceiptPayload", event.payload)
    row = {
        **enrichment_columns(event, payload),
        "url": payload.url,
        "expiration_time": payload.expires_at(),
        "fetched_at": event.occurred_at,
        "updated_at": datetime.now(UTC),
    }
    for name in _FIELDS:
        row[name] = getattr(payload, name)
    return row

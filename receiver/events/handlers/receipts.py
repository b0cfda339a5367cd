"""``receipt.fetched``: a digital receipt was matched to a purchase."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, cast

import structlog
from sqlalchemy import text

from receiver.events.handlers.rows import enrichment_columns, newest_by_key
from receiver.events.payloads import EARLIEST, LATEST, ReceiptPayload
from receiver.events.registry import handles
from receiver.records.models import Receipt
from receiver.records.upsert import Row, assignments, changes, insert_rows, rows_parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Engine

    from receiver.events.event import Event

log = structlog.stdlib.get_logger(__name__)

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
_VALUES: Final = {name: f"excluded.{name}" for name in (*_TOLD, "updated_at")}
_NEWEST_WINS: Final = (
    "ON CONFLICT (organization_reference_id, transaction_id, url_sha256) "
    f"DO UPDATE SET {assignments(_VALUES)} "
    f"WHERE (excluded.fetched_at, excluded.delivery_id) >= (stored.fetched_at, stored.delivery_id) "
    f"AND {changes(_VALUES)}"
)
# In the transaction of the receipt itself, so that none is forgotten. What was given up gets a new chance by a new
# event or a replay.
_NOTE_DOWNLOADS: Final = text(
    """
INSERT INTO receiver.receipt_downloads AS noted (organization_reference_id, transaction_id, url, expires_at)
SELECT receipt.organization_reference_id, receipt.transaction_id, receipt.url, receipt.expiration_time
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS told (
    organization_reference_id text, transaction_id text, url text
)
JOIN ems.receipts AS receipt USING (organization_reference_id, transaction_id, url)
WHERE receipt.file_key IS NULL
ORDER BY 1, 2, 3
ON CONFLICT (organization_reference_id, transaction_id, url_sha256) DO UPDATE
SET expires_at = excluded.expires_at, status = 'waiting', next_attempt_at = now(), attempts = 0, settled_at = NULL
"""
)

_DOWNLOADS_DUE: Final = text(
    "SELECT EXISTS (SELECT FROM receiver.receipt_downloads WHERE status = 'waiting' AND next_attempt_at <= now())"
)


@handles({"receipt.fetched": ReceiptPayload})
def apply_receipts(connection: Connection, events: Sequence[Event]) -> None:
    """Write each receipt as its newest event tells it, and note what is to be downloaded."""
    rows = newest_by_key((_row(event) for event in events), key=_KEY, order=("fetched_at", "delivery_id"))
    insert_rows(connection, Receipt, rows, on_conflict=_NEWEST_WINS)
    connection.execute(_NOTE_DOWNLOADS, {"rows": rows_parameter([{name: row[name] for name in _KEY} for row in rows])})


def receipts_wait(engine: Engine) -> bool:
    """Return whether there is a receipt whose file is to be downloaded now."""
    with engine.connect() as connection:
        return bool(connection.scalar(_DOWNLOADS_DUE))


def _row(event: Event) -> Row:
    payload = cast("ReceiptPayload", event.payload)
    expires_at = payload.expires_at()
    if expires_at in {EARLIEST, LATEST}:
        log.warning("receipt.expiration_clamped", delivery_id=event.delivery_id, expires_at=expires_at.isoformat())
    row = {
        **enrichment_columns(event, payload),
        "url": payload.url,
        "expiration_time": expires_at,
        "fetched_at": event.occurred_at,
        "updated_at": datetime.now(UTC),
    }
    for name in _FIELDS:
        row[name] = getattr(payload, name)
    return row

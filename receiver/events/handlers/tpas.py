"""``tpa.signed``: an organization's processing authorization is fully signed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, cast

from sqlalchemy import text

from receiver.events.handlers.rows import newest_by_key
from receiver.events.payloads import TpaPayload
from receiver.events.registry import handles
from receiver.records.models import Tpa
from receiver.records.upsert import Row, insert_rows, newest_wins, rows_parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from receiver.events.event import Event

_KEY: Final = ("organization_reference_id", "id")
_ORDER: Final = ("occurred_at", "delivery_id")
_FILE: Final = ("file_key", "file_size", "file_sha256", "downloaded_at", "download_error")
_NEWEST_WINS: Final = newest_wins(Tpa, order=_ORDER, keep_first=("signed_at",), of_url=_FILE)
# in the transaction of the TPA itself, as receipts are; of several documents of a TPA the newest counts
_NOTE_DOWNLOADS: Final = text(
    """
INSERT INTO receiver.receipt_downloads AS noted (organization_reference_id, tpa_id, url)
SELECT tpa.organization_reference_id, tpa.id, tpa.url
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS changed (organization_reference_id text, id text)
JOIN ems.tpas AS tpa USING (organization_reference_id, id)
WHERE tpa.url IS NOT NULL AND tpa.file_key IS NULL
ORDER BY 1, 2
ON CONFLICT (organization_reference_id, tpa_id) WHERE tpa_id IS NOT NULL DO UPDATE
SET url = excluded.url, status = 'waiting', next_attempt_at = now(), attempts = 0, settled_at = NULL
"""
)


@handles({"tpa.signed": TpaPayload})
def apply_tpas(connection: Connection, events: Sequence[Event]) -> None:
    """Write each TPA as in its newest event, and note its document for download; ``signed_at`` is the first's time."""
    first_told: dict[tuple[str, str], datetime] = {}
    for event in events:
        payload = cast("TpaPayload", event.payload)
        key = (event.organization_reference_id, payload.id)
        first_told[key] = min(first_told.get(key, event.occurred_at), event.occurred_at)
    rows = newest_by_key((_row(event) for event in events), key=_KEY, order=_ORDER)
    for row in rows:
        row["signed_at"] = first_told[row["organization_reference_id"], row["id"]]
    insert_rows(connection, Tpa, rows, on_conflict=_NEWEST_WINS)
    connection.execute(_NOTE_DOWNLOADS, {"rows": rows_parameter([{name: row[name] for name in _KEY} for row in rows])})


def _row(event: Event) -> Row:
    payload = cast("TpaPayload", event.payload)
    return {
        "organization_reference_id": event.organization_reference_id,
        "id": payload.id,
        "name": payload.name,
        "organization_number": payload.organization_number,
        "url": payload.url,
        "occurred_at": event.occurred_at,
        "delivery_id": event.delivery_id,
        "updated_at": datetime.now(UTC),
    }

"""Notes which files are to be downloaded, in the transaction that writes the receipt or TPA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from receiver.events.payloads import ReceiptPayload, TpaPayload

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg

    from receiver.events.event import Event
    from receiver.json_rows import Row

# what was given up gets a new chance by a new event or a replay
_RECEIPTS: Final = """
INSERT INTO receiver.receipt_downloads AS noted (organization_reference_id, transaction_id, url, expires_at)
SELECT receipt.organization_reference_id, receipt.transaction_id, receipt.url, receipt.expiration_time
FROM (
    SELECT DISTINCT * FROM json_to_recordset(CAST(current_setting('receiver.receipts_to_download') AS json))
        AS passed (organization_reference_id text, transaction_id text, url text)
) AS arrived
CROSS JOIN LATERAL (
    SELECT * FROM ems.receipts AS stored
    WHERE stored.organization_reference_id = arrived.organization_reference_id
        AND stored.transaction_id = arrived.transaction_id AND stored.url = arrived.url OFFSET 0
) AS receipt
WHERE receipt.file_key IS NULL
ORDER BY 1, 2, 3
ON CONFLICT (organization_reference_id, transaction_id, url_sha256) DO UPDATE
SET expires_at = excluded.expires_at, status = 'waiting', next_attempt_at = now(), attempts = 0, completed_at = NULL
"""
# of several documents of a TPA the newest counts
_TPAS: Final = """
INSERT INTO receiver.receipt_downloads AS noted (organization_reference_id, tpa_id, url)
SELECT tpa.organization_reference_id, tpa.id, tpa.url
FROM (
    SELECT DISTINCT * FROM json_to_recordset(CAST(current_setting('receiver.tpas_to_download') AS json))
        AS passed (organization_reference_id text, id text)
) AS arrived
CROSS JOIN LATERAL (
    SELECT * FROM ems.tpas AS stored
    WHERE stored.organization_reference_id = arrived.organization_reference_id AND stored.id = arrived.id OFFSET 0
) AS tpa
WHERE tpa.url IS NOT NULL AND tpa.file_key IS NULL
ORDER BY 1, 2
ON CONFLICT (organization_reference_id, tpa_id) WHERE tpa_id IS NOT NULL DO UPDATE
SET url = excluded.url, status = 'waiting', next_attempt_at = now(), attempts = 0, completed_at = NULL
"""
_DUE: Final = (
    "SELECT EXISTS (SELECT FROM receiver.receipt_downloads WHERE status = 'waiting' AND next_attempt_at <= now())"
)


def note_downloads(events: Iterable[Event]) -> list[tuple[str, str, list[Row]]]:
    """Return the statements that note the files of *events* for download, where they are not stored yet.

    Each with the setting that passes its rows, and the rows; see ``LogChange.after``.
    """
    receipts: list[Row] = []
    tpas: list[Row] = []
    for event in events:
        of = {"organization_reference_id": event.organization_reference_id}
        if isinstance(event.payload, ReceiptPayload):
            receipts.append({**of, "transaction_id": event.subject_id, "url": event.payload.url})
        elif isinstance(event.payload, TpaPayload):
            tpas.append({**of, "id": event.subject_id})
    noted = [(_RECEIPTS, "receipts_to_download", receipts), (_TPAS, "tpas_to_download", tpas)]
    return [each for each in noted if each[2]]


def downloads_due(connection: psycopg.Connection[Any]) -> bool:
    """Return whether there is a file that is to be downloaded now."""
    row = connection.execute(_DUE).fetchone()
    return bool(row and row[0])

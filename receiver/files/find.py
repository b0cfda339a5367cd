"""Finding files: of a purchase, by content, and those that are not here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

_OF: Final = text(
    """
SELECT organization_reference_id, transaction_id, NULL AS tpa_id, file_key, file_size, file_sha256, downloaded_at,
    download_error, url
FROM ems.receipts WHERE transaction_id = :wanted OR file_sha256 = lower(:wanted)
UNION ALL
SELECT organization_reference_id, NULL, id, file_key, file_size, file_sha256, downloaded_at, download_error, url
FROM ems.tpas WHERE url IS NOT NULL AND (id = :wanted OR file_sha256 = lower(:wanted))
ORDER BY organization_reference_id, transaction_id, tpa_id, file_key, downloaded_at DESC, url
"""
)
# the query of a URL may be a secret
_NOT_HERE: Final = text(
    """
SELECT organization_reference_id, transaction_id, tpa_id, split_part(url, '?', 1) AS url, status, attempts, expires_at,
    CASE WHEN status = 'waiting' THEN next_attempt_at END AS next_attempt_at, error
FROM receiver.receipt_downloads
WHERE (CAST(:status AS text) IS NULL OR status = :status)
    AND (:everybody OR organization_reference_id = ANY(:organizations))
ORDER BY status = 'waiting', coalesce(completed_at, next_attempt_at), id
LIMIT :limit
"""
)


@dataclass(frozen=True, slots=True)
class ReceiptFile:
    """A receipt or a signed TPA, and its file if that is here."""

    organization_reference_id: str
    transaction_id: str | None
    tpa_id: str | None
    """Of a signed TPA, in place of a transaction."""
    file_key: str | None
    file_size: int | None
    file_sha256: str | None
    downloaded_at: datetime | None
    download_error: str | None


def files_of(connection: Connection, wanted: str) -> list[ReceiptFile]:
    """Return the files of a transaction or a TPA, or those with a content; *wanted* is its id, or the SHA-256."""
    return [ReceiptFile(*row[:-1]) for row in connection.execute(_OF, {"wanted": wanted})]


def not_here(
    connection: Connection, *, status: str | None, organizations: Sequence[str], limit: int
) -> list[dict[str, Any]]:
    """Return receipts whose files are not here, given-up ones first; no organization means all."""
    parameters = {
        "status": status,
        "everybody": not organizations,
        "organizations": list(organizations),
        "limit": limit,
    }
    return [dict(row) for row in connection.execute(_NOT_HERE, parameters).mappings()]

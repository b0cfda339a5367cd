"""Which files are to be downloaded, and what became of them: the table ``receiver.receipt_downloads``.

A receipt is claimed by one short statement, which also says when the attempt counts as dead; so no transaction stays
open while a server is slow, and a worker that dies gives nothing back but time. ``ems.receipts`` is written before
``receipt_downloads``, in the order in which the handler of the event locks them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.files.retry_schedule import next_attempt
from receiver.opencard.files import OVERALL_SECONDS

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from receiver.errors import DownloadError

LEASE: Final = timedelta(seconds=2 * OVERALL_SECONDS + 60)
"""After so long an attempt counts as dead: its worker is gone, and the next one tries again."""

_CLAIM: Final = text(
    """
UPDATE receiver.receipt_downloads AS download
SET attempts = download.attempts + 1, last_attempt_at = now(), next_attempt_at = now() + CAST(:lease AS interval)
FROM (
    SELECT id FROM receiver.receipt_downloads
    WHERE status = 'waiting' AND next_attempt_at <= now()
    ORDER BY next_attempt_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
) AS due
WHERE download.id = due.id
RETURNING download.id, download.organization_reference_id, download.transaction_id, download.url, download.expires_at,
    download.attempts, download.last_attempt_at, (
        SELECT receipt.content_type FROM ems.receipts AS receipt
        WHERE receipt.organization_reference_id = download.organization_reference_id
            AND receipt.transaction_id = download.transaction_id AND receipt.url = download.url
    ) AS content_type
"""
)
_THIS_RECEIPT: Final = (
    "organization_reference_id = :organization_reference_id AND transaction_id = :transaction_id AND url = :url"
)
_STORED: Final = text(
    f"""
UPDATE ems.receipts
SET file_key = :file_key, file_size = :file_size, file_sha256 = :file_sha256, downloaded_at = clock_timestamp(),
    download_error = NULL, updated_at = clock_timestamp()
WHERE {_THIS_RECEIPT}
"""  # noqa: S608 - of constants
)
_DONE: Final = text("DELETE FROM receiver.receipt_downloads WHERE id = :id")
_MY_ATTEMPT: Final = "status = 'waiting' AND id = :id AND last_attempt_at = :last_attempt_at"
_FAILED_FOR_THE_EMS: Final = text(
    f"""
UPDATE ems.receipts SET download_error = :error, updated_at = clock_timestamp()
WHERE {_THIS_RECEIPT} AND file_key IS NULL AND download_error IS DISTINCT FROM :error
    AND EXISTS (SELECT FROM receiver.receipt_downloads WHERE {_MY_ATTEMPT})
"""  # noqa: S608 - of constants
)
_FAILED: Final = text(
    f"""
UPDATE receiver.receipt_downloads
SET status = :status, error = :error, next_attempt_at = coalesce(:next_attempt_at, next_attempt_at),
    settled_at = CASE WHEN :status <> 'waiting' THEN clock_timestamp() END
WHERE {_MY_ATTEMPT}
"""  # noqa: S608 - of constants
)
_GIVE_UP: Final = text(
    """
UPDATE receiver.receipt_downloads
SET status = 'expired', settled_at = clock_timestamp(), error = coalesce(error, 'the last attempt never ended')
WHERE status = 'waiting' AND next_attempt_at <= now() AND last_attempt_at >= expires_at
"""
)
_AGAIN: Final = text(
    """
UPDATE receiver.receipt_downloads SET status = 'waiting', next_attempt_at = now(), attempts = 0, settled_at = NULL
WHERE status IN ('expired', 'refused')
"""
)
_NOW: Final = text(
    "UPDATE receiver.receipt_downloads SET next_attempt_at = now() "
    "WHERE status = 'waiting' AND next_attempt_at > now() "
    "AND next_attempt_at IS DISTINCT FROM last_attempt_at + CAST(:lease AS interval)"  # as long as one is under way
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A receipt whose file this worker is to download. Its fields are the columns of the claim."""

    id: int
    organization_reference_id: str
    transaction_id: str
    url: str = field(repr=False)
    expires_at: datetime | None
    attempts: int
    """This one included."""
    last_attempt_at: datetime
    """When this attempt began: what tells it from others."""
    content_type: str | None
    """As the event says."""

    @property
    def key(self) -> dict[str, object]:
        """The receipt's key in ``ems.receipts``."""
        return {
            "organization_reference_id": self.organization_reference_id,
            "transaction_id": self.transaction_id,
            "url": self.url,
        }


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that is where it belongs."""

    file_key: str
    file_size: int
    file_sha256: str


def claim(engine: Engine) -> Wanted | None:
    """Return the receipt that has been due the longest, for this worker alone until its lease ends."""
    with engine.begin() as connection:
        row = connection.execute(_CLAIM, {"lease": LEASE}).one_or_none()
    return None if row is None else Wanted(*row)


def settle_stored(engine: Engine, wanted: Wanted, stored: Stored) -> None:
    """Write that the file is there."""
    values = {"file_key": stored.file_key, "file_size": stored.file_size, "file_sha256": stored.file_sha256}
    with engine.begin() as connection:
        connection.execute(_STORED, {**wanted.key, **values})
        connection.execute(_DONE, {"id": wanted.id})


def settle_failed(engine: Engine, wanted: Wanted, error: DownloadError) -> str:
    """Write why the file is not there, and when it is tried again; return the status that this makes."""
    at = next_attempt(
        wanted.attempts,
        now=datetime.now(UTC),
        expires_at=wanted.expires_at,
        chance=random.random(),  # noqa: S311 - it spreads the pauses
        retry_after=error.retry_after,
    )
    status = "refused" if not error.retryable else "expired" if at is None else "waiting"
    told = {"id": wanted.id, "last_attempt_at": wanted.last_attempt_at, "error": str(error)}
    with engine.begin() as connection:
        connection.execute(_FAILED_FOR_THE_EMS, {**wanted.key, **told})
        connection.execute(_FAILED, {**told, "status": status, "next_attempt_at": at if status == "waiting" else None})
    return status


def give_up_abandoned(engine: Engine) -> int:
    """Give up what was tried after its URL expired by workers that died over it; return how many."""
    with engine.begin() as connection:
        return connection.execute(_GIVE_UP).rowcount


def want_now(engine: Engine, *, again: bool) -> None:
    """Let everything that waits for its next attempt be due; with *again* what was given up or refused, too."""
    with engine.begin() as connection:
        connection.execute(_NOW, {"lease": LEASE})
        if again:
            connection.execute(_AGAIN)

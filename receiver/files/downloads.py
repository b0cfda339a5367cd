"""The files to download, and the outcome of each: the table ``receiver.receipt_downloads``.

They are of two kinds: receipts, and the documents of signed TPAs. A file is claimed by one short statement, which also
sets when the claim expires; so no transaction stays open while a server is slow, and if the worker dies, the file is
downloaded again after that time. ``ems.receipts`` or ``ems.tpas`` is written before ``receipt_downloads``, in the order
in which the processing of the event locks them.
"""

from __future__ import annotations

import random
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec
from sqlalchemy import text

from receiver.db import dedicated_connection
from receiver.files.retry_schedule import next_attempt
from receiver.json_rows import rows_parameter
from receiver.opencard.files import OVERALL_SECONDS
from receiver.opencard.routes import DOWNLOAD_FILE, DOWNLOAD_TPA
from receiver.records.epochs import CHANNEL
from receiver.records.journal import BOOK_CHANGES
from receiver.records.locked import write_under_lock
from receiver.records.write import CHANGED, RECEIVER_SOURCE, ChangeReason

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Engine

    from receiver.errors import DownloadError
    from receiver.opencard.routes import Route

LEASE: Final = timedelta(seconds=2 * OVERALL_SECONDS + 60)
"""How long an attempt may take. After that its worker counts as dead, and another one tries again."""

_CLAIM: Final = text(
    """
WITH due AS MATERIALIZED (
    SELECT id FROM receiver.receipt_downloads
    WHERE status = 'waiting' AND next_attempt_at <= now()
        AND CASE WHEN tpa_id IS NULL THEN 'receipt' ELSE 'tpa' END = ANY(:kinds)
    ORDER BY next_attempt_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE receiver.receipt_downloads AS download
SET attempts = download.attempts + 1, last_attempt_at = now(), next_attempt_at = now() + CAST(:lease AS interval)
FROM due
WHERE download.id = due.id
RETURNING download.id, download.organization_reference_id, download.transaction_id, download.tpa_id, download.url,
    greatest('0001-01-03Z', least('9999-12-29Z', download.expires_at)) AS expires_at, download.attempts,
    download.last_attempt_at,
    CASE WHEN download.tpa_id IS NOT NULL THEN 'application/pdf' ELSE (
        SELECT receipt.content_type FROM ems.receipts AS receipt
        WHERE receipt.organization_reference_id = download.organization_reference_id
            AND receipt.transaction_id = download.transaction_id AND receipt.url = download.url
    ) END AS content_type
"""
)


class FileKind(StrEnum):
    """What a file belongs to: a receipt, or the document of a signed TPA."""

    RECEIPT = "receipt"
    TPA = "tpa"

    @property
    def route(self) -> Route:
        """How it is asked for: with which scope."""
        return {FileKind.RECEIPT: DOWNLOAD_FILE, FileKind.TPA: DOWNLOAD_TPA}[self]


_TABLE: Final = {
    FileKind.RECEIPT: "ems.receipts",
    FileKind.TPA: "ems.tpas",
}
_WHERE: Final = {
    FileKind.RECEIPT: "organization_reference_id = :organization_reference_id AND transaction_id = :transaction_id "
    "AND url = :url",
    FileKind.TPA: "organization_reference_id = :organization_reference_id AND id = :tpa_id AND url = :url",
}
_FILE: Final = """json_to_record(CAST(current_setting('receiver.file') AS json)) AS file (
    id bigint, organization_reference_id text, transaction_id text, tpa_id text, url text, file_key text,
    file_size bigint, file_sha256 text
)"""
_JOINED_WITH_FILE: Final = {
    FileKind.RECEIPT: "stored.organization_reference_id = file.organization_reference_id "
    "AND stored.transaction_id = file.transaction_id AND stored.url = file.url",
    FileKind.TPA: "stored.organization_reference_id = file.organization_reference_id AND stored.id = file.tpa_id "
    "AND stored.url = file.url",
}
_SUBJECT: Final = {
    FileKind.RECEIPT: "stored.card_holder_reference_id, stored.transaction_id, stored.transaction_id",
    FileKind.TPA: "NULL, NULL, stored.id",
}
_STORED: Final = {
    kind: f"""
UPDATE {_TABLE[kind]} AS stored
SET file_key = file.file_key, file_size = file.file_size, file_sha256 = file.file_sha256,
    downloaded_at = clock_timestamp(), download_error = NULL, updated_at = clock_timestamp()
FROM {_FILE} WHERE {_JOINED_WITH_FILE[kind]}
"""  # noqa: S608 - of constants
    for kind in FileKind
}
_DONE: Final = f"""
DELETE FROM receiver.receipt_downloads AS done USING {_FILE} WHERE done.id = file.id AND done.url = file.url
"""  # noqa: S608 - of constants
_ANNOUNCE: Final = {
    kind: f"""
WITH announced AS (
    INSERT INTO ems.events (type, organization_reference_id, card_holder_reference_id, transaction_id, subject_id,
        occurred_at, recorded_at, source, delivery_id, payload)
    SELECT '{CHANGED}', stored.organization_reference_id, {_SUBJECT[kind]}, clock_timestamp(), clock_timestamp(),
        '{RECEIVER_SOURCE}', stored.delivery_id,
        jsonb_build_object('reason', '{ChangeReason.FILE_STORED}', 'tables', ARRAY['{_TABLE[kind].partition(".")[2]}'])
    FROM {_TABLE[kind]} AS stored, {_FILE} WHERE {_JOINED_WITH_FILE[kind]}
    RETURNING position
)
SELECT pg_notify('{CHANNEL}', CAST(max(position) AS text)) FROM announced HAVING count(*) > 0
"""  # noqa: S608 - of constants
    for kind in FileKind
}
_CURRENT_TIME: Final = text("SELECT clock_timestamp()")  # what is due is decided by PostgreSQL's clock
# of a TPA, another url may have been noted during the attempt
_IS_THIS_ATTEMPT: Final = "status = 'waiting' AND id = :id AND url = :url AND last_attempt_at = :last_attempt_at"
_FAILED_FOR_THE_EMS: Final = {
    kind: text(
        f"""
UPDATE {_TABLE[kind]} SET download_error = :error, updated_at = clock_timestamp()
WHERE {_WHERE[kind]} AND file_key IS NULL AND download_error IS DISTINCT FROM :error
    AND EXISTS (SELECT FROM receiver.receipt_downloads WHERE {_IS_THIS_ATTEMPT})
"""  # noqa: S608 - of constants
    )
    for kind in FileKind
}
_FAILED: Final = text(
    f"""
UPDATE receiver.receipt_downloads
SET status = :status, error = :error, next_attempt_at = coalesce(:next_attempt_at, next_attempt_at),
    completed_at = CASE WHEN :status <> 'waiting' THEN clock_timestamp() END
WHERE {_IS_THIS_ATTEMPT}
"""  # noqa: S608 - of constants
)
_GIVE_UP: Final = text(
    """
UPDATE receiver.receipt_downloads
SET status = 'expired', completed_at = clock_timestamp(), error = coalesce(error, 'the last attempt never ended')
WHERE status = 'waiting' AND next_attempt_at <= now() AND last_attempt_at >= expires_at
"""
)
# in the future: from before the clock was set back; the seconds are for what is noted while this statement runs
_PLAN_AGAIN: Final = text(
    """
UPDATE receiver.receipt_downloads
SET next_attempt_at = now() + coalesce(next_attempt_at - last_attempt_at, interval '0'),
    last_attempt_at = least(last_attempt_at, now())
WHERE status = 'waiting' AND next_attempt_at > now() + interval '5 seconds'
    AND coalesce(last_attempt_at, next_attempt_at) > now() + interval '5 seconds'
"""
)
_AGAIN: Final = text(
    """
UPDATE receiver.receipt_downloads SET status = 'waiting', next_attempt_at = now(), attempts = 0, completed_at = NULL
WHERE status IN ('expired', 'refused')
"""
)
_NOW: Final = text(
    "UPDATE receiver.receipt_downloads SET next_attempt_at = now() "
    "WHERE status = 'waiting' AND next_attempt_at > now() "
    "AND next_attempt_at IS DISTINCT FROM last_attempt_at + CAST(:lease AS interval)"  # as long as one is under way
)


@dataclass(frozen=True, slots=True)
class WantedFile:
    """A file that this worker is to download. Its fields are the columns of the claim."""

    id: int
    organization_reference_id: str
    transaction_id: str | None
    """Of a receipt."""
    tpa_id: str | None
    """Of a signed TPA."""
    url: str = field(repr=False)
    expires_at: datetime | None
    attempts: int
    """This one included."""
    last_attempt_at: datetime
    """When this attempt began: distinguishes it from others."""
    content_type: str | None
    """As the event says."""

    @property
    def kind(self) -> FileKind:
        """Whether it belongs to a receipt or to a TPA."""
        return FileKind.RECEIPT if self.tpa_id is None else FileKind.TPA

    @property
    def key(self) -> dict[str, object]:
        """The key of its row in ``ems``."""
        return {
            "organization_reference_id": self.organization_reference_id,
            "transaction_id": self.transaction_id,
            "tpa_id": self.tpa_id,
            "url": self.url,
        }


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in the store."""

    file_key: str
    file_size: int
    file_sha256: str


def claim(engine: Engine, kinds: Collection[FileKind]) -> WantedFile | None:
    """Return the file of these *kinds* that has been due the longest, for this worker alone until its lease ends."""
    with engine.begin() as connection:
        row = connection.execute(_CLAIM, {"lease": LEASE, "kinds": list(kinds)}).one_or_none()
    return None if row is None else WantedFile(*row)


def complete_download(engine: Engine, wanted: WantedFile, stored: StoredFile) -> None:
    """Record that the file is stored, and announce it in the feed. Raises psycopg's errors."""
    file = {"id": wanted.id, **wanted.key, **asdict(stored)}
    statements = [_STORED[wanted.kind], _DONE, _ANNOUNCE[wanted.kind]]
    purchases = []
    if wanted.kind is FileKind.RECEIPT:
        statements.append(BOOK_CHANGES)
        purchases.append({"organization": wanted.organization_reference_id, "id": wanted.transaction_id})
    settings = {"file": msgspec.json.encode(file).decode(), "purchases": rows_parameter(purchases)}
    with closing(dedicated_connection(engine)) as connection:
        write_under_lock(connection, settings, statements)


def record_failure(engine: Engine, wanted: WantedFile, error: DownloadError) -> str:
    """Record why a download failed, and when it is tried again; return the new status."""
    values = {"id": wanted.id, "url": wanted.url, "last_attempt_at": wanted.last_attempt_at, "error": str(error)}
    with engine.begin() as connection:
        at = next_attempt(
            wanted.attempts,
            now=connection.execute(_CURRENT_TIME).scalar_one(),
            expires_at=wanted.expires_at,
            chance=random.random(),  # noqa: S311 - it spreads the pauses
            retry_after=error.retry_after,
        )
        status = "refused" if not error.retryable else "expired" if at is None else "waiting"
        connection.execute(_FAILED_FOR_THE_EMS[wanted.kind], {**wanted.key, **values})
        connection.execute(
            _FAILED, {**values, "status": status, "next_attempt_at": at if status == "waiting" else None}
        )
    return status


def give_up_expired(engine: Engine) -> int:
    """Give up downloads whose URL expired while a worker that died had them; return how many."""
    with engine.begin() as connection:
        return connection.execute(_GIVE_UP).rowcount


def plan_again(engine: Engine) -> None:
    """After the clock was set back: restart the pauses and leases that began before."""
    with engine.begin() as connection:
        connection.execute(_PLAN_AGAIN)


def want_now(engine: Engine, *, again: bool) -> None:
    """Make every waiting download due now; with *again* also those that were given up or refused."""
    with engine.begin() as connection:
        connection.execute(_NOW, {"lease": LEASE})
        if again:
            connection.execute(_AGAIN)

"""Copies of receipts and signed TPAs in a folder, for people: ``ORGANIZATION/date_merchant_transaction_mark.pdf``."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.errors import OperationRefused
from receiver.files.names import receipt_name, unique

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date, datetime
    from pathlib import Path

    from sqlalchemy import Engine

    from receiver.files.store import FileStore
    from receiver.progress import Progress

_STORED: Final = """
WITH stored AS (
    SELECT receipt.organization_reference_id, receipt.transaction_id, receipt.file_key, receipt.file_size,
        receipt.file_sha256, coalesce(purchase.purchase_date, receipt.purchase_date) AS day,
        coalesce(purchase.purchase_merchant_common, receipt.purchase_merchant, purchase.purchase_merchant) AS merchant,
        receipt.downloaded_at, receipt.url
    FROM ems.receipts AS receipt
    LEFT JOIN ems.transactions AS purchase
        ON purchase.organization_reference_id = receipt.organization_reference_id
            AND purchase.id = receipt.transaction_id
    UNION ALL
    SELECT organization_reference_id, id, file_key, file_size, file_sha256, (signed_at AT TIME ZONE 'UTC')::date, 'TPA',
        downloaded_at, url
    FROM ems.tpas
)
SELECT {columns} FROM stored
WHERE file_key IS NOT NULL AND downloaded_at >= coalesce(:since, '-infinity'::timestamptz)
    AND (:everybody OR organization_reference_id = ANY(:organizations))
"""
_COUNT: Final = text(_STORED.format(columns="count(*)"))
_EACH: Final = text(
    _STORED.format(columns="organization_reference_id, transaction_id, file_key, file_size, file_sha256, day, merchant")
    + "ORDER BY organization_reference_id, downloaded_at, transaction_id, url"
)


@dataclass(frozen=True, slots=True)
class Filed:
    """A stored file and what people call it by. Its fields are the columns of the query."""

    organization_reference_id: str
    transaction_id: str
    """Of a signed TPA its own id."""
    file_key: str
    file_size: int
    file_sha256: str
    day: date | None
    """Of the purchase; of a TPA, when it was learned as signed, in UTC."""
    merchant: str | None

    @property
    def place(self) -> tuple[str, str]:
        """Folder and name of its copy."""
        suffix = self.file_key.rpartition(".")[2]
        name = receipt_name(self.day, self.merchant, self.transaction_id, self.file_sha256, suffix)
        return unique(self.organization_reference_id), name


@dataclass(frozen=True, slots=True)
class Copied:
    """The outcome of copying one file."""

    organization_reference_id: str
    transaction_id: str
    file_key: str
    path: str
    error: str | None = None
    """Why there is none."""


def copy_receipts(
    engine: Engine,
    store: FileStore,
    directory: Path,
    *,
    organizations: Sequence[str],
    since: datetime | None,
    progress: Progress,
) -> Iterator[Copied]:
    """Copy the files that were downloaded since a time into *directory*, and yield the outcome of each.

    No organization means all. A copy that exists is not written again. Raises ``OperationRefused`` when the
    folder cannot be written to.
    """
    parameters = {"since": since, "everybody": not organizations, "organizations": list(organizations)}
    with engine.connect().execution_options(isolation_level="REPEATABLE READ", yield_per=500) as connection:
        progress.total(connection.scalar(_COUNT, parameters) or 0)
        with connection.execute(_EACH, parameters) as rows:
            for row in rows:
                yield _copied(store, Filed(*row), directory)
                progress.advance()


def _copied(store: FileStore, filed: Filed, directory: Path) -> Copied:
    folder, name = filed.place
    target = directory / folder / name
    try:
        error = _copy(store, filed, target)
    except OSError as failed:
        raise OperationRefused(f"cannot write {target}: {failed.strerror}") from None
    return Copied(filed.organization_reference_id, filed.transaction_id, filed.file_key, str(target), error)


def _copy(store: FileStore, filed: Filed, target: Path) -> str | None:
    """Copy one file, whole or not at all; return why there is no copy. Raises ``OSError`` for the folder's part."""
    if target.is_file() and target.stat().st_size == filed.file_size:
        return None
    try:
        with store.open(filed.file_key) as source:
            target.parent.mkdir(parents=True, exist_ok=True)
            half = target.with_name(f".{filed.file_sha256[:16]}.part")
            try:
                with half.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
                os.replace(half, target)  # noqa: PTH105 - says what it does
            except BaseException:
                with suppress(OSError):
                    half.unlink()
                raise
    except FileNotFoundError:
        return f"the file {filed.file_key} is not in the store (FILES_URL)"
    return None

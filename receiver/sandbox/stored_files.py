"""Check that the files of all receipts that were sent are stored, byte for byte: part of the verdict."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.errors import OperationRefused
from receiver.sandbox.receipt_files import name_in, receipt_file
from receiver.sandbox.story_events import read

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from receiver.files.store import FileStore
    from receiver.sandbox.story import Story

DOWNLOADING_SECONDS: Final = 60
POLL_SECONDS: Final = 0.05

_WAITING: Final = text("SELECT count(*) FROM receiver.receipt_downloads WHERE status = 'waiting'")
_STORED: Final = text(
    "SELECT organization_reference_id, url, file_key, download_error FROM ems.receipts ORDER BY fetched_at, url"
)


def wait_until_downloaded(engine: Engine, *, seconds: float = DOWNLOADING_SECONDS) -> None:
    """Return when no receipt waits. Raises ``OperationRefused`` when it takes longer than *seconds*."""
    deadline = time.monotonic() + seconds
    while True:
        with engine.connect() as connection:
            waiting = connection.scalar(_WAITING)
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise OperationRefused(f"after {seconds:.0f} s there are still {waiting} receipts to be downloaded")
        time.sleep(POLL_SECONDS)


def file_differences(connection: Connection, story: Story, store: FileStore) -> tuple[int, list[str]]:
    """Return how many files of *story* are stored unchanged, and a line for each that is not."""
    stored = {(row.organization_reference_id, row.url): row for row in connection.execute(_STORED)}
    right, wrong = 0, []
    for sent in story.events:
        if sent.event != "receipt.fetched":
            continue
        url = read(sent.payload)["url"]
        name, row = name_in(url), stored.get((sent.organization_reference_id, url))
        if row is None or row.file_key is None:
            wrong.append(f"receipt {name}: no file ({'never stored' if row is None else row.download_error})")
            continue
        with store.open(row.file_key) as file:
            if file.read() == receipt_file(name):
                right += 1
            else:
                wrong.append(f"receipt {name}: the file is another than OpenCard's")
    return right, wrong

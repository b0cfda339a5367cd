"""The steps of one file: claim, download, identify, store, complete. Several files in parallel.

A file is first written to a temporary file of this machine (small ones stay in memory), so that no incomplete or too
large file, and nothing that is no receipt, gets into the store.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Final

import structlog
from rq.timeouts import BaseTimeoutException

from receiver.errors import DownloadError, DownloadsImpossible
from receiver.files.downloads import FileKind, StoredFile, claim, complete_download, record_failure
from receiver.files.kinds import accept
from receiver.files.store import file_key
from receiver.opencard.files import Files
from receiver.tracing import span

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from receiver.files.downloads import WantedFile
    from receiver.files.store import FileStore
    from receiver.opencard.auth import Access
    from receiver.opencard.tokens import TokenStore

log = structlog.stdlib.get_logger(__name__)

CONCURRENT_DOWNLOADS: Final = 8
"""Files that are downloaded at a time: most of the time is spent waiting for OpenCard."""
IN_MEMORY: Final = 1024 * 1024
"""Files up to this size never touch the temporary folder."""


@dataclass(slots=True)
class FetchTally:
    """The numbers of a run, and the kinds of files that were not tried to the end."""

    stored: int = 0
    failed: int = 0
    """Attempts that are tried again."""
    given_up: int = 0
    """Expired or refused."""
    blocked: dict[FileKind, DownloadsImpossible] = field(default_factory=dict)
    """Why not all files of a kind were tried."""


class Fetcher:
    """Downloads files and stores them."""

    def __init__(self, engine: Engine, access: Access, tokens: TokenStore, store: FileStore, *, max_bytes: int) -> None:
        """*max_bytes*: how large a file may be, in bytes."""
        self._engine = engine
        self._access = access
        self._tokens = tokens
        self._store = store
        self._max_bytes = max_bytes

    def run(
        self,
        *,
        seconds: float,
        stop: Callable[[], bool] = lambda: False,
        after_each: Callable[[], None] = lambda: None,
    ) -> FetchTally:
        """Download what is due until nothing is, *seconds* have passed, or *stop* says so; *after_each*: after each."""
        return asyncio.run(self._run(time.monotonic() + seconds, stop, after_each))

    async def _run(self, deadline: float, stop: Callable[[], bool], after_each: Callable[[], None]) -> FetchTally:
        tally = FetchTally()
        # two threads for each download: one for PostgreSQL and the store, one that may still wait for a token
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * CONCURRENT_DOWNLOADS))

        async def downloader(files: Files) -> None:
            while time.monotonic() < deadline and not stop():
                kinds = [kind for kind in FileKind if kind not in tally.blocked]
                wanted = await asyncio.to_thread(claim, self._engine, kinds) if kinds else None
                if wanted is None:
                    return
                try:
                    await self._download(files, wanted, tally)
                except BaseTimeoutException:
                    for other in downloaders:
                        other.cancel()  # the job has no time left
                    raise
                after_each()

        async with Files(self._access, self._tokens) as files:
            # an error in one downloader does not stop the others
            downloaders = [asyncio.create_task(downloader(files)) for _ in range(CONCURRENT_DOWNLOADS)]
            ended = await asyncio.gather(*downloaders, return_exceptions=True)
        for error in ended:
            if error is not None:
                raise error
        return tally

    async def _download(self, files: Files, wanted: WantedFile, tally: FetchTally) -> None:
        try:
            with span(
                "download file", **{"receiver.download_id": wanted.id, "receiver.kind": wanted.kind.value}
            ) as download:
                stored = await self._store_file(files, wanted)
                download.set_attributes({"receiver.bytes": stored.file_size})
        except BaseTimeoutException:
            raise  # RQ ends the job; the lease gives the receipt back
        except DownloadsImpossible as error:
            tally.blocked[wanted.kind] = error
            await self._failed(wanted, error, tally)
        except DownloadError as error:
            await self._failed(wanted, error, tally)
        except Exception as error:
            log.exception("file.failed", download_id=wanted.id)
            await self._failed(wanted, DownloadError(f"unexpected: {type(error).__name__}"), tally)
        else:
            await asyncio.to_thread(complete_download, self._engine, wanted, stored)
            tally.stored += 1
            log.info("file.stored", download_id=wanted.id, kind=wanted.kind.value, bytes=stored.file_size)

    async def _store_file(self, files: Files, wanted: WantedFile) -> StoredFile:
        with SpooledTemporaryFile(IN_MEMORY) as spooled:
            try:
                fetched = await files.fetch(
                    wanted.url,
                    spooled,
                    max_bytes=self._max_bytes,
                    announced=wanted.content_type,
                    route=wanted.kind.route,
                )
            except OSError as error:
                raise DownloadsImpossible(f"no room in the temporary folder: {error.strerror}") from error
            suffix = accept(fetched.head, announced=(wanted.content_type, fetched.content_type))
            stored = StoredFile(file_key(fetched.sha256, suffix), fetched.size, fetched.sha256)
            await asyncio.to_thread(self._store.keep, spooled, stored.file_key, stored.file_size)
            return stored

    async def _failed(self, wanted: WantedFile, error: DownloadError, tally: FetchTally) -> None:
        status = await asyncio.to_thread(record_failure, self._engine, wanted, error)
        fields = {"download_id": wanted.id, "kind": wanted.kind.value, "attempts": wanted.attempts, "error": str(error)}
        if status == "waiting":
            tally.failed += 1
            log.warning("file.retried", **fields)
        else:
            tally.given_up += 1
            log.error("file.given_up", status=status, **fields)

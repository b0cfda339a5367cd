"""Where files are kept: by the hash of their content, in a folder or in any storage that fsspec can write to.

A file is written under a name of its own and then moved, so that a key has a whole file or none; in a folder
it is on the disk before it is moved. The same content has the same key, and is stored once.
"""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from receiver.errors import ConfigurationError, DownloadsImpossible

if TYPE_CHECKING:
    from collections.abc import Iterator

INCOMING: Final = "incoming"
"""The folder of what is being written."""
LEFT_BEHIND: Final = timedelta(hours=1)
"""Age after which a file in ``INCOMING`` counts as left behind by a process that died."""


def file_key(sha256: str, suffix: str) -> str:
    """Return the name of a file in the store."""
    return f"sha256/{sha256[:2]}/{sha256[2:4]}/{sha256}.{suffix}"


class FileStore:
    """The files at ``FILES_URL``; safe for threads."""

    def __init__(self, files_url: str) -> None:
        """Raise ``ConfigurationError`` when the storage cannot be used at all."""
        try:
            self._files, root = url_to_fs(files_url)
        except ImportError:
            raise ConfigurationError(
                ["FILES_URL needs a library that is not installed; for s3://: pip install 'opencard-receiver[s3]'"]
            ) from None
        except Exception as error:  # noqa: BLE001 - each storage has errors of its own
            raise ConfigurationError([f"FILES_URL is wrong: the storage says {type(error).__name__}"]) from None
        self._root = str(root).rstrip("/")
        self._local = isinstance(self._files, LocalFileSystem)

    def keep(self, content: IO[bytes], key: str, size: int) -> None:
        """Store *content*, which is read from its beginning, under *key*. Raises ``DownloadsImpossible``."""
        with _naming_failures("stored"):
            if self._has(key, size):
                return
            incoming = f"{self._root}/{INCOMING}/{uuid.uuid4().hex}.part"
            self._files.makedirs(self._files._parent(incoming), exist_ok=True)  # noqa: SLF001 - fsspec's own word for it
            try:
                content.seek(0)
                self._write(content, incoming)
                self._move(incoming, f"{self._root}/{key}")
            except BaseException:
                with suppress(Exception):  # the reason is the one above
                    self._files.rm_file(incoming)
                raise

    def has(self, key: str, size: int) -> bool:
        """Return whether a file is stored under *key*, whole. Raises ``DownloadsImpossible``."""
        with _naming_failures("looked at"):
            return self._has(key, size)

    @contextmanager
    def open(self, key: str) -> Iterator[IO[bytes]]:
        """Open a stored file for reading. Raises ``FileNotFoundError``, and whatever the storage raises."""
        with self._files.open(f"{self._root}/{key}", "rb") as opened:
            yield opened

    def path(self, key: str) -> str:
        """Return where a file is: a path, or a URL without credentials."""
        return str(self._files.unstrip_protocol(f"{self._root}/{key}")).removeprefix("file://")

    def sweep(self) -> int:
        """Delete what processes left behind that died while they wrote; return how many files that were."""
        with _naming_failures("looked at"):
            folder = f"{self._root}/{INCOMING}"
            if not self._files.exists(folder):
                return 0
            old = [path for path in self._files.ls(folder, detail=False) if self._is_left_behind(path)]
            for path in old:
                with suppress(FileNotFoundError):
                    self._files.rm_file(path)
            return len(old)

    def _has(self, key: str, size: int) -> bool:
        path = f"{self._root}/{key}"
        return bool(self._files.exists(path)) and self._files.size(path) == size

    def _write(self, content: IO[bytes], path: str) -> None:
        with self._files.open(path, "wb") as opened:
            shutil.copyfileobj(content, opened)
            if self._local:
                opened.flush()
                os.fsync(opened.fileno())

    def _move(self, source: str, target: str) -> None:
        folder = self._files._parent(target)  # noqa: SLF001 - fsspec's own word for it
        self._files.makedirs(folder, exist_ok=True)
        self._files.mv(source, target)
        if self._local:
            _to_disk(Path(folder))

    def _is_left_behind(self, path: str) -> bool:
        try:
            written: Any = self._files.modified(path)
        except (FileNotFoundError, NotImplementedError):
            return False
        return bool(datetime.now(UTC) - written.astimezone(UTC) > LEFT_BEHIND)


def _to_disk(folder: Path) -> None:
    """Flush a folder's list of names to the disk (fsync)."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def _naming_failures(what: str) -> Iterator[None]:
    """Turn whatever a storage raises into one error; its own words may hold addresses and keys."""
    try:
        yield
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise DownloadsImpossible(f"files cannot be {what} at FILES_URL: {reason}") from error

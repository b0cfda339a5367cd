"""The store of files: a file is complete or missing, each content is stored once, in a folder or an object store."""

from __future__ import annotations

import errno
import io
import os
import time
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from receiver.errors import ConfigurationError, DownloadsImpossible
from receiver.files.downloads import FileKind
from receiver.files.store import INCOMING, FileStore, file_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.files.conftest import Receipts

KEY = file_key("ab" + "cd" * 31, "pdf")


class FullDisk(LocalFileSystem):  # type: ignore[misc]
    """A folder on a disk that is full after some bytes."""

    protocol = "full"
    room = 5

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        opened = super().open(path, mode, **options)
        if mode == "wb":
            write = opened.write

            def write_some(content: bytes) -> int:
                write(content[: self.room])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            opened.write = write_some
        return opened


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FileStore]:
    yield FileStore(str(tmp_path) if request.param == "folder" else "memory://receipts")
    MemoryFileSystem.store.clear()


def test_a_file_is_read_as_it_was_written(store: FileStore) -> None:
    store.keep(io.BytesIO(b"content"), KEY, 7)
    with store.open(KEY) as opened:
        assert opened.read() == b"content"
    assert store.path(KEY).endswith(f"/{KEY}")


def test_the_same_key_is_written_once(store: FileStore) -> None:
    store.keep(io.BytesIO(b"content"), KEY, 7)

    class Unread(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise AssertionError("it is there already")

    store.keep(Unread(), KEY, 7)


def test_missing_file_is_reported(store: FileStore) -> None:
    with pytest.raises(FileNotFoundError), store.open(KEY):
        pass


def test_only_leftovers_of_dead_processes_are_deleted(tmp_path: Path) -> None:
    store = FileStore(str(tmp_path))
    assert store.sweep() == 0
    store.keep(io.BytesIO(b"content"), KEY, 7)
    fresh, old = tmp_path / INCOMING / "1.part", tmp_path / INCOMING / "2.part"
    for path in (fresh, old):
        path.write_bytes(b"cont")
    long_ago = time.time() - 7200
    os.utime(old, (long_ago, long_ago))
    assert store.sweep() == 1
    assert [path.exists() for path in (fresh, old, tmp_path / KEY)] == [True, False, True]


def test_missing_storage_library_is_named_with_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("receiver.files.store.url_to_fs", missing)
    with pytest.raises(ConfigurationError, match=r"FILES_URL needs a library .* pip install 'opencard-receiver\[s3\]'"):
        FileStore("s3://bucket/prefix")


def test_full_disk_leaves_no_partial_file_and_is_retried(receipts: Receipts) -> None:
    fsspec.register_implementation("full", FullDisk, clobber=True)
    receipts.files_url = f"full://{receipts.folder}"
    receipts.apply("1.pdf")
    receipts.apply("2.pdf")
    tally = receipts.fetch()
    assert isinstance(tally.blocked[FileKind.RECEIPT], DownloadsImpossible)
    assert receipts.stored() == []
    errors = {row["error"] for row in receipts.acme.rows("SELECT error FROM receiver.receipt_downloads")}
    assert errors - {None} == {"files cannot be stored at FILES_URL: No space left on device"}
    receipts.files_url = ""
    receipts.be_due()
    assert receipts.fetch().stored == 2

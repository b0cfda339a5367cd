"""The target of an export: standard output, or a file that is complete or does not exist."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from receiver.errors import OperationRefused

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def standard_output() -> Iterator[IO[bytes]]:
    """Yield standard output, as bytes."""
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a new file that takes the place of *path* when the block has ended well, on the disk by then.

    Whatever ends it otherwise leaves *path* as it was. A link is followed, and what is no file (a pipe, a device) is
    written to. Raises ``OperationRefused`` when it cannot be written.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        try:
            with path.open("wb") as written:
                yield written
        except OSError as error:
            raise OperationRefused(f"cannot write {path}: {error.strerror}") from None
        return
    try:
        number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise OperationRefused(f"cannot write {path}: {error.strerror}") from None
    half = Path(name)
    try:
        with os.fdopen(number, "wb") as written:
            yield written
            written.flush()
            os.fsync(written.fileno())
        half.chmod(0o666 & ~_umask())
        half.replace(path)
    except OSError as error:
        raise OperationRefused(f"cannot write {path}: {error.strerror}") from None
    finally:
        with suppress(FileNotFoundError):
            half.unlink()


def _umask() -> int:
    """Return which rights new files of this process do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask

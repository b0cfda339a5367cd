"""A file for a secret that is shown only once: created before the secret is, and readable by its owner only."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import FileIO
    from pathlib import Path

MODE: Final = 0o600


@contextmanager
def secret_file(path: Path) -> Iterator[Callable[[str], None]]:
    """Make the file *path* and yield what writes the secret into it; it is removed again if the block fails.

    Raises ``OSError`` when it cannot be made, or is there already, before the block begins.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    # unbuffered: what a full disk did not take is not tried once more when the file is closed
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        try:
            os.fchmod(descriptor, MODE)  # whatever the umask says

            def write(secret: str) -> None:
                _write_whole(file, f"{secret}\n".encode())

            yield write
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _write_whole(file: FileIO, line: bytes) -> None:
    if file.write(line) != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

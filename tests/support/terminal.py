"""A terminal of a given width that a program runs on."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def on_terminal(command: Sequence[object], *, columns: int, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run a program on a terminal, and return its exit code and all that it printed there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    variables = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "NO_COLOR"}}
    with subprocess.Popen(
        [*map(str, command)],
        env={**variables, "TERM": "xterm-256color", **environment},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        printed = bytearray()
        with suppress(OSError):  # which Linux raises at the end
            while part := os.read(ours, 65536):
                printed += part
        os.close(ours)
    return process.returncode, printed.decode().replace("\r\n", "\n")

"""Commands of the program as processes of their own, forked from one that has imported it: the import takes a second.

Each has its own standard output and standard error, as files, and its own exit code, as if a shell had started it.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class ForkedCommands:
    """Runs one command at a time in *folder*."""

    parent: subprocess.Popen[str]
    folder: Path

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        output, errors = self.folder / "output", self.folder / "errors"
        _stream(self.parent.stdin).write(json.dumps([str(output), str(errors), *words]) + "\n")
        _stream(self.parent.stdin).flush()
        code = int(_stream(self.parent.stdout).readline())
        return subprocess.CompletedProcess(words, code, output.read_text(), errors.read_text())


@contextmanager
def forking(environment: dict[str, str], folder: Path) -> Iterator[ForkedCommands]:
    """Start the process that forks, with *environment* in addition to this process's own."""
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", __name__],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        yield ForkedCommands(parent, folder)
        _stream(parent.stdin).close()


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _fork_each_line() -> None:
    from receiver.cli import main  # noqa: PLC0415 - only in the process that forks
    from tests.support.program import commands  # noqa: PLC0415 - likewise

    tuple(commands())  # imports them
    gc.collect()
    gc.freeze()  # else each child would copy all of it when it ends
    for line in sys.stdin:
        output, errors, *words = json.loads(line)
        child = os.fork()
        if child == 0:
            for path, descriptor in ((os.devnull, 0), (output, 1), (errors, 2)):
                os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), descriptor)
            main(words, prog_name="receiver")
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _fork_each_line()

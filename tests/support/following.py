"""Programs that follow the feed, such as the example reader, run as the real processes that they are."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.roles import PASSWORD, libpq

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import URL

ROOT = Path(__file__).parent.parent.parent
EMS_READER = (sys.executable, "-W", "error", str(ROOT / "examples" / "ems_reader.py"))
PYTHON_CLIENT = (sys.executable, "-W", "error", str(ROOT / "clients" / "python" / "example.py"))


class Follower:
    """A running program."""

    def __init__(self, ems: URL, own: URL | None, command: Sequence[str]) -> None:
        self._command = command
        self._environment = {**os.environ, "EMS_URL": libpq(ems)}
        if own is not None:
            self._environment["OWN_URL"] = libpq(own)
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def line(self) -> str:
        """Return the next line that it prints; waits for it."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def complaint(self) -> str:
        """Return the next line of its standard error; waits for it."""
        assert self.process.stderr is not None
        return self.process.stderr.readline().rstrip("\n")

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.communicate()

    def start_again(self) -> None:
        self.kill()
        self.process = self._start()


@contextmanager
def following(
    ems: URL, own: URL | None, way: str = "ledger", program: Sequence[str] = EMS_READER
) -> Iterator[Follower]:
    """Run *program* against *ems* and keep its tables in *own*, if any; it ends with the block."""
    follower = Follower(ems, own, [*program, way])
    try:
        yield follower
    finally:
        follower.kill()


def as_reader(url: URL, role: str) -> URL:
    """Return *url* for a role of the tests."""
    return url.set(username=role, password=PASSWORD)

"""Programs on loopback that are killed and frozen as the loss of a machine would do it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TEMPLATES: Final = Path(__file__).parent
SECONDS: Final = 120
"""How long anything may take on a busy machine."""
POSTGRES_USER: Final = "postgres"
"""The user of Debian's PostgreSQL, which does not run as root."""


def write_configuration(template: str, target: Path, **values: object) -> Path:
    """Fill in a template."""
    target.write_text(Template((TEMPLATES / template).read_text()).substitute({k: str(v) for k, v in values.items()}))
    return target


def own(*folders: Path) -> None:
    """Give folders to the user that PostgreSQL runs as."""
    if os.geteuid() == 0:
        for folder in folders:
            shutil.chown(folder, POSTGRES_USER, POSTGRES_USER)


class Program:
    """A program and all that it started; its log is in a file of its name."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        folder: Path,
        *,
        as_postgres: bool = False,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.log = folder / f"{name}.log"
        self._command = command
        self._environment = dict(environment)
        self._user = POSTGRES_USER if as_postgres and os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen: list[psutil.Process] = []

    def start(self) -> None:
        home = {"HOME": pwd.getpwnam(self._user).pw_dir} if self._user else {}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment | home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it with SIGKILL, with all that it started."""
        family = self.freeze()
        for process in family:
            _signal(process, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        psutil.wait_procs(family, timeout=SECONDS)
        self._frozen = []

    def freeze(self) -> list[psutil.Process]:
        """Stop it where it is, with all that it started: its connections stay open, and nothing answers."""
        seen: set[psutil.Process] = set()
        while found := [process for process in self.family() if process not in seen]:  # what was started meanwhile
            for process in found:
                _signal(process, signal.SIGSTOP)
            seen.update(found)
        self._frozen = list(seen)
        return self._frozen

    def thaw(self) -> None:
        """Let it go on."""
        for process in self._frozen:
            _signal(process, signal.SIGCONT)
        self._frozen = []

    @property
    def has_ended(self) -> bool:
        """Whether it ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def family(self) -> list[psutil.Process]:
        """Return the processes of it that run."""
        return family_of([self._process.pid] if self._process is not None else [])


def family_of(pids: Iterable[int]) -> list[psutil.Process]:
    """Return these processes and their children, as far as they run."""
    found: list[psutil.Process] = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            found += [process, *process.children(recursive=True)]
    return [process for process in found if _runs(process)]


def command_of(process: psutil.Process) -> str:
    """Return its command line; empty once it has ended."""
    with suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)

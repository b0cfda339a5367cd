"""Runs the processes of the Procfile on this machine, for the demo, development and the tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import psutil
from cryptography.fernet import Fernet

from receiver.errors import OperationRefused
from receiver.migrate import project_file
from receiver.sandbox.embedded import LOOPBACK
from receiver.tls import tls_context

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from typing import Self

try:
    from honcho.environ import parse_procfile
except ImportError:
    raise OperationRefused("honcho is missing: it comes with pip install 'opencard-receiver[testing]'") from None

STOP_SECONDS: Final = 40
"""How long a process may take to end after SIGTERM before it is killed."""
READY_SECONDS: Final = 60
POLL_SECONDS: Final = 0.05


def local_environment(
    *,
    database_url: str,
    redis_url: str,
    port: int,
    encryption_key: str | None = None,
    inherited: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """Return the environment of a receiver on this machine: it listens on loopback only."""
    return {
        **inherited,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', '')}",
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "PORT": str(port),
        "PUBLIC_URL": f"http://{LOOPBACK}:{port}",
        "ENCRYPTION_KEYS": encryption_key or Fernet.generate_key().decode(),
        "GUNICORN_CMD_ARGS": f"--bind {LOOPBACK}:{port}",
    }


class ProcfileProcesses:
    """Processes of the Procfile, each with its log in a file; all of them end with the ``with`` block."""

    def __init__(self, environment: Mapping[str, str], logs: Path) -> None:
        self._commands: dict[str, str] = parse_procfile(project_file("Procfile").read_text()).processes
        self._environment = dict(environment)
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop_all()

    def run(self, name: str) -> None:
        """Run a process that ends by itself (``release``). Raises ``OperationRefused`` when it fails."""
        with self.log_of(name).open("ab") as log:
            done = subprocess.run(self._arguments(name), env=self._environment, stdout=log, stderr=log, check=False)
        if done.returncode != 0:
            raise OperationRefused(f"{name} ended with exit code {done.returncode}: see {self.log_of(name)}")

    def start(self, *names: str) -> None:
        """Start processes and leave them running."""
        for name in names:
            with self.log_of(name).open("ab") as log:
                self._running[name] = subprocess.Popen(
                    self._arguments(name),
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl+C reaches us alone, and we end them in order
                )

    def pid(self, name: str) -> int:
        """Return the id of a running process."""
        return self._running[name].pid

    def is_running(self, name: str) -> bool:
        """Return whether the process was started and has not ended."""
        return name in self._running and self._running[name].poll() is None

    def kill(self, name: str, *, with_children: bool = True) -> None:
        """End a process with SIGKILL, and its children with it as a power cut would, unless they are to be left."""
        process = self._running.pop(name)
        family = psutil.Process(process.pid).children(recursive=True) if with_children else []
        process.kill()
        process.wait()
        for child in family:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(family, timeout=STOP_SECONDS)

    def stop(self, *names: str) -> dict[str, int]:
        """End processes with SIGTERM, side by side, and return their exit codes."""
        stopping = {name: self._running.pop(name) for name in names if name in self._running}
        for process in stopping.values():
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        codes = {}
        for name, process in stopping.items():
            try:
                codes[name] = process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
        return codes

    def stop_all(self) -> None:
        """End whatever runs."""
        self.stop(*list(self._running))

    def log_of(self, name: str) -> Path:
        """Return the file that the process logs to."""
        return self._logs / f"{name}.log"

    def _arguments(self, name: str) -> list[str]:
        if name not in self._commands:
            raise OperationRefused(f"the Procfile has no process {name!r}, only {', '.join(self._commands)}")
        return ["/bin/sh", "-c", f"exec {self._commands[name]}"]


def wait_until_ready(public_url: str, processes: ProcfileProcesses, *, needed: Iterable[str] = ("web",)) -> None:
    """Return when the web process takes deliveries.

    Raises ``OperationRefused`` when a needed process ended, or when it takes too long.
    """
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        for name in needed:
            if not processes.is_running(name):
                raise OperationRefused(f"{name} ended at its start: see {processes.log_of(name)}")
        try:
            if httpx.get(f"{public_url}/readyz", verify=tls_context(), timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(POLL_SECONDS)
    raise OperationRefused(f"the web process was not ready within {READY_SECONDS} s: see {processes.log_of('web')}")

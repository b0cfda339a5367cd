"""PostgreSQL falls silent: a way to it over which nothing travels any more, or one of its processes."""

from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from psycopg.conninfo import conninfo_to_dict

from receiver.database_url import libpq_url

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPBACK = "127.0.0.1"


class Way:
    """Forwards what comes to a free port to the server of a database."""

    def __init__(self, database_url: str) -> None:
        self._server = conninfo_to_dict(libpq_url(database_url))
        self._talking = threading.Event()
        self._talking.set()
        self._sockets = [socket.create_server((LOOPBACK, 0))]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        user = f"{self._server['user']}@" if "user" in self._server else ""
        return f"postgresql://{user}{LOOPBACK}:{self._sockets[0].getsockname()[1]}/{self._server['dbname']}"

    def fall_silent(self) -> None:
        self._talking.clear()

    def speak(self) -> None:
        self._talking.set()

    def close(self) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._talking.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._sockets[0].accept()
                server = self._connect()
                self._sockets += [client, server]
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._forward, args=(source, target), daemon=True).start()

    def _connect(self) -> socket.socket:
        host, port = str(self._server.get("host", LOOPBACK)), str(self._server.get("port", 5432))
        if not host.startswith("/"):
            return socket.create_connection((host, int(port)))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._talking.wait()
                target.sendall(data)
        self._talking.wait()  # an end does not travel either
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def way_to(database_url: str) -> Iterator[Way]:
    way = Way(database_url)
    try:
        yield way
    finally:
        way.close()


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process of this machine's PostgreSQL for the length of the block."""
    try:
        os.kill(pid, signal.SIGSTOP)
    except OSError:
        pytest.skip("PostgreSQL is not a process of this machine that this user may stop")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)

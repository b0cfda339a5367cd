from __future__ import annotations

import socket
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import pytest

from receiver.sandbox.embedded import free_port
from receiver.sandbox.processes import ProcfileProcesses, local_environment, wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Acme

ENOUGH_TIME = 30.0
MEBIBYTE = 1024 * 1024


@dataclass
class WebUnderAttack:
    """The web process as the Procfile runs it, for who speaks to it byte by byte."""

    port: int
    processes: ProcfileProcesses

    def send(self, content: bytes, *, close: bool = True) -> bytes:
        """Send bytes, and return all that is answered until the connection ends; empty when it just ends."""
        with closing(self.connect()) as connection:
            answer = b""
            try:
                connection.sendall(content)
                if close:
                    connection.shutdown(socket.SHUT_WR)
                while received := connection.recv(65536):
                    answer += received
            except OSError:
                pass  # it hung up while we were still talking: what was answered by then counts
            return answer

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=ENOUGH_TIME)

    def memory(self) -> int:
        """Return the bytes that its processes hold in memory together."""
        master = psutil.Process(self.processes.pid("web"))
        return sum(int(each.memory_info().rss) for each in (master, *master.children(recursive=True)))


@pytest.fixture(scope="module")
def web(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebUnderAttack]:
    port = free_port()
    given = local_environment(
        database_url=environment["DATABASE_URL"],
        redis_url=environment["REDIS_URL"],
        port=port,
        encryption_key=environment["ENCRYPTION_KEYS"],
    )
    with ProcfileProcesses(given, tmp_path_factory.mktemp("web")) as processes:
        processes.start("web")
        wait_until_ready(given["PUBLIC_URL"], processes)
        yield WebUnderAttack(port, processes)


def request(path: str, headers: dict[str, str], content: bytes = b"", *, method: str = "POST") -> bytes:
    """Return a request's bytes, with its length unless the headers have one."""
    named = {name.lower() for name in headers}
    lengths = {} if named & {"content-length", "transfer-encoding"} else {"Content-Length": str(len(content))}
    lines = [f"{method} {path} HTTP/1.1", "Host: receiver"]
    lines += [f"{name}: {value}" for name, value in {**headers, **lengths}.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


def statuses(answers: bytes) -> list[int]:
    """Return the status of each answer on a connection."""
    return [int(line.split()[1]) for line in answers.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


def genuine(acme: Acme, content: bytes, event: str = "card.transaction.authorized", **headers: str) -> bytes:
    """Return what OpenCard would send, with additional headers."""
    return request(acme.path, {**acme.registration.headers(event, content), **headers}, content)

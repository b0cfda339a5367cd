"""Web processes that end one after the other: no request is cut off, through a proxy or without."""

from __future__ import annotations

import shutil
import subprocess
import time
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from receiver.sandbox.embedded import LOOPBACK, free_port
from receiver.sandbox.processes import wait_until_ready
from receiver.tls import tls_context
from tests.support.senders import Senders, post
from tests.support.waiting import eventually
from tests.support.web_process import SECONDS, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Acme
    from tests.support.web_process import Web

HAPROXY = """
defaults
    mode http
    option redispatch
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout check 30s
frontend front
    bind 127.0.0.1:{port}
    monitor-uri /both
    monitor fail if {{ nbsrv(receiver) lt 2 }}
    default_backend receiver
backend receiver
    option httpchk GET /readyz
    default-server check inter 200ms fall 1 rise 1
    server first 127.0.0.1:{first}
    server second 127.0.0.1:{second}
"""


@pytest.fixture
def web(acme: Acme, environment: dict[str, str], tmp_path: Path) -> Iterator[Web]:
    with running(acme, environment, tmp_path, "--workers 2") as web:
        yield web


def refuses(port: int) -> bool:
    with closing(HTTPConnection(LOOPBACK, port, timeout=SECONDS)) as connection:
        try:
            connection.connect()
        except ConnectionRefusedError:
            return True
    return False


def test_open_connection_is_answered_before_the_process_ends(acme: Acme, web: Web) -> None:
    workers = psutil.Process(web.processes.pid("web")).children()
    with ExitStack() as stack:
        for worker in workers:
            worker.suspend()
        suspended_at = time.monotonic()
        connections = []
        for number in range(20):
            connection = stack.enter_context(closing(HTTPConnection(LOOPBACK, web.port, timeout=SECONDS)))
            post(connection, acme.registration, f"employee-{number}")
            connections.append(connection)
        psutil.Process(web.processes.pid("web")).terminate()
        eventually(lambda: "Handling signal: term" in web.processes.log_of("web").read_text())
        eventually(lambda: time.monotonic() > suspended_at + 1)  # they look once a second whether they are to end
        for worker in workers:
            worker.resume()
        assert [connection.getresponse().status for connection in connections] == [200] * 20


def test_running_request_is_answered_during_shutdown(acme: Acme, web: Web) -> None:
    with closing(HTTPConnection(LOOPBACK, web.port, timeout=SECONDS)) as kept:
        for reference_id in ("first", "second"):
            post(kept, acme.registration, reference_id)
            response = kept.getresponse()
            response.read()
            assert response.status == 200
            if reference_id == "first":
                psutil.Process(web.processes.pid("web")).terminate()
                eventually(lambda: refuses(web.port))
    assert response.getheader("Connection") == "close"


def uses_both(port: int) -> bool:
    """Return whether the proxy has found both servers ready."""
    return httpx.get(f"http://{LOOPBACK}:{port}/both", verify=tls_context(), timeout=SECONDS).status_code == 200


@pytest.mark.long
@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed: apt-get install haproxy")
def test_behind_a_proxy_restarts_one_by_one_lose_no_request(
    acme: Acme, environment: dict[str, str], tmp_path: Path
) -> None:
    with ExitStack() as stack:
        webs = [
            stack.enter_context(running(acme, environment, tmp_path / name, "--workers 2"))
            for name in ("first", "second")
        ]
        front = free_port()
        configuration = tmp_path / "haproxy.cfg"
        configuration.write_text(HAPROXY.format(port=front, first=webs[0].port, second=webs[1].port))
        haproxy = stack.enter_context(subprocess.Popen(["haproxy", "-q", "-f", configuration]))  # noqa: S607
        stack.callback(haproxy.terminate)
        eventually(lambda: not refuses(front))
        eventually(lambda: uses_both(front))
        with ExitStack() as sending:
            senders = Senders(acme.registration, front, sending)
            for web in webs:
                before = senders.answers.total()
                eventually(lambda: senders.answers.total() > before + 200)  # noqa: B023 - called at once
                assert web.processes.stop("web") == {"web": 0}
                web.processes.start("web")
                wait_until_ready(f"http://{LOOPBACK}:{web.port}", web.processes)
                eventually(lambda: uses_both(front))
        assert set(senders.answers) == {200}, senders.answers

"""The web process under gunicorn: clients that are slow, and its end, orderly or not."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest
import stamina
from gunicorn.config import Config  # type: ignore[import-untyped]
from gunicorn.http import wsgi  # type: ignore[import-untyped]
from sqlalchemy import text

from receiver.deliveries import accepted
from receiver.gunicorn_worker import Response
from receiver.sandbox.embedded import LOOPBACK
from receiver.tls import tls_context
from tests.support.session_locks import WAITING
from tests.support.silence import frozen
from tests.support.web_process import SECONDS, Web, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Acme

SLOW_CLIENTS = 600
"""More than a process takes connections."""


@pytest.fixture
def web(acme: Acme, environment: dict[str, str], tmp_path: Path) -> Iterator[Web]:
    with running(acme, environment, tmp_path) as web:
        yield web


def eventually(condition: Callable[[], bool]) -> None:
    for attempt in stamina.retry_context(on=AssertionError, attempts=None, timeout=SECONDS, wait_max=0.1):
        with attempt:
            assert condition()


class SlowClients:
    """Clients that begin a request and then send a byte now and again: after nothing, in the head, and in the body."""

    def __init__(self, web: Web, number: int, stack: ExitStack) -> None:
        head = f"POST {web.acme.path} HTTP/1.1\r\nHost: receiver\r\n"
        beginnings = ["", head + "X-Slow: ", head + "Content-Length: 100000\r\n\r\n"]
        self.sending_a_body = []
        self._all = []
        for count in range(number):
            beginning = beginnings[count % len(beginnings)]
            client = stack.enter_context(closing(socket.create_connection((LOOPBACK, web.port), timeout=SECONDS)))
            client.sendall(beginning.encode())
            self._all.append((client, bool(beginning)))
            if beginning is beginnings[-1]:
                self.sending_a_body.append(client)
        self._ended = threading.Event()
        thread = threading.Thread(target=self._dribble)
        thread.start()
        stack.callback(thread.join)
        stack.callback(self._ended.set)

    def _dribble(self) -> None:
        while not self._ended.wait(0.1):
            for client, has_begun in self._all:
                if has_begun:
                    try:
                        client.send(b"x")
                    except OSError:
                        continue  # it was ended


def test_slow_clients_do_not_block_deliveries(
    web: Web,
) -> None:
    with ExitStack() as stack:
        slow = SlowClients(web, SLOW_CLIENTS, stack)
        assert [web.deliver(f"employee-{number}") for number in range(10)] == [200] * 10
        answer = slow.sending_a_body[0].recv(65536)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"the body ended too early" in answer
    assert web.stored() == {f"employee-{number}" for number in range(10)}


def test_a_connection_that_nothing_comes_over_is_ended(acme: Acme, environment: dict[str, str], tmp_path: Path) -> None:
    head = f"POST {acme.path} HTTP/1.1\r\nHost: receiver\r\n"
    with running(acme, environment, tmp_path, "--keep-alive 1") as web:
        for beginning in ("", head):
            with closing(socket.create_connection((LOOPBACK, web.port), timeout=SECONDS)) as client:
                client.sendall(beginning.encode())
                assert client.recv(65536) == b""
        assert '"level": "error"' not in web.processes.log_of("web").read_text()


def test_an_answer_is_sent_in_one_packet(web: Web) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: receiver\r\n\r\n"
    with closing(socket.create_connection((LOOPBACK, web.port), timeout=SECONDS)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(50):
            client.sendall(request)
            head, _, body = client.recv(65536).partition(b"\r\n\r\n")
            assert f"Content-Length: {len(body)}".encode() in head
            assert body


@pytest.mark.parametrize("version", [(1, 0), (1, 1)])
def test_a_stored_delivery_is_answered_as_gunicorn_would_answer(version: tuple[int, int]) -> None:
    for last in (False, True):
        assert _sent(Response, version, closing=last) == _sent(wsgi.Response, version, closing=last)


def _sent(kind: type[wsgi.Response], version: tuple[int, int], *, closing: bool) -> list[str]:
    """Return the lines of an answer to a stored delivery, without its date, which must be now."""
    request = SimpleNamespace(version=version, method="POST", should_close=lambda: closing)
    packets: list[bytes] = []
    answer = kind(request, SimpleNamespace(sendall=packets.append), Config())
    answer.start_response(accepted.STATUS, accepted.HEADERS)
    answer.write(accepted.BODY)
    answer.close()
    assert answer.should_close() == closing
    lines = b"".join(packets).decode().split("\r\n")
    (date,) = [line for line in lines if line.startswith("Date: ")]
    assert abs(parsedate_to_datetime(date.removeprefix("Date: ")) - datetime.now(UTC)) < timedelta(seconds=SECONDS)
    return [line for line in lines if line != date]


def test_pending_commits_are_answered_during_shutdown(web: Web) -> None:
    names = [f"employee-{number}" for number in range(20)]
    with ThreadPoolExecutor(len(names) + 1) as threads:
        with web.acme.engine.begin() as connection:
            connection.execute(text("LOCK receiver.stored_deliveries IN SHARE MODE"))
            answers = [threads.submit(web.deliver, name) for name in names]
            eventually(lambda: _connections(web) >= len(names))
            ending = threads.submit(web.processes.stop, "web")
            eventually(lambda: "Handling signal: term" in web.processes.log_of("web").read_text())
        assert [answer.result() for answer in answers] == [200] * len(names)
        assert ending.result() == {"web": 0}
    assert web.stored() == set(names)


def test_waiting_for_postgresql_does_not_block_other_requests(web: Web) -> None:
    with ThreadPoolExecutor(1) as threads:
        with web.acme.engine.begin() as connection:
            connection.execute(text("LOCK receiver.stored_deliveries IN SHARE MODE"))
            answer = threads.submit(web.deliver, "employee")
            eventually(lambda: web.acme.value(WAITING) == 1)
            for path, status in (("/healthz", 200), ("/readyz", 503)):  # where it could not store another one
                assert (
                    httpx.get(f"http://{LOOPBACK}:{web.port}{path}", verify=tls_context(), timeout=SECONDS).status_code
                    == status
                )
            assert not answer.done()
        assert answer.result() == 200


def test_a_backend_that_hangs_costs_a_web_process_one_batch(web: Web) -> None:
    assert web.deliver("before") == 200
    committer = web.acme.value(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'receiver web' AND query LIKE '%INSERT INTO%'"
        " AND query LIKE '%receiver.stored_deliveries%' AND datname = current_database()"
        " ORDER BY backend_start DESC LIMIT 1"
    )
    with frozen(committer):
        assert web.deliver("hanging") == 503
        assert web.deliver("after") == 200
    assert {"before", "after"} <= web.stored()


def test_silent_redis_does_not_delay_answers(acme: Acme, environment: dict[str, str], tmp_path: Path) -> None:
    with closing(socket.create_server((LOOPBACK, 0))) as silent:
        silent_url = f"redis://{LOOPBACK}:{silent.getsockname()[1]}/0"
        with running(acme, {**environment, "REDIS_URL": silent_url}, tmp_path) as web:
            names = [f"employee-{number}" for number in range(20)]
            with ThreadPoolExecutor(4) as threads:
                assert list(threads.map(web.deliver, names)) == [200] * len(names)
            assert web.stored() == set(names)


def test_idle_connections_do_not_delay_shutdown(web: Web) -> None:
    with httpx.Client(base_url=f"http://{LOOPBACK}:{web.port}", timeout=SECONDS) as client:
        assert client.get("/healthz").status_code == 200
        eventually(lambda: _connections(web) == 1)
        assert web.processes.stop("web") == {"web": 0}
    assert "Worker exiting" in web.processes.log_of("web").read_text(), "it was killed after the time to end in order"


def test_200_is_stored_even_if_the_process_is_killed(web: Web) -> None:
    answered = []

    def deliver_until_it_is_gone(sender: int) -> None:
        number = 0
        while True:
            name = f"employee-{sender}-{number}"
            try:
                assert web.deliver(name) == 200
            except OSError:
                return
            answered.append(name)
            number += 1

    with ThreadPoolExecutor(8) as threads:
        senders = [threads.submit(deliver_until_it_is_gone, sender) for sender in range(8)]
        eventually(lambda: len(answered) > 100)
        web.processes.kill("web")
        for sender in senders:
            sender.result()
    assert set(answered) <= web.stored()


def _connections(web: Web) -> int:
    """Return how many connections the process has accepted and not ended."""
    (worker,) = psutil.Process(web.processes.pid("web")).children()
    ours = [each for each in worker.net_connections() if each.laddr.port == web.port]
    return sum(each.status == psutil.CONN_ESTABLISHED for each in ours)

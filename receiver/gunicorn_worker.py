"""gunicorn's gevent worker, in which a client that sends slowly cannot hold a connection for long.

A process has a limited number of connections, and a slow client occupies one of them. So a body must arrive within
half a minute after its head. While most connections are in use, the limit is a few seconds, also for a connection that
sends nothing. A request that is too slow is answered with 400, as incomplete, and OpenCard sends it again.

A process that is asked to stop closes its listening socket, answers the open connections and requests that are already
on their way, and then exits: so processes can be replaced one after the other behind a proxy.
"""

from __future__ import annotations

import _socket
import importlib
import os
import socket
import time
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache, partial
from http import HTTPStatus
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from gunicorn.http import wsgi  # type: ignore[import-untyped]
from gunicorn.http.errors import InvalidHeader, UnsupportedTransferCoding  # type: ignore[import-untyped]
from gunicorn.workers.ggevent import GeventWorker, StreamServer  # type: ignore[import-untyped]
from psycopg import waiting

from receiver.deliveries import accepted

if TYPE_CHECKING:
    from collections.abc import Callable

HTTP_1_1: Final = (1, 1)
READ_TIMEOUT: Final = 30.0
"""Seconds within which a body must arrive. For a head, and between requests, the setting ``keepalive`` applies."""
OVERLOAD_READ_TIMEOUT: Final = 2.0
"""Seconds for both while connections are scarce."""
SCARCE: Final = 0.75
"""Share of connections in use from which on they are scarce."""
LAST_REQUEST: Final = 3.0
"""Seconds for which a stopping process accepts one more request on an open connection."""


@dataclass(slots=True)
class _Progress:
    """The state of a connection, in a request or before one, and since when."""

    since: float
    in_request: bool = False


class _Listener:
    """Keeps the address of a listening socket after it was closed: gunicorn asks for it with each connection."""

    def __init__(self, listener: socket.socket) -> None:
        self._address = listener.getsockname()

    def getsockname(self) -> object:
        return self._address


class Server(StreamServer):  # type: ignore[misc]
    """Accepts every pending connection before it stops listening: otherwise they would be closed without an answer."""

    def __init__(self, worker: Worker, listener: socket.socket, *, spawn: object, **others: object) -> None:
        tls = {name: others[name] for name in others.keys() & {"ssl_context"}}
        super().__init__(listener, handle=partial(worker.handle, _Listener(listener)), spawn=spawn, **tls)
        if worker.cfg.workers > 1:
            self.max_accept = 1  # as gunicorn does: leave the others to the other processes

    def close(self) -> None:
        """Accept every pending connection, then close the listening socket.

        It is closed at once, which gevent and its ``os.close`` do not: what connects in between would be reset.
        """
        self.stop_accepting()
        while not self.closed and not self.full() and (connected := self.do_read()):
            self.do_handle(*connected)
        if not self.closed:
            _socket.close(self.socket.detach())
        super().close()


class Worker(GeventWorker):  # type: ignore[misc]
    """Closes connections that send too slowly, and answers every request before it ends."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - gunicorn's
        super().__init__(*args, **kwargs)
        self.server_class = partial(Server, self)
        self._progress: dict[socket.socket, _Progress] = {}
        self._ending_since: float | None = None

    def patch(self) -> None:
        """Let other requests run while the standard library or psycopg waits."""
        super().patch()
        importlib.reload(waiting)  # it chose how to wait when the master imported it, before anything was patched
        wsgi.Response = Response

    def handle(self, listener: _Listener, client: socket.socket, addr: object) -> None:
        """Serve a connection to its end."""
        self._progress[client] = _Progress(time.monotonic())
        try:
            super().handle(listener, client, addr)
        finally:
            del self._progress[client]

    def handle_request(self, listener_name: object, req: object, sock: socket.socket, addr: object) -> None:
        """Serve a request whose head is there."""
        progress = self._progress[sock]
        progress.since, progress.in_request = time.monotonic(), True
        try:
            super().handle_request(listener_name, req, sock, addr)
        finally:
            progress.since, progress.in_request = time.monotonic(), False

    def handle_error(self, req: object, client: socket.socket, addr: object, exc: BaseException) -> None:
        """Answer malformed requests; an unknown transfer coding gets 400, not 501."""
        if isinstance(exc, UnsupportedTransferCoding):
            exc = InvalidHeader(str(exc), req)
        super().handle_error(req, client, addr, exc)

    def timeout_ctx(self) -> AbstractContextManager[None]:
        """Set no timer for a request, unlike gunicorn: ``notify`` ends late requests."""
        return nullcontext()

    def notify(self) -> None:
        """Report to the master that this process is well, and end late requests: gunicorn calls this every second."""
        super().notify()
        now = time.monotonic()
        if not self.alive and self._ending_since is None:
            self._ending_since = now
            for progress in self._progress.values():
                if not progress.in_request:
                    progress.since = now
        timeouts = self._read_timeouts()
        for client, progress in list(self._progress.items()):
            if now - progress.since > timeouts[progress.in_request]:
                _shut_down_reading(client)

    def _read_timeouts(self) -> dict[bool, float]:
        """Return how many seconds to wait for the rest of a request, and for the head of one."""
        scarce = len(self._progress) >= SCARCE * self.worker_connections
        before = self.cfg.keepalive if self.alive else LAST_REQUEST
        return {
            True: OVERLOAD_READ_TIMEOUT if scarce else READ_TIMEOUT,
            False: min(before, OVERLOAD_READ_TIMEOUT) if scarce else before,
        }


class Response(wsgi.Response):  # type: ignore[misc]
    """Sends the head of an answer together with its body, or the first part of it: one packet instead of two.

    The answer to a stored delivery is sent as gunicorn would send it, but prepared: that saves a tenth of a request.
    """

    sock: Any
    status: str | None
    headers_sent: bool
    _prepared = False

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., None]:  # noqa: ANN401 - WSGI's
        """Begin the answer."""
        if headers is not accepted.HEADERS or self.req.version != HTTP_1_1:
            return super().start_response(status, headers, exc_info)  # type: ignore[no-any-return]
        self._prepared, self.status, self.status_code = True, status, HTTPStatus.OK
        self.response_length = len(accepted.BODY)
        return self.write

    def write(self, arg: bytes) -> None:
        """Send *arg*, and before it the head if it was not sent yet."""
        if self.headers_sent:
            super().write(arg)
        elif self._prepared:
            self.headers_sent, self.sent = True, len(arg)
            self.sock.sendall(_answer_to_stored(int(time.time()), closing=self.should_close()))
        else:
            parts: list[bytes] = []
            connection, self.sock = self.sock, SimpleNamespace(sendall=parts.append)
            try:
                super().write(arg)
            finally:
                self.sock = connection
            connection.sendall(b"".join(parts))


@lru_cache(maxsize=2)
def _answer_to_stored(second: int, *, closing: bool) -> bytes:
    """Return the bytes of the answer in a *second* (Unix time)."""
    headers = [
        ("Server", wsgi.SERVER),
        ("Date", formatdate(second, usegmt=True)),
        ("Connection", "close" if closing else "keep-alive"),
        *accepted.HEADERS,
    ]
    head = [f"HTTP/1.1 {accepted.STATUS}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(head).encode() + accepted.BODY


def _shut_down_reading(connection: socket.socket) -> None:
    """Shut down the reading side of *connection*; buffered data is still processed, and answers are sent.

    gevent's own ``shutdown`` would raise an error in the reader, which gunicorn logs with its traceback.
    """
    with suppress(OSError), closing(_socket.socket(fileno=os.dup(connection.fileno()))) as duplicate:
        duplicate.shutdown(socket.SHUT_RD)

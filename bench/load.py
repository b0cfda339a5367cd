"""A load generator that costs little, since it shares the cores with what it loads: prebuilt bytes, one epoll loop."""

from __future__ import annotations

import math
import re
import select
import socket
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bench.report import percentile

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT: Final = 15.0
"""Seconds without any answer after which a run fails."""

_CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_END_OF_HEAD: Final = b"\r\n\r\n"
_OK: Final = b" 200 "


@dataclass(slots=True)
class Timings:
    """When requests (or transactions) ended, on one clock, and how many seconds each took."""

    ended: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    """Which of the requests each was, counted from 0; in the order of the answers, like the others."""

    def __len__(self) -> int:
        return len(self.ended)


@dataclass(frozen=True, slots=True)
class ArrivalPace:
    """What was measured: how many in a second, and how long they took."""

    per_second: float
    p50_ms: float
    p99_ms: float


def pace(timings: Timings, *, warm_up: float, seconds: float) -> ArrivalPace:
    """Return the pace during *seconds* after the first *warm_up* seconds."""
    begin = min(timings.ended) + warm_up
    took = [took for ended, took in zip(timings.ended, timings.took, strict=True) if begin <= ended < begin + seconds]
    return ArrivalPace(len(took) / seconds, 1000 * percentile(took, 50), 1000 * percentile(took, 99))


class KeepAlive:
    """A kept connection that has one request under way at most."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.begun = 0.0
        self._received = b""

    def send(self, request: bytes) -> None:
        """Send a whole request."""
        self._received = b""
        self.begun = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Read what has come; return whether the answer is whole. Raises ``ConnectionError`` unless it is a 200."""
        received = self.socket.recv(65536)
        if not received:
            raise ConnectionResetError("the server closed the connection")
        self._received += received
        head, found, body = self._received.partition(_END_OF_HEAD)
        if not found:
            return False
        if head[8:13] != _OK:
            raise ConnectionError(f"not a 200: {self._received.decode(errors='replace')}")
        length = _CONTENT_LENGTH.search(head + b"\r\n")
        if length is None:
            raise ConnectionError("the answer has no Content-Length")
        return len(body) >= int(length[1])


def load(
    port: int,
    requests: Iterator[bytes],
    *,
    connections: int,
    seconds: float,
    per_second: float = math.inf,
    timings: Timings | None = None,
) -> Timings:
    """Send *requests* for *seconds*, and return when all that were sent are answered.

    Each connection sends when its last request is answered, but all together no more than *per_second*. Pass *timings*
    to read them meanwhile. Raises ``ConnectionError`` for an answer other than 200.
    """
    timings = Timings() if timings is None else timings
    with ExitStack() as stack:
        kept = [KeepAlive(port) for _ in range(connections)]
        by_file = {connection.socket.fileno(): connection for connection in kept}
        for connection in kept:
            stack.callback(connection.socket.close)
        epoll = stack.enter_context(select.epoll())
        for number in by_file:
            epoll.register(number, select.EPOLLIN)
        _drive(epoll, by_file, requests, timings, seconds=seconds, per_second=per_second)
    return timings


def _drive(
    epoll: select.epoll,
    by_file: dict[int, KeepAlive],
    requests: Iterator[bytes],
    timings: Timings,
    *,
    seconds: float,
    per_second: float,
) -> None:
    begun = time.perf_counter()
    idle = deque(by_file)  # taken in turn: the server closes a connection that is not used for long
    places: dict[int, int] = {}
    sent = 0
    while True:
        now = time.perf_counter()
        sending = now < begun + seconds
        while sending and idle and begun + sent / per_second <= now:
            number = idle.popleft()
            places[number] = sent
            by_file[number].send(next(requests))
            sent += 1
        if not sending and len(idle) == len(by_file):
            return
        pause = begun + sent / per_second - now if sending and idle else TIMEOUT
        ready = epoll.poll(pause)
        if not ready and pause == TIMEOUT:
            raise ConnectionError(f"no answer within {TIMEOUT} s")
        for number, _ in ready:
            connection = by_file[number]
            if connection.receive():
                now = time.perf_counter()
                timings.ended.append(now)
                timings.took.append(now - connection.begun)
                timings.places.append(places[number])
                idle.append(number)

"""A relay before a server, whose connections can be made mute."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from receiver.queue import wake_worker
from receiver.sandbox.embedded import LOOPBACK
from tests.support.pools import SECONDS
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from contextlib import ExitStack

    from redis import Redis

    from tests.conftest import Acme


class Relay:
    """Relays to a server; what is connected may be made mute, while new connections work."""

    def __init__(self, port: int, stack: ExitStack) -> None:
        self._to = port
        self._listening = stack.enter_context(socket.create_server((LOOPBACK, 0)))
        self._stack = stack
        self._ended = threading.Event()
        self._mute = threading.Event()
        thread = threading.Thread(target=self._accept)
        thread.start()
        stack.callback(thread.join)
        stack.callback(self._ended.set)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listening.getsockname()[1])

    def mute(self) -> None:
        """Pass nothing on over the connections that exist, in neither direction, and keep them open."""
        self._mute.set()
        self._mute = threading.Event()

    def _accept(self) -> None:
        pairs: list[tuple[socket.socket, socket.socket, threading.Event]] = []
        while not self._ended.is_set():
            passing: dict[socket.socket, socket.socket] = {}
            for one, two, mute in pairs:
                if not mute.is_set():
                    passing |= {one: two, two: one}
            ready, _, _ = select.select([self._listening, *passing], [], [], 0.05)
            for end in ready:
                if end is self._listening:
                    client = self._stack.enter_context(self._listening.accept()[0])
                    try:
                        server = self._stack.enter_context(socket.create_connection((LOOPBACK, self._to)))
                    except OSError:
                        client.close()
                    else:
                        pairs.append((client, server, self._mute))
                else:
                    self._pass_on(end, passing[end])
            pairs = [pair for pair in pairs if pair[0].fileno() >= 0]

    @staticmethod
    def _pass_on(end: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            data = end.recv(65536)
            if data:
                other.sendall(data)
                return
        end.close()
        other.close()


def processed(acme: Acme, redis: Redis) -> bool:
    """Return whether what was delivered is processed; wakes again and again, as the scheduler's sweep does."""

    def done() -> bool:
        wake_worker(redis)
        return set(acme.statuses()) == {"processed"}

    return eventually(done, within=SECONDS)

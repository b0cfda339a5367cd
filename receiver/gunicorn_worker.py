"""gunicorn's threaded worker, in which nobody holds a thread for long by sending slowly.

gunicorn waits in a thread for the rest of a request, however slowly it comes, so a few dozen clients that dribble would
keep all threads from genuine deliveries. Here a request has to be there within half a minute, and within two seconds
while most threads are taken. What comes too slowly is answered as cut off, and OpenCard sends it again.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import Final

from gunicorn.workers.gthread import TConn, ThreadWorker  # type: ignore[import-untyped]

PATIENCE: Final = 30.0
"""Seconds within which a request has to be there."""
PATIENCE_IN_NEED: Final = 2.0
"""The same while threads are scarce."""
SCARCE: Final = 0.75
"""Share of the threads that are taken from which on they are scarce."""
LOOK_SECONDS: Final = 0.5
"""How often the worker looks who is late."""


class Worker(ThreadWorker):  # type: ignore[misc]
    """Ends what is sent too slowly; the rest is gunicorn's own."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._begun: dict[TConn, float] = {}
        self._next_look = 0.0

    def handle(self, conn: TConn) -> object:
        """Handle a request, in a thread."""
        self._begun[conn] = time.monotonic()
        try:
            return super().handle(conn)
        finally:
            del self._begun[conn]

    def murder_pending(self) -> None:
        """End what is late; the main thread calls this in each turn of its loop."""
        super().murder_pending()
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        under_way = list(self._begun.items())
        patience = PATIENCE_IN_NEED if len(under_way) >= SCARCE * self.cfg.threads else PATIENCE
        for connection, begun in under_way:
            if now - begun > patience:
                _read_no_more(connection.sock)


def _read_no_more(connection: socket.socket) -> None:
    """Make who reads from *connection* see its end; what is still to be sent is sent."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RD)

"""A reader of the change feed that survives every kill: it asks for what follows the last position it saw."""

from __future__ import annotations

import threading
from contextlib import closing, suppress
from typing import Final

import psycopg

_NEXT: Final = "SELECT position, delivery_id FROM ems.events WHERE position > %s ORDER BY position LIMIT 1000"
PAUSE: Final = 0.02
PAUSE_AFTER_FAILURE: Final = 0.2


class FeedReader:
    """Reads in a thread until it is stopped; starts again where it was whenever PostgreSQL was away."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._last = 0
        self.seen: list[int] = []
        """The delivery of each event, in the order of the feed."""
        self.positions: list[int] = []
        """Their positions, in the same order."""
        self._thread = threading.Thread(target=self._run, name="follower")
        self._thread.start()

    def finish(self) -> list[int]:
        """Read what is left, end, and return the delivery of each event that was seen."""
        self.stop()
        with closing(psycopg.connect(self._url, autocommit=True)) as connection:
            while self._read(connection):
                pass
        return self.seen

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            with suppress(psycopg.Error), closing(psycopg.connect(self._url, autocommit=True)) as connection:
                while not self._stop.is_set():
                    self._read(connection)
                    self._stop.wait(PAUSE)
            self._stop.wait(PAUSE_AFTER_FAILURE)

    def _read(self, connection: psycopg.Connection) -> int:
        rows = connection.execute(_NEXT, (self._last,)).fetchall()
        for position, delivery_id in rows:
            self._last = position
            self.seen.append(delivery_id)
            self.positions.append(position)
        return len(rows)

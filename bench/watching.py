"""What looks at a receiver under load: at its feed, its console, its backlog and its memory; and a consumer.

Each function runs in a separate process, so that none waits for another. Times are those of ``time.perf_counter``,
which is one clock for all processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from bisect import bisect_left, bisect_right
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import psycopg

from bench import console
from bench.chaos.resources import MEBIBYTE, process_use
from receiver.records.epochs import CHANNEL
from receiver.sandbox.local import READER, LocalServers, reader_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from receiver.sandbox.console_access import ConsoleAccess

PAGES_PER_SECOND: Final = 4
SAMPLE_SECONDS: Final = 1.0
TIMEOUT: Final = 600.0
OWN: Final = "bench_own"
"""The database of the consumer."""
PROGRAM: Final = Path(__file__).parent.parent / "examples" / "ems_reader.py"
END: Final = "bench_end"
"""The channel on which ``listen`` is asked to end."""
LISTENING: Final = f"SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN {CHANNEL}' AND state = 'idle'"
QUEUED: Final = "SELECT count(*) FROM receiver.queue WHERE due_at <= now()"
CONSUMED: Final = f"SELECT coalesce(max(position), 0) FROM ems.consumers WHERE name = '{READER}'"
NEWEST: Final = "SELECT coalesce(max(position), 0) FROM ems.events"


@dataclass(frozen=True, slots=True)
class Feed:
    """When the events of the feed became visible: the last position of each commit, and its time."""

    times: list[float]
    positions: list[int]

    def visible_at(self, position: int) -> float:
        """Return when an event became visible."""
        return self.times[bisect_left(self.positions, position)]

    def lag(self, consumed: int, at: float) -> float:
        """Return for how many seconds the next event after the position *consumed* had been visible then."""
        place = bisect_right(self.positions, consumed)
        return max(0.0, at - self.times[place]) if place < len(self.times) else 0.0


@dataclass(frozen=True, slots=True)
class PageView:
    """A page of the console that was read."""

    at: float
    took_ms: float


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at a moment."""

    at: float
    queued: int
    consumed: int
    """The position of the consumer."""
    memory: dict[str, float]
    """MiB of the largest process of each of the Procfile: job processes come and go."""


def listen(url: str) -> Feed:
    """Return when the events of the feed became visible, until the end is notified."""
    feed = Feed([], [])
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        connection.execute(f"LISTEN {END}")
        connection.execute(f"LISTEN {CHANNEL}")
        for notice in connection.notifies():
            if notice.channel == END:
                break
            feed.times.append(time.perf_counter())
            feed.positions.append(int(notice.payload))
    return feed


def read_pages(public_url: str, access: ConsoleAccess, deliveries: int, until: float) -> list[PageView]:
    """Read the pages of the console in turn."""
    views: list[PageView] = []
    paths = cycle(console.page_paths(deliveries).values())
    with httpx.Client(base_url=public_url + "/ops/", timeout=60) as client:
        console.sign_in(client, access)
        while time.perf_counter() < until:
            views.append(PageView(time.perf_counter(), console.read_page(client, next(paths))))
            time.sleep(1 / PAGES_PER_SECOND)
    return views


def watch(url: str, pids: Mapping[str, int], until: float) -> list[Sample]:
    """Take samples."""
    samples: list[Sample] = []
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        while time.perf_counter() < until:
            consumed = number(connection, CONSUMED)
            at = time.perf_counter()
            memory = {name: process_use(pid).memory / MEBIBYTE for name, pid in pids.items()}
            samples.append(Sample(at, number(connection, QUEUED), consumed, memory))
            time.sleep(SAMPLE_SECONDS)
    return samples


@contextmanager
def consuming(servers: LocalServers) -> Iterator[None]:
    """Run the reader of the examples, with a separate database."""
    environment = {
        **os.environ,
        "EMS_URL": reader_address(servers.engine),
        "OWN_URL": servers.postgres.create_database(OWN, drop_first=True),
    }
    with (servers.folder / "logs" / "consumer.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, PROGRAM, "ledger"], env=environment, stdout=subprocess.DEVNULL, stderr=log
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def number(connection: psycopg.Connection, question: str, *values: object) -> int:
    """Return the number that PostgreSQL answers."""
    row = connection.execute(question.encode(), values).fetchone()
    assert row is not None
    return int(row[0])


def wait_until(is_so: Callable[[], bool]) -> None:
    """Return when it is so. Raises ``TimeoutError``."""
    deadline = time.monotonic() + TIMEOUT
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {TIMEOUT:.0f} s")
        time.sleep(0.05)

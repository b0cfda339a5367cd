"""New deliveries first: from the POST of a new purchase to its row in ``ems``, while a large backlog waits."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from itertools import islice
from typing import TYPE_CHECKING, Final

from redis import Redis

from bench import common
from bench.load import KeepAlive
from bench.report import BenchmarkReport, ReportTarget, Row, percentile, ratio
from receiver.queue import wake_worker
from receiver.sandbox.local import ORGANIZATIONS, LocalServers, local_servers
from receiver.sandbox.processes import ProcfileProcesses, wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    from rich.progress import Progress

    from receiver.sandbox.registration import Registration

WAITING: Final = 100_000
SAMPLES: Final = 30
"""New purchases in each round, as long as the backlog waits."""
FEWEST: Final = 10
PAUSE: Final = 0.2
TIMEOUT: Final = 60.0
LIMIT_MS: Final = 1000.0
PROCESSES: Final = ("worker", "scheduler")

LIMIT: Final = "limit"
BACKLOG: Final = f"while {WAITING:,} deliveries wait"
REST: Final = "while nothing waits"
P50: Final = "p50, ms"
WORST: Final = "slowest, ms"

_HAS_BACKLOG: Final = "EXISTS (SELECT FROM receiver.queue WHERE due_at <= now() - interval '1 s')"
_VISIBLE: Final = "SELECT EXISTS (SELECT FROM ems.transactions WHERE organization_reference_id = %s AND id = %s)"


def run(rounds: int, progress: Progress) -> BenchmarkReport:
    """Measure in turns and return the report."""
    took: dict[str, list[list[float]]] = {BACKLOG: [], REST: []}
    task = progress.add_task("new first", total=2 * rounds)
    new = common.snapshots(rounds * (WAITING + 2 * SAMPLES))
    with ExitStack() as stack:
        servers = stack.enter_context(local_servers("bench"))
        connection = stack.enter_context(closing(common.connect(servers)))
        registration = common.register(servers)
        processes = stack.enter_context(ProcfileProcesses(servers.environment, servers.folder / "logs"))
        processes.start("web")
        wait_until_ready(servers.settings.public_url, processes)
        for _ in range(rounds):
            common.empty_tables(connection)
            common.store_all(connection, registration, list(islice(new, WAITING)))
            common.settle_down(connection)
            processes.start(*PROCESSES)
            _wait_for(connection, "SELECT EXISTS (SELECT FROM ems.transactions)", servers)
            sample = _Sample(servers, connection, registration, list(islice(new, 2 * SAMPLES)))
            took[BACKLOG].append(list(islice(sample.with_backlog(), SAMPLES)))
            progress.advance(task)
            _wait_for(connection, f"SELECT NOT {_HAS_BACKLOG}", servers)
            took[REST].append(list(islice(sample.each(), SAMPLES)))
            processes.stop(*PROCESSES)
            progress.advance(task)
    fewest = min(len(times) for times in took[BACKLOG])
    assert fewest >= FEWEST, f"the backlog was processed after {fewest} new purchases"
    figures = {
        name: {
            P50: [percentile(times, 50) for times in of_rounds],
            WORST: [max(times) for times in of_rounds],
        }
        for name, of_rounds in took.items()
    }
    limit = {P50: [LIMIT_MS], WORST: [LIMIT_MS]}
    return BenchmarkReport(
        "New deliveries first: from the POST of a new purchase to its row",
        [Row(LIMIT, limit), *(Row(name, figures[name], compared_with=LIMIT) for name in figures)],
        [
            ReportTarget(
                "slowest new purchase of any round, with the backlog / limit",
                max(figures[BACKLOG][WORST]) / LIMIT_MS,
                at_most=1,
            ),
            ReportTarget("p50 with the backlog / limit", ratio(figures[BACKLOG][P50], [LIMIT_MS]), at_most=1),
        ],
        settings=f"The limit is a second. One worker, {WAITING:,} deliveries stored before it starts.",
    )


def _wait_for(connection: psycopg.Connection, question: str, servers: LocalServers) -> None:
    """Wake a worker, and return when PostgreSQL says yes. Raises ``TimeoutError``."""
    with closing(Redis.from_url(servers.valkey.url)) as redis:
        wake_worker(redis)
    deadline = time.monotonic() + TIMEOUT
    while not _is_true(connection, question):
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {TIMEOUT} s PostgreSQL still says no: {question}")
        time.sleep(0.05)


def _is_true(connection: psycopg.Connection, question: str, *values: str) -> bool:
    row = connection.execute(question.encode(), values).fetchone()
    return row is not None and bool(row[0])


class _Sample:
    """New purchases, one after the other, and the milliseconds until each is a row."""

    def __init__(
        self,
        servers: LocalServers,
        connection: psycopg.Connection,
        registration: Registration,
        purchases: list[common.Snapshot],
    ) -> None:
        self._port = servers.settings.port
        self._connection = connection
        self._registration = registration
        self._purchases = iter(purchases)

    def with_backlog(self) -> Iterator[float]:
        """Yield the milliseconds of each, as long as the backlog waits."""
        for took in self.each():
            if not _is_true(self._connection, f"SELECT {_HAS_BACKLOG}"):
                return
            yield took

    def each(self) -> Iterator[float]:
        """Yield the milliseconds of each."""
        for purchase in self._purchases:
            request = common.request_bytes(self._registration, purchase.body, port=self._port)
            client = KeepAlive(self._port)
            with closing(client.socket):
                client.send(request)
                while not client.receive():
                    pass
            while not _is_true(self._connection, _VISIBLE, ORGANIZATIONS[0], purchase.transaction_id):
                if time.perf_counter() - client.begun > TIMEOUT:
                    raise TimeoutError(f"a new purchase was not visible after {TIMEOUT} s")
                time.sleep(0.002)
            yield 1000 * (time.perf_counter() - client.begun)
            time.sleep(PAUSE)

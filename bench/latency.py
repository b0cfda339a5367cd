"""Latency: from the POST to the row that the EMS can read, at low load, with every process of the Procfile.

Compared with the same trip without RQ: the sender processes pending deliveries itself, at once. A job stays
for some seconds when it has done its work, and the scheduler's sweep comes again before it ends: what finds no job is
measured apart, without the scheduler.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Final

from redis import Redis

from bench import common
from bench.load import KeepAlive
from bench.report import BenchmarkReport, ReportTarget, Row, percentile, ratio
from receiver.processing.drain import drain
from receiver.records.epochs import CHANNEL
from receiver.sandbox.local import LocalServers, local_servers, running_receiver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.progress import Progress

    from receiver.sandbox.registration import Registration

PER_SECOND: Final = 10
SAMPLES: Final = 100
"""In each round."""
WARM_UP: Final = 10
"""Samples before the first round that do not count."""
RESTS: Final = 5
"""Samples after a rest in each round."""
TIMEOUT: Final = 30.0
WORKERS: Final = ("worker", "scheduler")
P50: Final = "p50, ms"
P99: Final = "p99, ms"

ANSWERED: Final = "POST to 200"
VISIBLE: Final = "POST to visible in ems.transactions"
RESTED: Final = "the same after a rest, when no job is there"
WITHOUT_RQ: Final = "the same without RQ"

_NEW: Final = """
SELECT event.transaction_id, event.position FROM ems.events AS event
JOIN ems.transactions AS transaction ON transaction.organization_reference_id = event.organization_reference_id
    AND transaction.id = event.transaction_id
WHERE event.position > %s
"""


def run(rounds: int, progress: Progress) -> BenchmarkReport:
    """Measure in turns and return the report."""
    took: dict[str, list[list[float]]] = {ANSWERED: [], VISIBLE: [], RESTED: [], WITHOUT_RQ: []}
    task = progress.add_task("latency", total=2 * rounds)
    supply = common.snapshots(2 * rounds * (WARM_UP + SAMPLES + RESTS))
    with local_servers("bench") as servers, running_receiver(servers) as processes:
        registration = common.register(servers)
        for number in range(2 * rounds):
            by_rq = number % 2 == 0
            if number:  # they run already
                (processes.start if by_rq else processes.stop)(*WORKERS)
            for samples in (WARM_UP, SAMPLES):
                a_round = _Round(servers, registration, list(islice(supply, samples)), at_once=not by_rq)
                answered, visible = a_round.measure()
            took[VISIBLE if by_rq else WITHOUT_RQ].append(visible)
            if by_rq:
                took[ANSWERED].append(answered)
                processes.stop("scheduler")
                rested = _Round(servers, registration, list(islice(supply, RESTS)), after_rest=True)
                took[RESTED].append(rested.measure()[1])
            progress.advance(task)
    figures = {name: _figures(of_rounds) for name, of_rounds in took.items()}
    longer = ratio(figures[VISIBLE][P50], figures[WITHOUT_RQ][P50])
    return BenchmarkReport(
        f"Latency at {PER_SECOND} requests a second",
        [
            Row(name, figures[name], compared_with="" if name == WITHOUT_RQ else WITHOUT_RQ)
            for name in (WITHOUT_RQ, ANSWERED, VISIBLE, RESTED)
        ],
        [ReportTarget("POST to visible / the same without RQ", longer, at_most=3)],
        settings=f"{SAMPLES} deliveries in each round, and {RESTS} after a rest.",
    )


def _figures(of_rounds: list[list[float]]) -> dict[str, list[float]]:
    return {
        P50: [1000 * percentile(took, 50) for took in of_rounds],
        P99: [1000 * percentile(took, 99) for took in of_rounds],
    }


class _Round:
    """Sends at fixed times, however long the ones before take, and listens for what becomes visible.

    *at_once*: what was answered is processed here, and nobody is woken for it. *after_rest*: each is sent when the
    worker has had nothing to do for so long that its job has ended.
    """

    def __init__(
        self,
        servers: LocalServers,
        registration: Registration,
        sent: Sequence[common.Snapshot],
        *,
        at_once: bool = False,
        after_rest: bool = False,
    ) -> None:
        self._servers = servers
        self._at_once = at_once
        self._after_rest = after_rest
        port = servers.settings.port
        self._requests = [
            (snapshot.transaction_id, common.request_bytes(registration, snapshot.body, port=port)) for snapshot in sent
        ]
        self._begun: dict[str, float] = {}
        self._answered: list[float] = []

    def measure(self) -> tuple[list[float], list[float]]:
        """Return the seconds that each took until the answer, and until it was visible."""
        with closing(common.connect(self._servers)) as connection:
            connection.execute(f"LISTEN {CHANNEL}")
            row = connection.execute("SELECT coalesce(max(position), 0) FROM ems.events").fetchone()
            assert row is not None
            position = int(row[0])
            sender = threading.Thread(target=self._send_all, name="sender")
            sender.start()
            visible: dict[str, float] = {}
            while len(visible) < len(self._requests):
                if not list(connection.notifies(timeout=TIMEOUT, stop_after=1)):
                    raise TimeoutError(f"nothing became visible within {TIMEOUT} s")
                for transaction_id, new_position in connection.execute(_NEW, (position,)).fetchall():
                    visible[transaction_id] = time.perf_counter()
                    position = max(position, new_position)
            sender.join()
        return self._answered, [at - self._begun[transaction_id] for transaction_id, at in visible.items()]

    def _send_all(self) -> None:
        connection = KeepAlive(self._servers.settings.port)
        due = time.perf_counter()
        with closing(connection.socket):
            for transaction_id, request in self._requests:
                if self._after_rest:
                    with closing(Redis.from_url(self._servers.valkey.url)) as redis:
                        common.wait_for_idle_workers(redis, 1, within=TIMEOUT)
                else:
                    time.sleep(max(0.0, due - time.perf_counter()))
                    due += 1 / PER_SECOND
                self._begun[transaction_id] = time.perf_counter()
                connection.send(request)
                while not connection.receive():
                    pass
                self._answered.append(time.perf_counter() - connection.begun)
                if self._at_once:
                    drain(self._servers.engine)

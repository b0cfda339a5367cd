"""Latency: from the POST to the row that the EMS can read, at low load, with every process of the Procfile."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

from bench import ground
from bench.load import KeepAlive
from bench.report import Report, Row, percentile
from receiver.records.feed import CHANNEL
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
PATIENCE: Final = 30.0

ANSWERED: Final = "POST to 200"
VISIBLE: Final = "POST to visible in ems.transactions"

_NEW: Final = """
SELECT event.transaction_id, event.position FROM ems.events AS event
JOIN ems.transactions AS transaction ON transaction.organization_reference_id = event.organization_reference_id
    AND transaction.id = event.transaction_id
WHERE event.position > %s
"""


def run(rounds: int, progress: Progress) -> Report:
    """Measure *rounds* times and return the report."""
    figures: dict[str, dict[str, list[float]]] = {name: {"p50, ms": [], "p99, ms": []} for name in (ANSWERED, VISIBLE)}
    task = progress.add_task("latency", total=rounds)
    supply = list(ground.snapshots(WARM_UP + rounds * SAMPLES))
    with local_servers("bench") as servers, running_receiver(servers):
        registration = ground.register(servers)
        _Round(servers, registration, supply[:WARM_UP]).measure()
        for number in range(rounds):
            begin = WARM_UP + number * SAMPLES
            measured = _Round(servers, registration, supply[begin : begin + SAMPLES]).measure()
            for name, took in measured.items():
                figures[name]["p50, ms"].append(1000 * percentile(took, 50))
                figures[name]["p99, ms"].append(1000 * percentile(took, 99))
            progress.advance(task)
    return Report(f"Latency at {PER_SECOND} requests a second", [Row(name, figures[name]) for name in figures])


class _Round:
    """Sends at fixed times, however long the ones before take, and listens for what becomes visible."""

    def __init__(self, servers: LocalServers, registration: Registration, sent: Sequence[ground.Snapshot]) -> None:
        self._servers = servers
        port = servers.settings.port
        self._requests = [
            (snapshot.transaction_id, ground.request_bytes(registration, snapshot.body, port=port)) for snapshot in sent
        ]
        self._begun: dict[str, float] = {}
        self._answered: list[float] = []

    def measure(self) -> dict[str, list[float]]:
        """Return the seconds that each took until the answer, and until it was visible."""
        with closing(ground.connect(self._servers)) as connection:
            connection.execute(f"LISTEN {CHANNEL}")
            row = connection.execute("SELECT coalesce(max(position), 0) FROM ems.events").fetchone()
            assert row is not None
            position = int(row[0])
            sender = threading.Thread(target=self._send_all, name="sender")
            sender.start()
            visible: dict[str, float] = {}
            while len(visible) < len(self._requests):
                if not list(connection.notifies(timeout=PATIENCE, stop_after=1)):
                    raise TimeoutError(f"nothing became visible within {PATIENCE} s")
                for transaction_id, new_position in connection.execute(_NEW, (position,)).fetchall():
                    visible[transaction_id] = time.perf_counter()
                    position = max(position, new_position)
            sender.join()
        took = [at - self._begun[transaction_id] for transaction_id, at in visible.items()]
        return {ANSWERED: self._answered, VISIBLE: took}

    def _send_all(self) -> None:
        connection = KeepAlive(self._servers.settings.port)
        due = time.perf_counter()
        with closing(connection.socket):
            for transaction_id, request in self._requests:
                time.sleep(max(0.0, due - time.perf_counter()))
                due += 1 / PER_SECOND
                self._begun[transaction_id] = time.perf_counter()
                connection.send(request)
                while not connection.receive():
                    pass
                self._answered.append(time.perf_counter() - connection.begun)

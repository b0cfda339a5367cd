"""Sends purchases of many organizations, and adds what was answered to OpenCard's delivery log."""

from __future__ import annotations

import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import TYPE_CHECKING, Final

from bench import common
from bench.delivery_log import OK
from bench.load import Timings, load
from receiver.sandbox.tally import DeliveryAttempt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.delivery_log import BenchmarkLog
    from receiver.sandbox.registration import Registration

CONNECTIONS: Final = 32
LOG_EVERY: Final = 0.2
"""Seconds after which what was answered is added to the log."""


class Sender:
    """Sends to each registration in turn, each time a purchase that was never sent."""

    def __init__(self, port: int, registrations: Sequence[Registration], log: BenchmarkLog) -> None:
        self._port = port
        self._registrations = registrations
        self._log = log
        self._unlogged: dict[int, common.Snapshot] = {}
        self._requests = self._supply()
        self.sent = 0
        """How many were answered 200."""
        self.begun: dict[str, float] = {}
        """When each request began, by its transaction, on the clock of ``time.perf_counter``."""

    def send(self, seconds: float, per_second: float = math.inf) -> Timings:
        """Send for *seconds*, and return when all is answered and in the log."""
        timings = Timings()
        logged = 0
        with ThreadPoolExecutor(1) as executor:
            sending = executor.submit(
                load,
                self._port,
                self._requests,
                connections=CONNECTIONS,
                seconds=seconds,
                per_second=per_second,
                timings=timings,
            )
            while not sending.done() or logged < len(timings.places):
                wait([sending], timeout=LOG_EVERY)
                answered = len(timings.places)
                self._log.add([self._attempt(timings, place) for place in range(logged, answered)])
                logged = answered
            sending.result()
        self.sent += logged
        return timings

    def _supply(self) -> Iterator[bytes]:
        turns = cycle(self._registrations)
        organizations = [each.organization_reference_id for each in self._registrations]
        for count, snapshot in enumerate(common.snapshots(sys.maxsize, organizations)):
            self._unlogged[count] = snapshot
            yield common.request_bytes(next(turns), snapshot.body, port=self._port)

    def _attempt(self, timings: Timings, answered: int) -> DeliveryAttempt:
        snapshot = self._unlogged.pop(self.sent + timings.places[answered])
        begun = timings.ended[answered] - timings.took[answered]
        self.begun[snapshot.transaction_id] = begun
        at = datetime.now(UTC) - timedelta(seconds=time.perf_counter() - begun)
        return DeliveryAttempt(snapshot.organization, common.EVENT, OK, at, snapshot.body)

"""Tracing: intake with traces recorded and sent to a collector on loopback, compared with intake without.

The turns are short and alternate, because the difference is small compared with what else a machine does. The time that
the web processes spend on a processor for a delivery varies less than deliveries a second.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median
from threading import Thread
from typing import TYPE_CHECKING, Final

import psutil

from bench import common
from bench.intake import MANY, loading, prepare, served
from bench.load import ArrivalPace, pace
from bench.report import BenchmarkReport, ReportTarget, Row
from receiver.sandbox.local import local_servers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.progress import Progress

    from bench.report import Rounds

TURNS: Final = 6
"""Turns of each in a round."""
SECONDS: Final = 2.5
OFF: Final = "off"
SAMPLED: Final = "1 % sampled, as documented"
SHARE: Final = "0.01"
MISSED: Final = "The rounds of both differ by more than this: the machine is too noisy to tell."


class Sink(BaseHTTPRequestHandler):
    """Takes what is sent, and forgets it."""

    protocol_version = "HTTP/1.1"
    requests = 0

    def do_POST(self) -> None:
        """Answer at once."""
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).requests += 1
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Log nothing."""


@contextmanager
def sink() -> Iterator[str]:
    """Take traces on loopback; yield the endpoint."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Sink) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def run(rounds: int, progress: Progress) -> BenchmarkReport:
    """Measure in turns, a few in each round, and return the report."""
    paces: dict[str, list[ArrivalPace]] = {name: [] for name in (OFF, SAMPLED)}
    processor: dict[str, list[float]] = {name: [] for name in paces}
    turns = TURNS * rounds
    task = progress.add_task("tracing", total=turns * len(paces))
    with ExitStack() as stack:
        servers = stack.enter_context(local_servers("bench"))
        registration = common.register(servers)
        endpoint = stack.enter_context(sink())
        webs = {
            name: stack.enter_context(served(servers, "receiver.wsgi:app", inherited=_environment(name, endpoint)))
            for name in paces
        }
        prepare(servers)
        measures = {name: loading(registration, web.port, seconds=SECONDS) for name, web in webs.items()}
        answered = sum(len(measures[name](MANY)) for name in paces)  # to warm up
        for number in range(turns):
            for name in list(paces)[:: 1 if number % 2 else -1]:
                before = _processor_seconds(webs[name].pid)
                timings = measures[name](MANY)
                spent = _processor_seconds(webs[name].pid) - before
                paces[name].append(pace(timings, warm_up=0, seconds=SECONDS))
                processor[name].append(1_000_000 * spent / len(timings))
                answered += len(timings)
                progress.advance(task)
        stored = common.count(servers, "receiver.stored_deliveries")
        assert stored == answered, f"{answered} requests were answered 200, but {stored} are stored"
        assert Sink.requests, "nothing was sent to the collector"
    return _report(paces, processor)


def _environment(name: str, endpoint: str) -> Mapping[str, str]:
    if name == OFF:
        return os.environ
    return {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": SHARE,
    }


def _processor_seconds(pid: int) -> float:
    """Return how long the web processes of a master have run on a processor."""
    times = [worker.cpu_times() for worker in psutil.Process(pid).children()]
    return float(sum(each.user + each.system for each in times))


def _of_neighbours(one: Rounds, other: Rounds) -> float:
    """Return the median of the ratios of turns that followed each other."""
    return median(mine / others for mine, others in zip(one, other, strict=True))


def _report(paces: dict[str, list[ArrivalPace]], processor: dict[str, list[float]]) -> BenchmarkReport:
    rate = {name: [pace.per_second for pace in measured] for name, measured in paces.items()}
    rows = [
        Row(
            name,
            {
                "per second": rate[name],
                "processor, µs": processor[name],
                "p50, ms": [pace.p50_ms for pace in measured],
                "p99, ms": [pace.p99_ms for pace in measured],
            },
            compared_with="" if name == OFF else OFF,
        )
        for name, measured in paces.items()
    ]
    return BenchmarkReport(
        "Tracing: intake with OpenTelemetry",
        rows,
        [
            ReportTarget(
                "deliveries a second, 1 % sampled / off",
                _of_neighbours(rate[SAMPLED], rate[OFF]),
                at_least=0.97,
                if_missed=MISSED,
            ),
        ],
        settings=(
            f"Two web processes, {MANY} connections; turns of {SECONDS} s alternate. The goal is the median of the "
            "ratios of neighbouring turns."
        ),
    )

"""Intake: requests a second compared with pgbench's inserts, another receiver, simpler ways, and its own parts."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, closing, contextmanager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from redis import Redis

from bench import common, peer, plain
from bench.load import ArrivalPace, Timings, load, pace
from bench.pgbench import inserting
from bench.report import BenchmarkReport, ReportTarget, Row, ratio
from receiver.sandbox.embedded import free_port
from receiver.sandbox.local import LocalServers, local_servers
from receiver.sandbox.processes import ProcfileProcesses, local_environment, wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.progress import Progress

    from receiver.sandbox.registration import Registration

FEW: Final = 8
MANY: Final = 32
"""Connections that are kept and have one request under way each."""
MAX_CONNECTIONS: Final = 250
"""The max_connections of PostgreSQL during the benchmark."""
WARM_UP: Final = 1.0
SECONDS: Final = 4.0
REQUESTS: Final = 300
START_SECONDS: Final = 30

LIMIT: Final = "limit: pgbench, equal rows"
RATE_MISSED: Final = (
    "The sender shares the two cores with what it measures. gunicorn alone, reading a request and answering it, takes "
    "a third of the processor's time for a delivery; another core for the sender would show more. What was tried is "
    "said at 8 connections."
)
WORST_MISSED: Final = (
    "A delivery waits for the commit before its own, and for its turn at a core that it shares with the sender and "
    "PostgreSQL. Threads were tried instead of gevent: twice as slow at their worst."
)
FEW_MISSED: Final = (
    "With few requests under way a batch is small: few share its commit, and the two switches between the requests "
    "and the committer. Tried, each with the part of the earlier processor time of the web process that a request "
    "then took, over 8 and over 32 connections. Kept: the answer in one packet instead of two (0.8 to 1.1; the client"
    " wakes once), and prepared instead of made for each request (0.92, 0.83). Left: two committers in turns, so that"
    " the next batch is sent while the last one commits (1.29, 1.16; PostgreSQL 1.69, 1.56, because batches halve); "
    "binary COPY into a temporary table, and from there into the three (1.31, 1.00; PostgreSQL 1.99, 1.48); waiting a"
    " millisecond for as many deliveries as the last batch had (0.92, 0.91, and no more answers per second over 8); "
    "gunicorn's parser in C (0.85, 1.01; it has no wheel); the committer in a thread that gevent does not patch (0.95"
    " to 1.03); all values but the bodies in one JSON parameter (no gain); headers without werkzeug's EnvironHeaders "
    "(0.99); gevent's watchers instead of its poll to wait for PostgreSQL (0.95 of a statement). Four fifths of the "
    "time are in the web process, most of it in gunicorn and gevent: the goal would take an HTTP server that is not "
    "written in Python."
)
RECEIVER: Final = "receiver"
POOLED: Final = "simpler way: a view, a pooled INSERT, a wake-up"
PLAIN: Final = "plain way: ORM, a job each"
STEPS: Final = {
    "without storing: gunicorn alone": "bench.steps:bare",
    "without storing: an empty view of Flask": "bench.steps:flask()",
    "without storing: the same, and the signature": "bench.steps:signed()",
}
"""Steps on the way to the receiver → what gunicorn serves for them."""
TURNS: Final = [
    *((FEW, name) for name in (LIMIT, RECEIVER, peer.NAME, POOLED, PLAIN)),
    *((MANY, name) for name in (LIMIT, *STEPS, RECEIVER, peer.NAME, POOLED, PLAIN)),
]


class Served(NamedTuple):
    """A web server: its port, and the id of its master process."""

    port: int
    pid: int


def run(rounds: int, progress: Progress) -> BenchmarkReport:
    """Measure in turns and return the report."""
    without_peer = peer.why_not()
    turns = [turn for turn in TURNS if turn[1] != peer.NAME or without_peer is None]
    paces: dict[tuple[int, str], list[ArrivalPace]] = {turn: [] for turn in turns}
    task = progress.add_task("intake", total=rounds * len(turns))
    with ExitStack() as stack:
        servers = stack.enter_context(local_servers("bench"))
        common.allow_connections(servers, MAX_CONNECTIONS)
        registration = common.register(servers)
        measures = _measures(servers, registration, stack)
        if without_peer is None:
            length = max(len(snapshot.body) for snapshot in common.snapshots(REQUESTS))
            measures[peer.NAME] = stack.enter_context(peer.upserting(servers, length=length, seconds=WARM_UP + SECONDS))
        for _ in range(rounds):
            for connections, name in turns:
                prepare(servers)
                timings = measures[name](connections)
                paces[connections, name].append(pace(timings, warm_up=WARM_UP, seconds=SECONDS))
                progress.advance(task)
    return _report(paces, without_peer)


def _measures(
    servers: LocalServers, registration: Registration, stack: ExitStack
) -> dict[str, Callable[[int], Timings]]:
    """Start everything that is compared, and return what measures each over so many connections."""
    in_threads = ("--worker-class", "gthread", "--threads", str(plain.THREADS))
    port = stack.enter_context(served(servers, "bench.plain:create_app()", *in_threads)).port
    measures = {
        LIMIT: stack.enter_context(inserting(servers, registration, seconds=WARM_UP + SECONDS)),
        RECEIVER: _storing(servers, registration, stack.enter_context(_receiver(servers))),
        PLAIN: _storing(servers, registration, port),
        POOLED: _storing(servers, registration, stack.enter_context(served(servers, "bench.steps:pooled()")).port),
    }
    for name, application in STEPS.items():
        measures[name] = loading(registration, stack.enter_context(served(servers, application)).port)
    return measures


def prepare(servers: LocalServers) -> None:
    """Empty the tables and Redis before a turn."""
    with closing(common.connect(servers)) as connection:
        common.empty_tables(connection)
        common.settle_down(connection)
    with closing(Redis.from_url(servers.valkey.url)) as redis:
        redis.flushall()


def loading(registration: Registration, port: int, *, seconds: float = WARM_UP + SECONDS) -> Callable[[int], Timings]:
    """Return what loads the web process on *port*, over so many connections."""
    requests = [common.request_bytes(registration, snapshot.body, port=port) for snapshot in common.snapshots(REQUESTS)]
    return lambda connections: load(port, cycle(requests), connections=connections, seconds=seconds)


def _storing(servers: LocalServers, registration: Registration, port: int) -> Callable[[int], Timings]:
    """Return the same, which also checks that all that was answered 200 is stored."""
    loads = loading(registration, port)

    def measure(connections: int) -> Timings:
        timings = loads(connections)
        stored = common.count(servers, "receiver.stored_deliveries")
        assert stored == len(timings), f"{len(timings)} requests were answered 200, but {stored} are stored"
        return timings

    return measure


@contextmanager
def _receiver(servers: LocalServers) -> Iterator[int]:
    """Run the web process as the Procfile says, without a worker; yield its port."""
    with ProcfileProcesses(servers.environment, servers.folder / "logs") as processes:
        processes.start("web")
        wait_until_ready(servers.settings.public_url, processes)
        yield servers.settings.port


@contextmanager
def served(
    servers: LocalServers, application: str, *arguments: str, inherited: Mapping[str, str] = os.environ
) -> Iterator[Served]:
    """Run *application* under the receiver's gunicorn settings, changed by *arguments*."""
    port = free_port()
    environment = local_environment(
        database_url=servers.settings.database_url,
        redis_url=servers.settings.redis_url,
        port=port,
        encryption_key=servers.settings.encryption_keys[0],
        inherited=inherited,
    )
    gunicorn = Path(sys.executable).parent / "gunicorn"
    command = [str(gunicorn), "--config", "python:receiver.gunicorn_conf", *arguments, application]
    with (servers.folder / "logs" / "compared.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        common.wait_for_port(port, within=START_SECONDS)
        yield Served(port, process.pid)
    finally:
        process.terminate()
        process.wait()


def _report(paces: dict[tuple[int, str], list[ArrivalPace]], without_peer: str | None) -> BenchmarkReport:
    rows = [
        Row(
            _row(connections, name),
            {
                "per second": [pace.per_second for pace in measured],
                "p50, ms": [pace.p50_ms for pace in measured],
                "p99, ms": [pace.p99_ms for pace in measured],
            },
            compared_with="" if name == LIMIT else _row(connections, LIMIT),
        )
        for (connections, name), measured in paces.items()
    ]
    p50 = [pace.p50_ms for pace in paces[MANY, RECEIVER]]
    p99 = [pace.p99_ms for pace in paces[MANY, RECEIVER]]
    targets = [
        _target(paces, FEW, LIMIT, at_least=0.25, if_missed=FEW_MISSED),
        _target(paces, MANY, LIMIT, at_least=0.33, if_missed=RATE_MISSED),
        _target(paces, FEW, POOLED, at_least=1.1, if_missed=FEW_MISSED),
        _target(paces, MANY, POOLED, at_least=1.1, if_missed=RATE_MISSED),
        _target(paces, MANY, PLAIN, at_least=4.0, if_missed=RATE_MISSED),
        ReportTarget(
            f"p99 / p50 of the receiver, {MANY} connections", ratio(p99, p50), at_most=3.0, if_missed=WORST_MISSED
        ),
    ]
    if without_peer is None:
        targets += [
            _target(paces, FEW, peer.NAME, at_least=1.2, if_missed=FEW_MISSED),
            _target(paces, MANY, peer.NAME, at_least=1.5, if_missed=RATE_MISSED),
        ]
    return BenchmarkReport(
        "Intake: from the POST to the 200, stored and committed",
        rows,
        targets,
        settings=(
            "Two web processes; pgbench inserts equal rows into clones of the tables. The peer verifies, keeps no "
            f"bytes and upserts one row. Each turn lasts {SECONDS:.0f} s after {WARM_UP:.0f} s of warming up."
            + (f" The peer was not measured: {without_peer}." if without_peer else "")
        ),
    )


def _target(
    paces: dict[tuple[int, str], list[ArrivalPace]], connections: int, other: str, *, at_least: float, if_missed: str
) -> ReportTarget:
    rate = {name: [pace.per_second for pace in paces[connections, name]] for name in (RECEIVER, other)}
    return ReportTarget(
        f"receiver / {other}, {connections} connections",
        ratio(rate[RECEIVER], rate[other]),
        at_least=at_least,
        if_missed=if_missed,
    )


def _row(connections: int, name: str) -> str:
    return f"{connections:2} connections, {name}"

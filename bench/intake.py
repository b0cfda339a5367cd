"""Intake: requests a second from the POST to the 200, beside pgbench's inserts and beside the plain way."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from psycopg import sql
from psycopg.types.json import Jsonb
from redis import Redis

from bench import ground
from bench.load import Pace, Timings, load, pace
from bench.report import Report, Row, Target, ratio
from receiver.sandbox.embedded import free_port, postgres_program
from receiver.sandbox.local import LocalServers, local_servers
from receiver.sandbox.processes import ProcfileProcesses, local_environment, wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress

    from receiver.sandbox.registration import Registration

CONNECTIONS: Final = (8, 32)
WARM_UP: Final = 1.0
SECONDS: Final = 4.0
REQUESTS: Final = 300
START_SECONDS: Final = 30

RECEIVER: Final = "receiver"
LIMIT: Final = "limit: pgbench, equal row"
PLAIN: Final = "plain way: ORM, a job each"


def run(rounds: int, progress: Progress) -> Report:
    """Measure in turns and return the report."""
    turns = [(connections, name) for connections in CONNECTIONS for name in (RECEIVER, LIMIT, PLAIN)]
    paces: dict[tuple[int, str], list[Pace]] = {turn: [] for turn in turns}
    task = progress.add_task("intake", total=rounds * len(turns))
    with ExitStack() as stack:
        servers = stack.enter_context(local_servers("bench"))
        registration = ground.register(servers)
        measures: dict[str, Callable[[int], Timings]] = {
            RECEIVER: _web(servers, registration, stack.enter_context(_receiver(servers))),
            LIMIT: stack.enter_context(_limit(servers, registration)),
            PLAIN: _web(servers, registration, stack.enter_context(_plain_way(servers))),
        }
        for _ in range(rounds):
            for connections, name in turns:
                _prepare(servers)
                timings = measures[name](connections)
                paces[connections, name].append(pace(timings, warm_up=WARM_UP, seconds=SECONDS))
                progress.advance(task)
    return _report(paces)


def _prepare(servers: LocalServers) -> None:
    with closing(ground.connect(servers)) as connection:
        ground.empty_tables(connection)
        ground.settle_down(connection)
    with closing(Redis.from_url(servers.valkey.url)) as redis:
        redis.flushall()


def _web(servers: LocalServers, registration: Registration, port: int) -> Callable[[int], Timings]:
    """Return what loads the web process on *port* and checks that all it answered 200 is stored."""
    requests = [ground.request_bytes(registration, snapshot.body, port=port) for snapshot in ground.snapshots(REQUESTS)]

    def measure(connections: int) -> Timings:
        timings = load(port, requests, connections=connections, seconds=WARM_UP + SECONDS)
        stored = ground.count(servers, "receiver.deliveries")
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
def _plain_way(servers: LocalServers) -> Iterator[int]:
    """Run the plain receiver under the same gunicorn settings; yield its port."""
    port = free_port()
    environment = local_environment(
        database_url=servers.settings.database_url,
        redis_url=servers.settings.redis_url,
        port=port,
        encryption_key=servers.settings.encryption_keys[0],
    )
    gunicorn = Path(sys.executable).parent / "gunicorn"
    command = [str(gunicorn), "--config", "python:receiver.gunicorn_conf", "bench.plain:create_app()"]
    with (servers.folder / "logs" / "plain.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        ground.wait_for_port(port, within=START_SECONDS)
        yield port
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _limit(servers: LocalServers, registration: Registration) -> Iterator[Callable[[int], Timings]]:
    """Yield what runs pgbench on a clone of the table with all its indexes."""
    with closing(ground.connect(servers)) as connection, TemporaryDirectory(prefix="bench-") as folder:
        connection.execute("CREATE SCHEMA bench")
        connection.execute("CREATE TABLE bench.deliveries (LIKE receiver.deliveries INCLUDING ALL)")
        script = Path(folder) / "insert.sql"
        (snapshot,) = ground.snapshots(1)
        script.write_text(
            sql.SQL(
                "INSERT INTO bench.deliveries (webhook_id, event, version, body, headers, verification) "
                "VALUES (1, {}, '1', {}, {}, 'signature+basic') RETURNING id;\n"
            )
            .format(ground.EVENT, snapshot.body, Jsonb(ground.kept_headers(registration, snapshot.body)))
            .as_string(connection)
        )

        def measure(connections: int) -> Timings:
            log = Path(folder) / f"{connections}"
            subprocess.run(
                [
                    postgres_program("pgbench"),
                    *("--no-vacuum", "--protocol=prepared", "--jobs=2", f"--client={connections}"),
                    *(f"--time={WARM_UP + SECONDS:.0f}", f"--file={script}", "--log", f"--log-prefix={log}"),
                    ground.libpq_url(servers),
                ],
                check=True,
                capture_output=True,
            )
            timings = _read_logs(Path(folder), log.name)
            stored = ground.count(servers, "bench.deliveries")
            assert stored == len(timings), f"pgbench logged {len(timings)} inserts, but {stored} are stored"
            return timings

        yield measure


def _read_logs(folder: Path, prefix: str) -> Timings:
    """Read what pgbench logged of each transaction, and remove it: client, number, µs taken, script, s, µs."""
    timings = Timings()
    for file in folder.glob(f"{prefix}.*"):
        for line in file.read_text().splitlines():
            _, _, took, _, seconds, microseconds = line.split()
            timings.ended.append(int(seconds) + int(microseconds) / 1e6)
            timings.took.append(int(took) / 1e6)
        file.unlink()
    return timings


def _report(paces: dict[tuple[int, str], list[Pace]]) -> Report:
    rows = [
        Row(
            f"{connections:2} connections, {name}",
            {
                "per second": [pace.per_second for pace in measured],
                "p50, ms": [pace.p50_ms for pace in measured],
                "p99, ms": [pace.p99_ms for pace in measured],
            },
        )
        for (connections, name), measured in paces.items()
    ]
    most = max(CONNECTIONS)
    rate = {name: [pace.per_second for pace in paces[most, name]] for name in (RECEIVER, LIMIT, PLAIN)}
    return Report(
        "Intake: from the POST to the 200, stored and committed",
        rows,
        [
            Target(f"receiver / pgbench, {most} connections", ratio(rate[RECEIVER], rate[LIMIT]), 0.10),
            Target(f"receiver / plain way, {most} connections", ratio(rate[RECEIVER], rate[PLAIN]), 2.5),
        ],
    )

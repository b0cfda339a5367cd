"""What PostgreSQL alone can take: pgbench, which inserts equal rows into clones of the tables."""

from __future__ import annotations

import subprocess
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from psycopg import sql
from psycopg.types.json import Jsonb

from bench import common
from bench.load import Timings
from receiver.sandbox.embedded import postgres_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

    from receiver.sandbox.local import LocalServers
    from receiver.sandbox.registration import Registration


TABLES: Final = ("stored_deliveries", "bodies", "queue")
"""Where a delivery is stored."""
_INSERT: Final = sql.SQL("""
WITH stored AS (
    INSERT INTO bench.stored_deliveries (webhook_id, event, version, verification)
    VALUES (1, {}, '1', 'signature+basic') RETURNING id
), bodies AS (
    INSERT INTO bench.bodies (delivery_id, body, headers) SELECT id, {}, {} FROM stored
)
INSERT INTO bench.queue (delivery_id) SELECT id FROM stored;
""")


@contextmanager
def inserting(
    servers: LocalServers, registration: Registration, *, seconds: float
) -> Iterator[Callable[[int], Timings]]:
    """Yield what runs pgbench over so many connections, on clones of the tables with all their indexes."""
    with closing(common.connect(servers)) as connection, TemporaryDirectory(prefix="bench-") as folder:
        connection.execute("CREATE SCHEMA bench")
        for table in TABLES:
            connection.execute(f"CREATE TABLE bench.{table} (LIKE receiver.{table} INCLUDING ALL)".encode())
        script = Path(folder) / "insert.sql"
        script.write_text(_statement(connection, registration))

        def measure(connections: int) -> Timings:
            log = Path(folder) / f"{connections}"
            subprocess.run(
                [
                    postgres_program("pgbench"),
                    *("--no-vacuum", "--protocol=prepared", "--jobs=2", f"--client={connections}"),
                    *(f"--time={seconds:.0f}", f"--file={script}", "--log", f"--log-prefix={log}"),
                    common.libpq_url(servers),
                ],
                check=True,
                capture_output=True,
            )
            timings = _read_logs(Path(folder), log.name)
            stored = common.count(servers, f"bench.{TABLES[0]}")
            assert stored == len(timings), f"pgbench logged {len(timings)} inserts, but {stored} are stored"
            return timings

        yield measure


def _statement(connection: psycopg.Connection, registration: Registration) -> str:
    (snapshot,) = common.snapshots(1)
    headers = Jsonb(common.kept_headers(registration, snapshot.body))
    return _INSERT.format(common.EVENT, snapshot.body, headers).as_string(connection)


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

"""Drain: deliveries a second from stored to applied, beside one SQL statement and beside one RQ job for each."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Final

from redis import Redis
from rq import Queue

from bench import ground, plain
from bench.report import Report, Row, Target, ratio
from receiver.json_rows import table_of
from receiver.queue import wake_worker
from receiver.records.epochs import CHANNEL
from receiver.records.models import Transaction
from receiver.sandbox.local import LocalServers, local_servers
from receiver.sandbox.processes import ProcfileProcesses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg
    from rich.progress import Progress

    from receiver.sandbox.registration import Registration

DELIVERIES: Final = 20_000
JOBS: Final = 100
PATIENCE: Final = 120.0
START_SECONDS: Final = 30.0

ONE: Final = "one worker"
TWO: Final = "two workers"
LIMIT: Final = "limit: one SQL statement for the transactions"
PLAIN: Final = "plain way: one RQ job each"
WITHOUT_FORK: Final = "plain way: one job each, without a fork"


LIMIT_MISSED: Final = (
    "The statement writes one table, the worker five: the current row and the history (1.7 times the statement's "
    "work), the feed, what became of the delivery, and what tells retries; with the claim that is some four times its "
    "work, and Python's part, which understands every body, is two. On two cores that ends at a third. Batches of "
    "1,000 and 2,000 were no faster than 500. It would take more cores, or a history without payloads."
)
TWO_MISSED: Final = "One worker keeps two cores busy with its two lanes; a second one needs cores of its own."


def run(rounds: int, progress: Progress) -> Report:
    """Measure in turns and return the report."""
    with ExitStack() as stack:
        servers = stack.enter_context(local_servers("bench"))
        connection = stack.enter_context(closing(ground.connect(servers)))
        registration = ground.register(servers)
        measures: dict[str, tuple[int, Callable[[], float]]] = {
            ONE: (DELIVERIES, lambda: _workers(servers, connection, 1)),
            LIMIT: (DELIVERIES, lambda: _one_statement(connection)),
            TWO: (DELIVERIES, lambda: _workers(servers, connection, 2)),
            PLAIN: (JOBS, lambda: _one_job_each(servers)),
            WITHOUT_FORK: (JOBS, lambda: _one_job_each(servers, "--without-fork")),
        }
        rates: dict[str, list[float]] = {name: [] for name in measures}
        task = progress.add_task("drain", total=rounds * len(measures))
        for _ in range(rounds):
            for name, (number, measure) in measures.items():
                _prepare(servers, connection, registration, number)
                rates[name].append(number / measure())
                applied = ground.count(servers, "ems.transactions")
                assert applied == number, f"{number} deliveries made {applied} transactions"
                progress.advance(task)
    return Report(
        "Drain: from stored to applied",
        [Row(name, {"deliveries per second": rates[name]}, beside="" if name == LIMIT else LIMIT) for name in rates],
        [
            Target("one worker / one SQL statement", ratio(rates[ONE], rates[LIMIT]), 0.5, if_missed=LIMIT_MISSED),
            Target("two workers / one worker", ratio(rates[TWO], rates[ONE]), 1.5, if_missed=TWO_MISSED),
            Target("one worker / one RQ job for each delivery", ratio(rates[ONE], rates[PLAIN]), 100),
            Target("one worker / one job for each, without a fork", ratio(rates[ONE], rates[WITHOUT_FORK]), 75),
        ],
        settings=f"{DELIVERIES:,} deliveries of as many transactions; {JOBS} where each is a job.",
    )


def _prepare(
    servers: LocalServers, connection: psycopg.Connection, registration: Registration, deliveries: int
) -> None:
    with closing(Redis.from_url(servers.valkey.url)) as redis:
        redis.flushall()
    ground.empty_tables(connection)
    ground.store_all(connection, registration, list(ground.snapshots(deliveries)))
    ground.settle_down(connection)


def _workers(servers: LocalServers, connection: psycopg.Connection, number: int) -> float:
    """Return the seconds from the wake-up to the commit of the last delivery. The workers are up before."""
    connection.execute(f"LISTEN {CHANNEL}")
    with _running_workers(servers, number) as redis:
        begun = time.perf_counter()
        wake_worker(redis)
        # positions in the feed are given out under a lock that is held until the commit: the last one is committed last
        for notice in connection.notifies(timeout=PATIENCE):
            if int(notice.payload) == DELIVERIES:
                took = time.perf_counter() - begun
                break
        else:
            raise TimeoutError(f"the workers did not finish within {PATIENCE} s")
    connection.execute(f"UNLISTEN {CHANNEL}")
    return took


@contextmanager
def _running_workers(servers: LocalServers, number: int) -> Iterator[Redis]:
    """Run *number* workers as the Procfile says; yield once all of them wait for work."""
    with ExitStack() as stack:
        redis = stack.enter_context(closing(Redis.from_url(servers.valkey.url)))
        for _ in range(number):
            processes = ProcfileProcesses(servers.environment, servers.folder / "logs")
            stack.enter_context(processes).start("worker")
        ground.wait_for_idle_workers(redis, number, within=START_SECONDS)
        yield redis


def _one_job_each(servers: LocalServers, *options: str) -> float:
    """Return the seconds that a worker takes for one job for each delivery, its own start not counted."""
    with closing(Redis.from_url(servers.valkey.url)) as redis:
        queue = Queue(plain.QUEUE, connection=redis)
        for delivery_id in range(1, JOBS + 1):
            queue.enqueue(plain.JOB, delivery_id)
    done = subprocess.run(
        [sys.executable, "-m", "bench.plain", *options], env=servers.environment, check=True, stdout=subprocess.PIPE
    )
    return float(done.stdout)


def _one_statement(connection: psycopg.Connection) -> float:
    """Return the seconds that PostgreSQL takes to do it alone."""
    statement = _statement()
    begun = time.perf_counter()
    connection.execute(statement)
    return time.perf_counter() - begun


def _statement() -> bytes:
    """Return the statement that fills every column that the handler fills; JSON is parsed once for each row."""
    ours = {
        "organization_reference_id": "webhook.organization_reference_id",
        "card_holder_reference_id": "parsed.document #>> '{card_holder,reference_id}'",
        "cleared_snapshot_at": "delivery.occurred_at",
        "cleared_card_issuer_reference": "told.card_issuer_reference",
        "cleared_at": "delivery.occurred_at",
        "snapshot_at": "delivery.occurred_at",
        "delivery_id": "delivery.id",
        "updated_at": "clock_timestamp()",
    }
    columns = [column.name for column in table_of(Transaction).columns]
    keys = {column.name for column in table_of(Transaction).primary_key}
    return f"""
        INSERT INTO ems.transactions ({", ".join(columns)})
        SELECT {", ".join(ours.get(column, f"told.{column}") for column in columns)}
        FROM receiver.deliveries AS delivery
        JOIN receiver.webhooks AS webhook ON webhook.id = delivery.webhook_id
        CROSS JOIN LATERAL (SELECT convert_from(delivery.body, 'UTF8')::jsonb AS document OFFSET 0) AS parsed
        CROSS JOIN LATERAL jsonb_populate_record(NULL::ems.transactions, parsed.document) AS told
        ON CONFLICT (organization_reference_id, id) DO UPDATE
        SET {", ".join(f"{column} = excluded.{column}" for column in columns if column not in keys)}
    """.encode()

"""Drain: deliveries a second from stored to applied, compared with SQL alone and with one RQ job for each."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Final

from redis import Redis
from rq import Queue

from bench import common, plain
from bench.report import BenchmarkReport, ReportTarget, Row, ratio
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
TIMEOUT: Final = 120.0
START_SECONDS: Final = 30.0
RATE: Final = "deliveries per second"
WAL: Final = "WAL for each"


ONE: Final = "one worker"
TWO: Final = "two workers"
LIMIT: Final = "limit: one SQL statement for the transactions"
BULK: Final = "limit: one SQL statement for all that a worker writes"
PLAIN: Final = "plain way: one RQ job each"
WITHOUT_FORK: Final = "plain way: one job each, without a fork"

LIMIT_MISSED: Final = (
    "The statement writes one table. In processor time, PostgreSQL's part of a worker is 3.0 times its work (log, rows "
    "and outcomes 1.6, the journal of the ledger 0.65, the claim 0.45), and Python's part, which parses every body, is "
    "1.7. Two threads overlap the two parts, but what is written under the feed's lock is written in turn: a half "
    "would need less written, not faster code around it."
)
BULK_MISSED: Final = (
    "The statement decides nothing, claims nothing and books no journal. In processor time, a worker is three times "
    "its work, on two cores."
)
TWO_MISSED: Final = "One worker keeps two cores busy with its two threads; a second one needs cores of its own."


def run(rounds: int, progress: Progress) -> BenchmarkReport:
    """Measure in turns and return the report."""
    with ExitStack() as stack:
        servers = stack.enter_context(local_servers("bench"))
        connection = stack.enter_context(closing(common.connect(servers)))
        registration = common.register(servers)
        measures: dict[str, tuple[int, Callable[[], float]]] = {
            ONE: (DELIVERIES, lambda: _workers(servers, connection, 1)),
            LIMIT: (DELIVERIES, lambda: _one_statement(connection, _transactions())),
            BULK: (DELIVERIES, lambda: _one_statement(connection, _everything())),
            TWO: (DELIVERIES, lambda: _workers(servers, connection, 2)),
            PLAIN: (JOBS, lambda: _one_job_each(servers)),
            WITHOUT_FORK: (JOBS, lambda: _one_job_each(servers, "--without-fork")),
        }
        rates: dict[str, list[float]] = {name: [] for name in measures}
        logged: dict[str, list[float]] = {name: [] for name in measures}
        task = progress.add_task("drain", total=rounds * len(measures))
        for _ in range(rounds):
            for name, (number, measure) in measures.items():
                _prepare(servers, connection, registration, number)
                before = common.wal_position(connection)
                rates[name].append(number / measure())
                logged[name].append((common.wal_position(connection) - before) / number)
                applied = common.count(servers, "ems.transactions")
                assert applied == number, f"{number} deliveries made {applied} transactions"
                progress.advance(task)
    return BenchmarkReport(
        "Drain: from stored to applied",
        [
            Row(name, {RATE: rates[name], WAL: logged[name]}, compared_with="" if name == LIMIT else LIMIT)
            for name in rates
        ],
        [
            ReportTarget(
                "one worker / one SQL statement", ratio(rates[ONE], rates[LIMIT]), 0.5, if_missed=LIMIT_MISSED
            ),
            ReportTarget(
                "one worker / one SQL statement for all of it",
                ratio(rates[ONE], rates[BULK]),
                0.9,
                if_missed=BULK_MISSED,
            ),
            ReportTarget("two workers / one worker", ratio(rates[TWO], rates[ONE]), 1.0, if_missed=TWO_MISSED),
            ReportTarget("one worker / one RQ job for each delivery", ratio(rates[ONE], rates[PLAIN]), 100),
            ReportTarget("one worker / one job for each, without a fork", ratio(rates[ONE], rates[WITHOUT_FORK]), 75),
        ],
        settings=f"{DELIVERIES:,} deliveries of as many transactions; {JOBS} where each is a job.",
    )


def _prepare(
    servers: LocalServers, connection: psycopg.Connection, registration: Registration, deliveries: int
) -> None:
    with closing(Redis.from_url(servers.valkey.url)) as redis:
        redis.flushall()
    common.empty_tables(connection)
    common.store_all(connection, registration, list(common.snapshots(deliveries)))
    common.settle_down(connection)


def _workers(servers: LocalServers, connection: psycopg.Connection, number: int) -> float:
    """Return the seconds from the wake-up to the commit of the last delivery. The workers are up before."""
    connection.execute(f"LISTEN {CHANNEL}")
    with _running_workers(servers, number) as redis:
        begun = time.perf_counter()
        wake_worker(redis)
        # positions in the feed are given out under a lock that is held until the commit: the last one is committed last
        for notice in connection.notifies(timeout=TIMEOUT):
            if int(notice.payload) == DELIVERIES:
                took = time.perf_counter() - begun
                break
        else:
            raise TimeoutError(f"the workers did not finish within {TIMEOUT} s")
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
        common.wait_for_idle_workers(redis, number, within=START_SECONDS)
        yield redis


def _one_job_each(servers: LocalServers, *options: str) -> float:
    """Return the seconds that a worker takes for one job for each delivery, its own start not counted."""
    with closing(Redis.from_url(servers.valkey.url)) as redis:
        queue = Queue(plain.QUEUE, connection=redis)
        for _ in range(JOBS):
            queue.enqueue(plain.JOB)
    done = subprocess.run(
        [sys.executable, "-m", "bench.plain", *options], env=servers.environment, check=True, stdout=subprocess.PIPE
    )
    return float(done.stdout)


def _one_statement(connection: psycopg.Connection, statement: bytes) -> float:
    """Return the seconds that PostgreSQL takes to do it alone."""
    begun = time.perf_counter()
    connection.execute(statement)
    return time.perf_counter() - begun


def _transactions() -> bytes:
    """Return the statement that writes the current rows and nothing else; JSON is parsed once for each row."""
    return f"""
        {_insert_transactions()}
        FROM ({_PARSED}) AS parsed
        {_FIELDS}
        {_on_conflict()}
    """.encode()


def _everything() -> bytes:
    """Return the statement that writes what a worker writes: events, rows, journal, outcomes, and empties the queue.

    It decides nothing: every delivery is taken for a new event of a new transaction, which is booked.
    """
    return f"""
        WITH claimed AS (
            DELETE FROM receiver.queue
        ), parsed AS MATERIALIZED ({_PARSED}), appended AS (
            INSERT INTO ems.events (type, organization_reference_id, card_holder_reference_id, transaction_id,
                subject_id, occurred_at, recorded_at, source, delivery_id, fingerprint, payload)
            SELECT event, organization_reference_id, document #>> '{{card_holder,reference_id}}', document ->> 'id',
                document ->> 'id', occurred_at, clock_timestamp(), source, id, fingerprint, document
            FROM parsed ORDER BY id
            RETURNING position, delivery_id
        ), written AS (
            {_insert_transactions()}
            FROM parsed
            {_FIELDS}
            {_on_conflict()}
            RETURNING *
        ), booked AS (
            INSERT INTO ems.ledger_journal (position, line, organization_reference_id, transaction_id, kind, sign,
                booked_on, card_holder_reference_id, original_amount, original_currency, accounting_amount,
                accounting_currency, vat_amount, vat_currency, vat_source, receipt_state, recorded_at)
            SELECT position, 1, organization_reference_id, written.id, 'booking', 1, booked_on,
                card_holder_reference_id, original_amount, original_currency, accounting_amount, accounting_currency,
                vat_amount, vat_currency, 'network', 'none', clock_timestamp()
            FROM written JOIN appended USING (delivery_id)
        )
        INSERT INTO receiver.outcomes (delivery_id, status, attempts, processed_at, position)
        SELECT delivery_id, 'processed', 1, clock_timestamp(), position FROM appended
    """.encode()


_PARSED: Final = """
    SELECT stored.id, stored.event, stored.source, stored.occurred_at, webhook.organization_reference_id,
        sha256(body.body) AS fingerprint, convert_from(body.body, 'UTF8')::jsonb AS document
    FROM receiver.stored_deliveries AS stored
    JOIN receiver.bodies AS body ON body.delivery_id = stored.id
    JOIN receiver.webhooks AS webhook ON webhook.id = stored.webhook_id
    OFFSET 0
"""
_FIELDS: Final = "CROSS JOIN LATERAL jsonb_populate_record(NULL::ems.transactions, parsed.document) AS payload"


def _insert_transactions() -> str:
    """Return the beginning of what fills every column that the fold fills."""
    ours = {
        "organization_reference_id": "parsed.organization_reference_id",
        "card_holder_reference_id": "parsed.document #>> '{card_holder,reference_id}'",
        "cleared_snapshot_at": "parsed.occurred_at",
        "cleared_card_issuer_reference": "payload.card_issuer_reference",
        "cleared_at": "parsed.occurred_at",
        "booked_on": "CAST(parsed.occurred_at AS date)",
        "snapshot_at": "parsed.occurred_at",
        "delivery_id": "parsed.id",
        "updated_at": "clock_timestamp()",
        "payment_product_id": "parsed.document #>> '{payment_product,id}'",
        "payment_product_name": "parsed.document #>> '{payment_product,name}'",
    }
    columns = [column.name for column in table_of(Transaction).columns]
    selected = ", ".join(ours.get(column, f"payload.{column}") for column in columns)
    return f"INSERT INTO ems.transactions ({', '.join(columns)}) SELECT {selected}"


def _on_conflict() -> str:
    table = table_of(Transaction)
    assigned = (column.name for column in table.columns if not column.primary_key)
    return (
        "ON CONFLICT (organization_reference_id, id) DO UPDATE "
        f"SET {', '.join(f'{name} = excluded.{name}' for name in assigned)}"
    )

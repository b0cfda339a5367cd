"""Reconcile: log entries a second, the first time and again, compared with bare fetching and parsing."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import httpx
import msgspec

from bench import common
from bench.delivery_log import serving_log
from bench.report import BenchmarkReport, ReportTarget, Row, ratio
from receiver.encryption import Encryption
from receiver.opencard.auth import request_token
from receiver.opencard.routes import LIST_DELIVERY_LOG
from receiver.processing.drain import drain
from receiver.reconcile.run import Reconciler
from receiver.sandbox.local import LocalServers, local_servers

if TYPE_CHECKING:
    import psycopg
    from rich.progress import Progress

    from bench.delivery_log import BenchmarkLog

ENTRIES: Final = 20_000
FIRST: Final = "first run: everything is new"
AGAIN: Final = "next run: what the overlap covers"
LIMIT: Final = "limit: fetch and parse the same pages"
GRACE: Final = timedelta(hours=1)
MISSED: Final = (
    "More than half of the limit's time is the local OpenCard's. A run also computes the fingerprint of each entry, "
    "copies the entry into PostgreSQL, compares it with the stored deliveries, and writes the mirror of the log and "
    "the confirmations. Tried and kept, each with the part of the earlier time that a first and a next run then "
    "took: one statement compares what is there once (0.77, 0.78); one temporary table without indexes, filled in "
    "binary, with the payload only within its item (0.54, 0.49); the next page fetched during the work on one, and "
    "no sorting of the mirror (0.49, 0.44). Tried and left: the mirror without its foreign key, which showed no "
    "clear gain. It would take not to send PostgreSQL the entries that the mirror has already, and faster "
    "fingerprints, a quarter of Python's part, which is nearly half of a run."
)
MISSED_AGAIN: Final = "For the same reasons as the first run."


def run(rounds: int, progress: Progress) -> BenchmarkReport:
    """Measure in turns and return the report."""
    rates: dict[str, list[float]] = {FIRST: [], AGAIN: [], LIMIT: []}
    with ExitStack() as stack:
        servers = stack.enter_context(local_servers("bench"))
        connection = stack.enter_context(closing(common.connect(servers)))
        log = stack.enter_context(serving_log(ENTRIES))
        _store(servers, connection, log)
        reconciler = Reconciler(servers.engine, Encryption(servers.settings.encryption_keys), log.access, grace=GRACE)
        task = progress.add_task("reconcile", total=rounds * len(rates))
        for _ in range(rounds):
            connection.execute("TRUNCATE receiver.delivery_log, receiver.reconcile_runs, receiver.confirmations")
            common.settle_down(connection)
            for name in (FIRST, AGAIN):
                rates[name].append(_reconcile(reconciler))
                progress.advance(task)
            rates[LIMIT].append(_fetch_and_parse(log))
            progress.advance(task)
    return BenchmarkReport(
        "Reconcile: entries of the delivery log",
        [
            Row(name, {"entries per second": figures}, compared_with="" if name == LIMIT else LIMIT)
            for name, figures in rates.items()
        ],
        [
            ReportTarget("first run / fetch and parse", ratio(rates[FIRST], rates[LIMIT]), 0.35, if_missed=MISSED),
            ReportTarget("next run / fetch and parse", ratio(rates[AGAIN], rates[LIMIT]), 0.45, if_missed=MISSED_AGAIN),
        ],
        settings=f"{ENTRIES:,} entries.",
    )


def _store(servers: LocalServers, connection: psycopg.Connection, log: BenchmarkLog) -> None:
    """Store and process every delivery that the log has."""
    registration = common.register(servers)
    common.number_webhooks(connection, log.webhooks)
    common.store_all(connection, registration, list(common.snapshots(ENTRIES)))
    assert drain(servers.engine, batch_size=500)


def _reconcile(reconciler: Reconciler) -> float:
    """Return how many entries a run compares in a second; all of them are stored, and none is missing."""
    begun = time.perf_counter()
    (outcome,) = reconciler.run()
    took = time.perf_counter() - begun
    assert outcome.error is None, outcome.error
    assert (outcome.recovered, outcome.unconfirmed, outcome.unrecoverable) == (0, 0, 0), outcome
    return outcome.log_entries / took


def _fetch_and_parse(log: BenchmarkLog) -> float:
    """Return how many entries a second can be had from the same pages, doing nothing with them."""
    with httpx.Client(trust_env=False) as http:
        token = request_token(http, log.access, [LIST_DELIVERY_LOG.scope]).value
        organization, webhook = log.webhooks[0]
        path = LIST_DELIVERY_LOG.path.format(account=log.access.account_id, organization=organization, webhook=webhook)
        begun = time.perf_counter()
        parsed = 0
        for page in range(1, log.last_page + 1):
            answer = http.get(
                log.access.application_url + path,
                params={"page": page},
                headers={"Authorization": f"Bearer {token}"},
            )
            document: dict[str, Any] = msgspec.json.decode(answer.content)
            parsed += len(document["data"])
        took = time.perf_counter() - begun
    assert parsed == ENTRIES, parsed
    return parsed / took

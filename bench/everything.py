"""Everything at once, for minutes: deliveries, reconcile, retention, the console and a consumer on the same machine.

First, the most that intake takes is measured: alone, then while everything runs, and with it what a worker drains. The
load is a share of the smaller of the latter two, sent at a fixed rate. The sender, the local OpenCard, whose log is
read all the time, and the readers of the console are processes of their own on the same cores.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import TYPE_CHECKING, Final

import psycopg

from bench import common, console
from bench.delivery_log import serving_log
from bench.everything_report import (
    ANSWERED,
    CONFIRMED,
    DRAIN,
    INTAKE,
    INTAKE_ALONE,
    LAG,
    PAGES,
    SHARE,
    VISIBLE,
    Figures,
    report_of,
)
from bench.load import pace
from bench.sender import Sender
from bench.watching import (
    CONSUMED,
    END,
    LISTENING,
    NEWEST,
    OWN,
    QUEUED,
    consuming,
    listen,
    number,
    read_pages,
    wait_until,
    watch,
)
from receiver.sandbox.console_access import new_console_access
from receiver.sandbox.local import PROCESSES, LocalServers, local_servers
from receiver.sandbox.processes import ProcfileProcesses, wait_until_ready
from receiver.settings import load_settings

if TYPE_CHECKING:
    from rich.progress import Progress

    from bench.report import BenchmarkReport
    from receiver.sandbox.console_access import ConsoleAccess


SECONDS: Final = 600
WEBHOOKS: Final = 200
OLDER: Final = 300_000
"""Deliveries of a month that are stored before; the bodies of half of them have expired."""
WARM_UP: Final = 1.0
ALONE_SECONDS: Final = 5.0
TOGETHER_SECONDS: Final = 10.0
VARIABLES: Final = {"RECONCILE_INTERVAL": "60", "RETAIN_PROCESSED_DAYS": "14"}

_CONFIRMED: Final = "SELECT count(*) FROM receiver.confirmations WHERE confirmed_at IS NOT NULL AND delivery_id > %s"
_EXPIRED: Final = """
SELECT count(*) FROM receiver.bodies AS body JOIN receiver.stored_deliveries AS stored ON stored.id = body.delivery_id
JOIN receiver.outcomes AS outcome ON outcome.delivery_id = stored.id
WHERE outcome.status = 'processed' AND stored.received_at < now() - interval '14 days'
"""
_APPLIED: Final = """
SELECT event.transaction_id, event.position,
    CAST(1000 * extract(epoch FROM confirmation.confirmed_at - stored.received_at) AS float) AS confirmed_ms
FROM ems.events AS event JOIN receiver.stored_deliveries AS stored ON stored.id = event.delivery_id
JOIN receiver.confirmations AS confirmation ON confirmation.delivery_id = event.delivery_id
WHERE event.position > %s
"""
_COUNTS: Final = {
    "stored": "SELECT count(*) FROM receiver.stored_deliveries WHERE id > %s",
    "applied": "SELECT count(*) FROM ems.events WHERE delivery_id > %s",
    "rows of ems.transactions": "SELECT count(*) FROM ems.transactions WHERE delivery_id > %s",
    "confirmed by the delivery log": _CONFIRMED,
}


@dataclass(frozen=True, slots=True)
class Parts:
    """What takes part."""

    servers: LocalServers
    access: ConsoleAccess
    connection: psycopg.Connection
    processes: ProcfileProcesses
    sender: Sender

    def processed(self) -> None:
        """Return when nothing is queued."""
        wait_until(lambda: number(self.connection, QUEUED) == 0)

    def consumed(self) -> None:
        """Return when the consumer has read the feed to its end."""
        wait_until(lambda: number(self.connection, CONSUMED) == number(self.connection, NEWEST))


def run(_rounds: int, progress: Progress, *, seconds: int = SECONDS) -> BenchmarkReport:
    """Measure once, for *seconds*, and return the report."""
    with ExitStack() as stack:
        parts = _prepare(stack, progress)
        task = progress.add_task("everything", total=None)
        expired = number(parts.connection, _EXPIRED)
        most = _intake_alone(parts)
        stack.enter_context(consuming(parts.servers))
        parts.consumed()
        parts.processes.start("scheduler")
        figures = _everything(parts, most, seconds, expired)
        progress.remove_task(task)
    about = f"{WEBHOOKS} webhooks, {OLDER:,} older deliveries."
    return report_of(figures, seconds, about, grace_ms=1000.0 * parts.servers.settings.reconcile_grace)


def _prepare(stack: ExitStack, progress: Progress) -> Parts:
    """Start the servers and the local OpenCard, and store the older deliveries."""
    access = new_console_access()
    local = stack.enter_context(local_servers("bench"))
    registrations = common.register_many(local, WEBHOOKS)
    console.fill(local, OLDER, progress, webhooks=WEBHOOKS)
    log = stack.enter_context(serving_log(organizations=[each.organization_reference_id for each in registrations]))
    variables = {**local.environment, **access.variables, **log.variables, **VARIABLES}
    servers = replace(local, environment=variables, settings=load_settings(variables))
    connection = stack.enter_context(closing(common.connect(servers)))
    common.number_webhooks(connection, log.webhooks)
    processes = stack.enter_context(ProcfileProcesses(variables, servers.folder / "logs"))
    return Parts(servers, access, connection, processes, Sender(servers.settings.port, registrations, log))


def _intake_alone(parts: Parts) -> dict[str, float]:
    """Start web and return how much it takes in a second; then start the worker, which applies it."""
    parts.processes.start("web")
    wait_until_ready(parts.servers.settings.public_url, parts.processes)
    intake = _pace(parts.sender, ALONE_SECONDS)
    parts.processes.start("worker")
    parts.processed()
    return {INTAKE_ALONE: intake}


def _everything(parts: Parts, most: dict[str, float], seconds: int, expired: int) -> Figures:
    """Measure the most that is taken while everything runs, then send a share of it for *seconds*."""
    connection, sender = parts.connection, parts.sender
    url = common.libpq_url(parts.servers)
    with ProcessPoolExecutor(3, get_context("spawn")) as executor, ExitStack() as stack:
        stack.callback(connection.execute, f"NOTIFY {END}".encode())
        listening = executor.submit(listen, url)
        wait_until(lambda: number(connection, LISTENING) > 0)
        until = time.perf_counter() + TOGETHER_SECONDS + seconds
        reading = executor.submit(read_pages, parts.servers.settings.public_url, parts.access, OLDER, until)
        watching = executor.submit(watch, url, {name: parts.processes.pid(name) for name in PROCESSES}, until)
        most = most | _together(connection, sender)
        parts.processed()
        before, begun = number(connection, NEWEST), time.perf_counter()
        load = SHARE * min(most[INTAKE], most[DRAIN])
        timings = sender.send(until - begun, load)
        parts.processed()
    parts.consumed()
    wait_until(lambda: number(connection, _CONFIRMED, OLDER) >= sender.sent)
    feed = listening.result()
    samples = [sample for sample in watching.result() if sample.at > begun]
    rows = connection.execute(_APPLIED, (before,)).fetchall()
    times = {
        ANSWERED: [1000 * took for took in timings.took],
        VISIBLE: [1000 * (feed.visible_at(position) - sender.begun[name]) for name, position, _ in rows],
        LAG: [1000 * feed.lag(sample.consumed, sample.at) for sample in samples],
        PAGES: [view.took_ms for view in reading.result() if view.at > begun],
        CONFIRMED: [confirmed for _, _, confirmed in rows],
    }
    return Figures(
        most,
        load,
        len(timings) / (until - begun),
        times,
        samples,
        kept=_kept(parts.servers, connection, sender.sent),
        deleted=1 - number(connection, _EXPIRED) / expired,
    )


def _together(connection: psycopg.Connection, sender: Sender) -> dict[str, float]:
    """Return how much intake takes at most while everything runs, and how much is applied meanwhile."""
    before, begun = number(connection, NEWEST), time.perf_counter()
    intake = _pace(sender, TOGETHER_SECONDS - WARM_UP)
    applied = number(connection, NEWEST) - before
    return {
        INTAKE: intake,
        DRAIN: applied / (time.perf_counter() - begun),
    }


def _pace(sender: Sender, seconds: float) -> float:
    return pace(sender.send(WARM_UP + seconds), warm_up=WARM_UP, seconds=seconds).per_second


def _kept(servers: LocalServers, connection: psycopg.Connection, sent: int) -> dict[str, float]:
    counted = {name: number(connection, question, OLDER) for name, question in _COUNTS.items()}
    with closing(psycopg.connect(servers.postgres.url(OWN))) as own:
        counted["booked by the consumer"] = number(own, "SELECT count(*) FROM bookings")
    return {name: count / sent for name, count in counted.items()}

"""``receiver worker`` and ``receiver scheduler``: the processes of the Procfile beside the web."""

from __future__ import annotations

import os

import click

from receiver.schedule import run_scheduler
from receiver.settings import load_settings
from receiver.worker import run_worker_pool


@click.command()
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True, help="Workers side by side.")
def worker(processes: int) -> None:
    """Process deliveries as they come: RQ workers, until SIGTERM.

    Any number may run, on any number of machines. One more process beside them reconciles with OpenCard's delivery
    log, unless RECONCILE_INTERVAL is 0, and one downloads the files of receipts; neither where OPENCARD_ACCOUNT_ID,
    OPENCARD_CLIENT_ID or OPENCARD_CLIENT_SECRET is unset.

    Example: receiver worker --processes 2
    """
    run_worker_pool(load_settings(os.environ), processes=processes)


@click.command()
def scheduler() -> None:
    """Sweep for what waits and is due, until SIGTERM.

    Deliveries, their retries, webhooks that are to be reconciled, receipts that are to be downloaded. One is enough;
    more do no harm.

    Example: receiver scheduler
    """
    run_scheduler(load_settings(os.environ))

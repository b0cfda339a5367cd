"""``receiver worker`` and ``receiver scheduler``: the processes of the Procfile other than the web."""

from __future__ import annotations

import os

import click

from receiver.cli.parameters import WholeNumber
from receiver.schedule import run_scheduler
from receiver.settings import load_settings
from receiver.worker import run_worker_pool


@click.command()
@click.option("--processes", type=WholeNumber(min=1), default=1, show_default=True, help="Number of workers.")
def worker(processes: int) -> None:
    """Process deliveries, until SIGTERM.

    A pool of RQ workers; any number may run, on any number of machines. Separate processes reconcile (unless
    RECONCILE_INTERVAL is 0), run bootstrap (unless BOOTSTRAP_INTERVAL is 0), download the files of receipts, and delete
    expired data. Where OPENCARD_ACCOUNT_ID, OPENCARD_CLIENT_ID or OPENCARD_CLIENT_SECRET is unset, only the last of
    them runs.

    Example: receiver worker --processes 2
    """
    run_worker_pool(load_settings(os.environ), processes=processes)


@click.command()
def scheduler() -> None:
    """Start the jobs that are due, until SIGTERM.

    Pending deliveries, retries, reconciliation, bootstrap, downloads of receipts, retention. It also checks for issues
    and sends notifications. One is enough; more than one does no harm.

    Example: receiver scheduler
    """
    run_scheduler(load_settings(os.environ))

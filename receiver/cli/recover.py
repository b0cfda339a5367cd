"""``receiver recover``: what is to be done after a restore or a failover of PostgreSQL."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict

import click

from receiver.cli.output import counted, json_option, print_json, words
from receiver.connections import WEB
from receiver.db import engine_for
from receiver.logs import configure_logs
from receiver.ops.recover import recover as recover_feed
from receiver.reconcile.schedule import what_is_missing
from receiver.settings import REQUIRED_FOR_DATABASE, load_settings


@click.command()
@json_option
def recover(as_json: bool) -> None:
    """Begin an epoch of the feed after a restore or a failover, or acknowledge the one that began.

    The service begins an epoch by itself where it notices that PostgreSQL was restored or failed over; then this
    command acknowledges it, and no other begins. Where it cannot notice (a snapshot of the volume, a restore of the
    data alone), stop the workers, restore, run this command, and start them again. Either way every webhook is
    reconciled at once by the scheduler, and readers of the feed read the tables again. Exit code 1 when the scheduler
    reconciles nothing, so that receiver reconcile is left to do.

    Example: receiver recover
    """
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    configure_logs(level=settings.log_level, log_format=settings.log_format)
    engine = engine_for(settings.database_url, application="recover", bounds=WEB)
    try:
        done = recover_feed(engine)
    finally:
        engine.dispose()
    if as_json:
        print_json(asdict(done))
    else:
        since = f"began at {words(done.begun_at)} ({done.reason}) and is acknowledged; run it again to begin another"
        click.echo(f"epoch {done.epoch} of the feed {'begins' if done.begun else since}")
        click.echo(f"{counted(done.webhooks_to_reconcile, 'webhook')} to reconcile")
    missing = what_is_missing(settings)
    if missing and done.webhooks_to_reconcile:
        click.echo(f"receiver: nothing is reconciled by the scheduler: {missing}; run receiver reconcile", err=True)
        sys.exit(1)

"""``receiver recover``: after a restore or a failover of PostgreSQL."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict

import click

from receiver.cli.logs import configure_command_logs
from receiver.cli.output import counted, json_option, print_json, words
from receiver.cli.recorded import RecordedCommand
from receiver.connections import WEB
from receiver.db import engine_for
from receiver.ops.recover import recover as recover_feed
from receiver.reconcile.schedule import unset_for_reconcile
from receiver.settings import REQUIRED_FOR_DATABASE, load_settings


@click.command(cls=RecordedCommand)
@json_option
def recover(as_json: bool) -> None:
    """Acknowledge a restore or failover of the database; begin a feed epoch if none began.

    The service starts an epoch by itself when it notices that PostgreSQL was restored or failed over; then this command
    only acknowledges it; run again, it begins another one. Where the service cannot notice (a snapshot of the volume, a
    restore of the data alone), stop the workers, restore, run this command, and start them again. Either way the
    scheduler reconciles every webhook at once, and readers of the feed read the tables again. Exit code 1 when the
    scheduler does not reconcile: then run receiver reconcile.

    Example: receiver recover
    """
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    configure_command_logs(settings)
    engine = engine_for(settings.database_url, application="recover", timeouts=WEB)
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
    missing = unset_for_reconcile(settings)
    if missing and done.webhooks_to_reconcile:
        click.echo(f"receiver: the scheduler does not reconcile: {missing}; run receiver reconcile", err=True)
        sys.exit(1)

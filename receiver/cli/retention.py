"""``receiver retention``: what was kept long enough goes."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from receiver.cli.output import json_option, print_json, print_rows, progress_bar
from receiver.db import engine_for
from receiver.logs import configure_logs
from receiver.ops.retention.run import Pace, run_retention
from receiver.settings import load_settings

if TYPE_CHECKING:
    from receiver.ops.retention.run import Outcome

REST: Final = 0.25
"""How long a run by hand rests after a step, in parts of what it took: somebody waits for it."""


@click.group()
def retention() -> None:
    """Delete expired data: RETAIN_…_DAYS and ERASE_CARD_HOLDERS_DAYS say what that is."""


@retention.command("run")
@click.option("--dry-run", is_flag=True, help="Print what would go, and write nothing anywhere.")
@json_option
def run(dry_run: bool, as_json: bool) -> None:
    """Delete what was kept long enough, in small steps beside all other work, until nothing of it is left.

    The scheduler has it done every five minutes; by hand it is for whoever does not want to wait, or wants to see
    first what would go. It may be interrupted and run again. Exit code 1 when something is left that others held.

    Example: receiver retention run --dry-run
    """
    settings = load_settings(os.environ)
    configure_logs(level=settings.log_level, log_format=settings.log_format)
    engine = engine_for(settings.database_url, application="retention")
    try:
        with progress_bar() as progress:
            outcome = run_retention(engine, settings, pace=Pace(rest=REST), write=not dry_run, progress=progress)
    finally:
        engine.dispose()
    if as_json:
        print_json(asdict(outcome))
    else:
        _print(outcome, planned=dry_run)
    if not outcome.caught_up:
        click.echo("receiver: something is left that others held at this moment: run it again", err=True)
        raise click.exceptions.Exit(1)


def _print(outcome: Outcome, *, planned: bool) -> None:
    rows = [
        {
            "words": kept.words,
            "removed": kept.removed,
            "days": f"{kept.days} days" if kept.days else "for ever",
            "setting": kept.setting,
        }
        for kept in outcome.kinds
    ]
    columns = {"words": "what", "removed": "would go" if planned else "gone", "days": "kept", "setting": "setting"}
    print_rows(rows, columns, empty="nothing")

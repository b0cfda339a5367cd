"""``receiver retention``: delete expired data."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from receiver.cli.group import Group
from receiver.cli.logs import configure_command_logs
from receiver.cli.output import json_option, print_json, print_rows, progress_bar
from receiver.cli.recorded import RecordedCommand
from receiver.db import engine_for
from receiver.ops.retention.run import Pace, run_retention
from receiver.settings import load_settings

if TYPE_CHECKING:
    from receiver.ops.retention.run import RetentionOutcome

REST: Final = 0.25
"""How long a run by hand pauses after a step, as a share of the step's length: an operator waits for it."""


@click.group(cls=Group)
def retention() -> None:
    """Delete expired data.

    RETAIN_…_DAYS and ERASE_CARD_HOLDERS_DAYS say when data expires.
    """


@retention.command("run", cls=RecordedCommand, unless=("dry_run",))
@click.option("--dry-run", is_flag=True, help="Print what would be deleted; write nothing.")
@json_option
def run(dry_run: bool, as_json: bool) -> None:
    """Delete expired data now.

    In small steps, so that it does not slow down other work. A worker does the same every five
    minutes; run it by hand to see first what would be deleted. May be interrupted and run again. Exit code 1 when rows
    that were locked by other processes are left.

    Example: receiver retention run --dry-run
    """
    settings = load_settings(os.environ)
    configure_command_logs(settings)
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
        click.echo("receiver: some rows were locked by other processes: run it again", err=True)
        raise click.exceptions.Exit(1)


def _print(outcome: RetentionOutcome, *, planned: bool) -> None:
    rows = [
        {
            "words": kept.words,
            "removed": kept.removed,
            "days": f"{kept.days} days" if kept.days else "permanently",
            "setting": kept.setting,
        }
        for kept in outcome.kinds
    ]
    columns = {
        "words": "what",
        "removed": "to delete" if planned else "deleted",
        "days": "kept for",
        "setting": "setting",
    }
    print_rows(rows, columns, empty="nothing", optional=("setting",))

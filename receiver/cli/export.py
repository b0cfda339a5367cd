"""``receiver export``: tables of ``ems`` as files."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receiver.cli.filters import check_organizations
from receiver.cli.group import Group
from receiver.cli.output import counted, progress_bar
from receiver.cli.parameters import MOMENT
from receiver.connections import EXPORT
from receiver.db import engine_for
from receiver.exports.export import export_rows
from receiver.exports.source import SOURCES, Format, Window
from receiver.exports.target import standard_output, whole_file
from receiver.settings import REQUIRED_FOR_DATABASE, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

FORMATS = [each.value for each in Format]


@click.group(cls=Group)
def export() -> None:
    """Export a table of schema ems to a file.

    All rows are of one moment. Amounts keep their digits and times are in UTC. In CSV a text that a spreadsheet would
    read as a formula begins with a quote; jsonl and parquet hold texts unchanged.
    """


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="The file; needed for parquet."),
        click.option(
            "--format", "how", type=click.Choice([each.value for each in Format]), default="csv", show_default=True
        ),
        click.option(
            "--organization", "organizations", metavar="REF", multiple=True, help="Only this organization; repeatable."
        ),
        click.option("--until", type=MOMENT, metavar="TIME", help="Before this time."),
        click.option("--since", type=MOMENT, metavar="TIME", help="From this time on: 2026-02-13, or 24h ago."),
    ):
        command = option(command)
    return command


@export.command()
@_options
def transactions(
    since: datetime | None, until: datetime | None, organizations: tuple[str, ...], how: str, output: Path | None
) -> None:
    """Export the current purchases.

    Selected by when their rows last changed (updated_at).

    Example: receiver export transactions --since 2026-02-01 --until 2026-03-01 --output february.csv
    """
    _export("transactions", Window(since, until, organizations), Format(how), output)


@export.command()
@_options
def ledger(
    since: datetime | None, until: datetime | None, organizations: tuple[str, ...], how: str, output: Path | None
) -> None:
    """Export the purchases that accounting books.

    Selected by when their rows last changed (updated_at).

    Example: receiver export ledger --organization acme --since 30d --format jsonl
    """
    _export("ledger", Window(since, until, organizations), Format(how), output)


@export.command()
@_options
def events(
    since: datetime | None, until: datetime | None, organizations: tuple[str, ...], how: str, output: Path | None
) -> None:
    """Export the change feed in its order.

    Selected by when events were recorded (recorded_at).

    Example: receiver export events --since 24h --format parquet --output events.parquet
    """
    _export("events", Window(since, until, organizations), Format(how), output)


def _export(name: str, window: Window, how: Format, output: Path | None) -> None:
    if how is Format.PARQUET and output is None:
        raise click.UsageError("parquet is a binary format: give a file with --output")
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    engine = engine_for(settings.database_url, application="export", bounds=EXPORT)
    try:
        with engine.connect() as connection:
            check_organizations(connection, window.organizations)
        with progress_bar() as progress, standard_output() if output is None else whole_file(output) as into:
            number = export_rows(
                engine, SOURCES[name], window, how, into, progress=progress, counted=sys.stderr.isatty()
            )
    finally:
        engine.dispose()
    if output is not None:
        click.echo(f"{counted(number, 'row')} in {output}", err=True)

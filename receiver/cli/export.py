"""``receiver export``: tables of ``ems`` as files."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receiver.cli.filters import check_organizations
from receiver.cli.group import Group
from receiver.cli.output import counted, progress_bar
from receiver.cli.parameters import MOMENT
from receiver.cli.recorded import RecordedCommand
from receiver.connections import EXPORT
from receiver.db import engine_for
from receiver.exports.export import export_rows
from receiver.exports.source import SOURCES, By, Format, Window
from receiver.exports.target import standard_output, whole_file
from receiver.settings import REQUIRED_FOR_DATABASE, load_settings

if TYPE_CHECKING:
    from datetime import datetime

FORMATS = [each.value for each in Format]


@click.group(cls=Group)
def export() -> None:
    """Export a table of schema ems to a file.

    All rows are from one snapshot. Amounts keep their digits and times are in UTC. In CSV a text that a spreadsheet
    would read as a formula gets a leading '; jsonl and parquet contain texts unchanged.
    """


def _command(name: str, words: str) -> None:
    """Add the command that exports the table *name*."""
    source = SOURCES[name]

    @export.command(
        name,
        cls=RecordedCommand,
        about=("since", "until", "by", "organizations", "how", "output"),
        help=words,
    )
    @click.option("--since", type=MOMENT, metavar="TIME", help="From this time on: 2026-02-13, or 24h (24 hours ago).")
    @click.option("--until", type=MOMENT, metavar="TIME", help="Before this time.")
    @click.option(
        "--by",
        type=click.Choice([each.value for each in source.times]),
        default=source.default.value,
        show_default=True,
        help="The date that --since and --until compare: "
        + ", ".join(f"{by} ({column})" for by, column in source.times.items())
        + ".",
    )
    @click.option("--organization", "organizations", metavar="REF", multiple=True, help="Only this one; repeatable.")
    @click.option("--format", "how", type=click.Choice(FORMATS), default="csv", show_default=True)
    @click.option("--excel", is_flag=True, help="CSV for a European Excel: byte order mark, ';' and decimal comma.")
    @click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="The file; needed for parquet.")
    def command(
        since: datetime | None,
        until: datetime | None,
        by: str,
        organizations: tuple[str, ...],
        how: str,
        excel: bool,
        output: Path | None,
    ) -> None:
        if excel and how != Format.CSV:
            raise click.UsageError("--excel is about CSV: leave --format away")
        _export(name, Window(since, until, organizations, By(by)), Format(how), output, excel=excel)


for _name, _words in (
    (
        "transactions",
        """Export the transactions as they are now, in any state.

        Example: receiver export transactions --since 24h --output changed.csv
        """,
    ),
    (
        "ledger",
        """Export the transactions to post (cleared and invoiced), by booked_on unless --by says otherwise.

        Example: receiver export ledger --since 2026-02-01 --until 2026-03-01 --output february.csv
        """,
    ),
    (
        "ledger_vat",
        """Export the VAT of the ledger, a row for each transaction and rate.

        Example: receiver export ledger_vat --since 2026-02-01 --until 2026-03-01 --excel --output february-vat.csv
        """,
    ),
    (
        "ledger_journal",
        """Export the ledger's journal: each booking, reversal and correction.

        Example: receiver export ledger_journal --since 2026-02-01 --until 2026-03-01 --output journal.csv
        """,
    ),
    (
        "line_items",
        """Export what was bought, by the day of booking.

        Example: receiver export line_items --since 2026-02-01 --until 2026-03-01 --output items.csv
        """,
    ),
    (
        "receipts",
        """Export the receipts and where their files are, by the day of booking.

        Example: receiver export receipts --since 2026-02-01 --until 2026-03-01 --output receipts.csv
        """,
    ),
    (
        "invoices",
        """Export the issuers' invoices, by their dates.

        Example: receiver export invoices --organization acme --output invoices.csv
        """,
    ),
    (
        "card_holders",
        """Export the card holders and what is known of each.

        Example: receiver export card_holders --organization acme --format jsonl
        """,
    ),
    (
        "events",
        """Export the change feed in its order, by when events took effect.

        Example: receiver export events --since 24h --format parquet --output events.parquet
        """,
    ),
):
    _command(_name, _words)


def _export(name: str, window: Window, how: Format, output: Path | None, *, excel: bool) -> None:
    if how is Format.PARQUET and output is None:
        raise click.UsageError("parquet is a binary format: give a file with --output")
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    engine = engine_for(settings.database_url, application="export", timeouts=EXPORT)
    try:
        with engine.connect() as connection:
            check_organizations(connection, window.organizations)
        with progress_bar() as progress, standard_output() if output is None else whole_file(output) as into:
            number = export_rows(
                engine, SOURCES[name], window, how, into, progress=progress, counted=sys.stderr.isatty(), excel=excel
            )
    finally:
        engine.dispose()
    if output is not None:
        click.echo(f"{counted(number, 'row')} in {output}", err=True)

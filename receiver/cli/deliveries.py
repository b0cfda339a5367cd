"""``receiver deliveries``: list stored deliveries, and show everything about one."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

import click

from receiver.cli.delivery_sheet import print_delivery
from receiver.cli.filters import check_organizations, filter_of, filter_options
from receiver.cli.group import Group
from receiver.cli.output import counted, json_option, print_json, print_rows, progress_bar
from receiver.cli.parameters import ID, WholeNumber
from receiver.cli.recorded import RecordedCommand
from receiver.db import one_connection
from receiver.errors import OperationRefused
from receiver.ops.deliveries import list_deliveries, read_delivery
from receiver.settings import REQUIRED_FOR_DATABASE, load_settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from receiver.ops.deliveries import DeliverySummary, Filter

MOST_AT_ONCE: Final = 1000
COLUMNS: Final = {
    "id": "delivery",
    "received_at": "received",
    "organization_reference_id": "organization",
    "event": "event",
    "status": "status",
    "attempts": "attempts",
    "transaction_id": "transaction",
    "error": "error",
}
OPTIONAL: Final = ("attempts", "organization_reference_id", "transaction_id")
"""Columns that a narrow terminal does without."""


@click.group(cls=Group)
def deliveries() -> None:
    """List stored deliveries, and show everything about one."""


@deliveries.command("list", cls=RecordedCommand, about=("organizations",), only_with="card_holder")
@filter_options
@click.option("--transaction", "transaction_id", metavar="ID", help="About this transaction.")
@click.option("--card-holder", metavar="REF", help="About this card holder, or a transaction of theirs.")
@click.option("--limit", type=WholeNumber(1, MOST_AT_ONCE), default=50, show_default=True, help="How many at most.")
@click.option("--before", type=ID, metavar="ID", help="Only older ones: with smaller ids than this.")
@json_option
def list_command(
    transaction_id: str | None,
    card_holder: str | None,
    limit: int,
    before: int | None,
    as_json: bool,
    **restrictions: Any,  # noqa: ANN401 - those of filter_options
) -> None:
    """List stored deliveries, newest first.

    Without bodies and personal data. When there are more, the last line says how to continue.

    Example: receiver deliveries list --status dead --since 24h
    """
    wanted = replace(filter_of(**restrictions), transaction_id=transaction_id, card_holder_reference_id=card_holder)
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    with one_connection(settings.database_url, application="deliveries") as connection:
        check_organizations(connection, wanted.organizations)
        rows, before = _find(connection, wanted, before, limit)
    if as_json:
        print_json({"deliveries": rows, "before": before})
        return
    print_rows(
        [asdict(row) for row in rows],
        COLUMNS,
        empty="no deliveries match",
        optional=OPTIONAL,
    )
    if before is not None:
        click.echo(f"{counted(len(rows), 'line')}; there are more: --before {before}", err=True)


def _find(
    connection: Connection, wanted: Filter, before: int | None, limit: int
) -> tuple[list[DeliverySummary], int | None]:
    """Return the first *limit*, however far back they are, and where to continue."""
    rows: list[DeliverySummary] = []
    with progress_bar() as progress:
        while True:
            page = list_deliveries(connection, wanted, before=before, limit=limit - len(rows))
            rows += page.rows
            before = page.before
            if before is None or len(rows) >= limit:
                return rows, before
            progress.stage(f"searched back to {page.looked_back_to:%Y-%m-%d %H:%M}")


@deliveries.command("show", cls=RecordedCommand, about=("delivery_id",))
@click.argument("delivery_id", metavar="ID", type=ID)
@json_option
def show_command(delivery_id: int, as_json: bool) -> None:
    """Show everything about one delivery.

    How it was verified, its headers and payload, every attempt with error and trace, deliveries of the same event,
    replays, and the rows of ems that it wrote. The payload holds personal data, so each view is recorded.

    Example: receiver deliveries show 4711
    """
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    with one_connection(settings.database_url, application="deliveries") as connection:
        details = read_delivery(connection, delivery_id)
    if details is None:
        raise OperationRefused(f"there is no delivery {delivery_id}; see receiver deliveries list")
    if as_json:
        print_json({**asdict(details.summary), **{k: v for k, v in asdict(details).items() if k != "summary"}})
    else:
        print_delivery(details)
    sys.stdout.flush()

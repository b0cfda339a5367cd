"""``receiver deliveries``: list stored deliveries, show one in full, decide about those that need attention."""

from __future__ import annotations

import hmac
import os
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from receiver.cli.delivery_sheet import print_delivery
from receiver.cli.filters import FILTER, check_organizations, filter_of, filter_options
from receiver.cli.group import Group
from receiver.cli.operator import operator
from receiver.cli.output import counted, json_option, print_json, print_rows, progress_bar
from receiver.cli.parameters import ID, WholeNumber
from receiver.cli.recorded import RecordedCommand
from receiver.db import engine_for, one_connection
from receiver.errors import OperationRefused
from receiver.ops.decisions import accept_deliveries
from receiver.ops.deliveries import Filter, list_deliveries, read_delivery
from receiver.ops.deliveries.fixture import make_fixture
from receiver.ops.resolving import count_resolvable, reopen_deliveries, resolve_deliveries
from receiver.ops.retracting import retract_deliveries, undo_retraction
from receiver.reconcile.session import OPEN_PERIOD
from receiver.settings import REQUIRED_FOR_DATABASE, REQUIRED_FOR_KEYS, load_settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from receiver.ops.deliveries import DeliveryDetails, DeliverySummary
    from receiver.ops.deliveries.fixture import Fixture
    from receiver.settings import Settings

MAX_AT_ONCE: Final = 1000
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
OPTIONAL: Final = ("attempts", "transaction_id", "organization_reference_id")
"""Columns that a narrow terminal does without."""


@click.group(cls=Group)
def deliveries() -> None:
    """List stored deliveries, show everything about one, and decide about those that need attention."""


@deliveries.command("list", cls=RecordedCommand, about=(*FILTER, "unconfirmed"), only_with=("card_holder",))
@filter_options
@click.option("--transaction", "transaction_id", metavar="ID", help="About this transaction: its whole id.")
@click.option(
    "--unconfirmed", is_flag=True, help="Not in OpenCard's log; of the last eight days unless --since says otherwise."
)
@click.option("--card-holder", metavar="REF", help="About this card holder, or a transaction of theirs.")
@click.option("--limit", type=WholeNumber(1, MAX_AT_ONCE), default=50, show_default=True, help="How many at most.")
@click.option("--before", type=ID, metavar="ID", help="Only older ones: with smaller ids than this.")
@json_option
def list_command(
    transaction_id: str | None,
    card_holder: str | None,
    unconfirmed: bool,
    limit: int,
    before: int | None,
    as_json: bool,
    **restrictions: Any,  # noqa: ANN401 - those of filter_options
) -> None:
    """List stored deliveries, newest first.

    Without bodies and personal data. When there are more, the last line says how to continue.

    Example: receiver deliveries list --status dead --since 24h
    """
    wanted = replace(
        filter_of(**restrictions),
        transaction_id=transaction_id,
        card_holder_reference_id=card_holder,
        unconfirmed=unconfirmed,
    )
    if unconfirmed and wanted.since is None:
        wanted = replace(wanted, since=datetime.now(UTC) - OPEN_PERIOD)
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


@deliveries.command("show", cls=RecordedCommand, about=("delivery_id", "fixture"))
@click.argument("delivery_id", metavar="ID", type=ID)
@click.option("--fixture", is_flag=True, help="Print it as JSON for tests, with everything personal replaced.")
@json_option
def show_command(delivery_id: int, fixture: bool, as_json: bool) -> None:
    """Show everything about one delivery.

    How it was verified, its headers and payload, every attempt with error and trace, deliveries of the same event,
    replays, and the rows of ems that it wrote. The payload holds personal data, so each view is recorded.

    --fixture prints event, headers and body of the same structure, with names, references, texts, amounts and days
    replaced. Equal values get equal replacements in every fixture while the first of ENCRYPTION_KEYS stays the same.

    Example: receiver deliveries show 4711

    Example: receiver deliveries show 4711 --fixture > cleared.json
    """
    required = REQUIRED_FOR_KEYS if fixture else REQUIRED_FOR_DATABASE
    settings = load_settings(os.environ, required=required)
    with one_connection(settings.database_url, application="deliveries") as connection:
        details = read_delivery(connection, delivery_id)
    if details is None:
        raise OperationRefused(f"there is no delivery {delivery_id}; see receiver deliveries list")
    if fixture:
        click.echo(_fixture(details, settings).as_json())
    elif as_json:
        print_json({**asdict(details.summary), **{k: v for k, v in asdict(details).items() if k != "summary"}})
    else:
        print_delivery(details)
    sys.stdout.flush()


def _fixture(details: DeliveryDetails, settings: Settings) -> Fixture:
    if details.payload is None:
        raise OperationRefused(f"delivery {details.summary.id}: its body is not stored any more")
    key = hmac.digest(settings.encryption_keys[0].encode(), b"fixtures", "sha256")
    return make_fixture(details.summary.event, details.headers, details.payload.encode(), key)


@deliveries.command(
    "resolve", cls=RecordedCommand, about=("ids", *FILTER, "undo"), reason="reason", unless=("dry_run",)
)
@click.argument("ids", metavar="[ID]...", nargs=-1, type=ID)
@filter_options
@click.option("--reason", metavar="TEXT", help="Why nothing more is needed, for the record.  [required]")
@click.option("--undo", is_flag=True, help="Let them count as open again.")
@click.option("--dry-run", is_flag=True, help="Print how many would be resolved; change nothing.")
@json_option
def resolve_command(
    ids: tuple[int, ...],
    reason: str | None,
    undo: bool,
    dry_run: bool,
    as_json: bool,
    **restrictions: Any,  # noqa: ANN401 - those of filter_options
) -> None:
    """Resolve dead, quarantined and ignored deliveries without replaying them, by id or by a filter.

    They keep their status, but no longer count as open: in receiver status, in issues and alerts, and in
    ems.completeness, which then says that nothing is missing. So first make sure that the EMS needs nothing of them.

    Example: receiver deliveries resolve --status ignored --event card_holder.renamed --reason "a test by OpenCard"
    """
    if ids and any(restrictions.values()):
        raise click.UsageError("give ids or a filter, not both")
    if not ids and not any(restrictions.values()):
        raise click.UsageError("which deliveries? Give ids, or a filter such as --status dead")
    if undo and dry_run:
        raise click.UsageError("--undo and --dry-run cannot be combined")
    if not undo and not dry_run and not (reason or "").strip():
        raise click.UsageError("--reason is missing: it is recorded with each delivery")
    wanted = ids or filter_of(**restrictions)
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    engine = engine_for(settings.database_url, application="deliveries")
    try:
        if isinstance(wanted, Filter):
            with engine.connect() as connection:
                check_organizations(connection, wanted.organizations)
        if undo:
            name, number = "reopened", reopen_deliveries(engine, wanted)
        elif dry_run:
            name, number = "would be resolved", count_resolvable(engine, wanted)
        else:
            name, number = "resolved", resolve_deliveries(engine, wanted, by=operator(), reason=str(reason))
    finally:
        engine.dispose()
    if as_json:
        print_json({name.replace(" ", "_"): number})
    else:
        click.echo(f"{counted(number, 'delivery', 'deliveries')} {name}")


@deliveries.command("accept", cls=RecordedCommand, about=("ids",), reason="reason")
@click.argument("ids", metavar="ID...", nargs=-1, required=True, type=ID)
@click.option("--reason", metavar="TEXT", required=True, help="Why they are genuine, for the record.")
@json_option
def accept_command(ids: tuple[int, ...], reason: str, as_json: bool) -> None:
    """Accept deliveries as genuine although OpenCard's log does not have them.

    They are no longer counted as unconfirmed in receiver status, issues, alerts and the view
    receiver.delivery_gaps_by_hour. Their events are in ems already. Only unconfirmed deliveries can be accepted:
    receiver deliveries list --unconfirmed.

    Example: receiver deliveries accept 4711 4712 --reason "OpenCard: their log has a gap on 3 May"
    """
    if not reason.strip():
        raise click.UsageError("--reason is empty: it is recorded with each delivery")
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    engine = engine_for(settings.database_url, application="deliveries")
    try:
        number = accept_deliveries(engine, ids, by=operator(), reason=reason)
    finally:
        engine.dispose()
    if as_json:
        print_json({"accepted": number})
    else:
        click.echo(f"{counted(number, 'delivery', 'deliveries')} accepted")


@deliveries.command("retract", cls=RecordedCommand, about=("ids", "undo"), reason="reason")
@click.argument("ids", metavar="ID...", nargs=-1, required=True, type=ID)
@click.option("--reason", metavar="TEXT", required=True, help="Why they are forged, or genuine after all.")
@click.option("--undo", is_flag=True, help="Undo their retraction: they count again.")
@json_option
def retract_command(ids: tuple[int, ...], reason: str, undo: bool, as_json: bool) -> None:
    """Retract deliveries that are forged: the tables of ems are computed without their events.

    Only deliveries that OpenCard's log does not have can be retracted: receiver deliveries list --unconfirmed. Rows,
    ledger and journal are computed as if they had not arrived, and the feed announces it (receiver.changed). The event
    stays if another delivery brought it, too: that one is processed again. A retracted delivery no longer counts as
    unconfirmed, and is not replayed.

    Example: receiver deliveries retract 4711 --reason "OpenCard: not sent by them"

    Example: receiver deliveries retract --undo 4711 --reason "OpenCard: it is theirs after all"
    """
    if not reason.strip():
        raise click.UsageError("--reason is empty: it is recorded with each delivery")
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    engine = engine_for(settings.database_url, application="deliveries")
    try:
        if undo:
            name, number = "restored", undo_retraction(engine, ids, reason=reason)
        else:
            name, number = "retracted", retract_deliveries(engine, ids, by=operator(), reason=reason)
    finally:
        engine.dispose()
    if as_json:
        print_json({name: number})
    else:
        click.echo(f"{counted(number, 'delivery', 'deliveries')} {name}")

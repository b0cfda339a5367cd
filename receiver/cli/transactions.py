"""``receiver transactions``: find purchases, and show everything that happened to one."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import click

from receiver.cli.filters import AGAIN, check_organizations
from receiver.cli.group import Group
from receiver.cli.output import counted, json_option, print_json, print_rows, progress_bar
from receiver.cli.parameters import DAY, WholeNumber
from receiver.cli.purchase_sheet import print_held, print_purchase, with_currency
from receiver.cli.recorded import RecordedCommand
from receiver.connections import WEB
from receiver.db import one_connection
from receiver.errors import OperationRefused
from receiver.ops.purchases import (
    PurchaseFilter,
    find_purchases,
    held_deliveries,
    organizations_of,
    parse_amount,
    read_purchase,
)
from receiver.settings import REQUIRED_FOR_DATABASE, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from datetime import date
    from typing import TypeAlias

    from sqlalchemy import Connection

    from receiver.ops.purchases import FoundPurchase

    _AmountType: TypeAlias = click.ParamType[Decimal]
else:
    _AmountType = click.ParamType  # which older releases of click cannot subscript

MAX_AT_ONCE: Final = 1000
COLUMNS: Final = {
    "id": "transaction",
    "day": "day",
    "organization_reference_id": "organization",
    "merchant": "merchant",
    "original": "amount",
    "accounting": "accounted",
    "state": "state",
    "booked_on": "booked",
    "invoice_number": "invoice",
}
OPTIONAL: Final = (
    "invoice_number",
    "booked_on",
    "accounting",
    "organization_reference_id",
)
"""Columns that a narrow terminal does without."""
PERSONAL_OPTIONS: Final = ("card_holder_reference_id", "last_four")
"""Options by which a person is searched for."""


class AmountType(_AmountType):
    """An amount in major units, as ``245.50`` or ``245,50``."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:  # noqa: ANN401
        """Return the amount."""
        if isinstance(value, Decimal):
            return value
        try:
            return parse_amount(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


AMOUNT: Final = AmountType()


def _form(pattern: str, words: str) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """Return a callback that refuses values of another form than the *pattern*, which *words* describe."""

    def check(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
        if value and not re.fullmatch(pattern, value, re.ASCII):
            raise click.BadParameter(f"needs {words}")
        return value

    return check


@click.group(cls=Group)
def transactions() -> None:
    """Find purchases, and show everything about one."""


@transactions.command("list", cls=RecordedCommand, about=("organizations",), only_with=PERSONAL_OPTIONS)
@click.option("--organization", "organizations", multiple=True, metavar="REF", help=f"Organization; {AGAIN}.")
@click.option("--merchant", metavar="TEXT", help="Part of the merchant's name, in upper or lower case.")
@click.option("--amount", type=AMOUNT, help="Amount of the purchase, or as accounted; its sign does not count.")
@click.option("--tolerance", type=AMOUNT, default="0", show_default=True, help="By how much the amount may differ.")
@click.option(
    "--currency",
    metavar="CODE",
    callback=_form(r"[A-Za-z]{3}", "three letters, such as SEK"),
    help="Currency of the amount, such as SEK.",
)
@click.option("--on", "day", type=DAY, help="Purchased on this day.")
@click.option("--from", "first_day", type=DAY, help="Purchased on this day or later.")
@click.option("--to", "last_day", type=DAY, help="Purchased on this day or earlier.")
@click.option("--invoice", "invoice_number", metavar="NUMBER", help="On this invoice of the card's issuer.")
@click.option("--transaction", "transaction_id", metavar="ID", help="With this id, which is given whole.")
@click.option("--card-holder", "card_holder_reference_id", metavar="REF", help="Of this card holder; recorded.")
@click.option(
    "--last-four",
    metavar="DIGITS",
    callback=_form(r"[0-9]{4}", "four digits"),
    help="With a card that ends in these digits; recorded.",
)
@click.option("--limit", type=WholeNumber(1, MAX_AT_ONCE), default=50, show_default=True, help="How many at most.")
@click.option("--before", metavar="PLACE", help="Only older ones: continue where a list ended.")
@json_option
def list_command(
    day: date | None,
    first_day: date | None,
    last_day: date | None,
    tolerance: Decimal,
    currency: str | None,
    limit: int,
    before: str | None,
    as_json: bool,
    **restrictions: Any,  # noqa: ANN401 - those that are named as in PurchaseFilter
) -> None:
    """Find purchases, newest first.

    Without personal data. When there are more, the last line says how to continue. Deliveries that were not applied
    are compared, too: one of them may bring the purchase. A search for a card holder or a card is recorded.

    Example: receiver transactions list --organization acme --merchant müller --amount 245.50 --on 2026-10-12
    """
    if day is not None and (first_day is not None or last_day is not None):
        raise click.UsageError("give either --on, or --from and --to")
    if first_day is not None and last_day is not None and first_day > last_day:
        raise click.UsageError(f"--from {first_day} is after --to {last_day}")
    if tolerance and restrictions["amount"] is None:
        raise click.UsageError("--tolerance needs --amount")
    wanted = PurchaseFilter(
        first_day=day or first_day,
        last_day=day or last_day,
        tolerance=abs(tolerance),
        currency=currency.upper() if currency else None,
        **{name: value or None for name, value in restrictions.items() if name != "organizations"},
        organizations=tuple(dict.fromkeys(restrictions["organizations"])),
    )
    with _connection() as connection:
        check_organizations(connection, wanted.organizations)
        compared = before is None and wanted.restricts
        try:
            rows, before = _find(connection, wanted, before, limit)
        except ValueError as error:
            raise click.UsageError(f"--before: {error}") from error
        held = held_deliveries(connection, wanted) if compared else None
    if as_json:
        print_json({"transactions": rows, "before": before, "not_applied": held})
        return
    print_rows([_cells(row) for row in rows], COLUMNS, empty="no purchases match", optional=OPTIONAL)
    if held is not None:
        print_held(held, organizations=wanted.organizations, found=bool(rows))
    if before is not None:
        click.echo(f"{counted(len(rows), 'line')}; there are more: --before {before}", err=True)


def _cells(row: FoundPurchase) -> dict[str, object]:
    amounts = {
        "original": with_currency(row.original_amount, row.original_currency),
        "accounting": with_currency(row.accounting_amount, row.accounting_currency),
    }
    return {**asdict(row), **amounts}


def _find(
    connection: Connection, wanted: PurchaseFilter, before: str | None, limit: int
) -> tuple[list[FoundPurchase], str | None]:
    """Return the first *limit*, however far back they are, and where to continue."""
    rows: list[FoundPurchase] = []
    with progress_bar() as progress:
        while True:
            page = find_purchases(connection, wanted, before=before, limit=limit - len(rows))
            rows += page.rows
            before = page.before
            if before is None or len(rows) >= limit:
                return rows, before
            progress.stage(f"searched back to {page.looked_back_to}")


@transactions.command("show", cls=RecordedCommand, about=("transaction_id", "organization"), only_with=("personal",))
@click.argument("transaction_id", metavar="ID")
@click.option("--organization", metavar="REF", help="Organization, if several have this id.")
@click.option("--personal", is_flag=True, help="With card holder, card and payloads; recorded.")
@json_option
def show_command(transaction_id: str, organization: str | None, personal: bool, as_json: bool) -> None:
    """Show everything about one purchase.

    The current state, the ledger's line or why there is none, receipts, VAT and items, what reconcile found, and a
    timeline: deliveries, events with what each changed, OpenCard's attempts, the journal, replays, who viewed
    personal data.

    Example: receiver transactions show 7c1e5d0e-5b1f-4e0a-9d8e-3a9f6a1b2c3d
    """
    with _connection() as connection:
        if organization is not None:
            check_organizations(connection, (organization,))
            found = [organization]
        else:
            found = organizations_of(connection, transaction_id)
        if len(found) > 1:
            raise OperationRefused(
                f"several organizations have a transaction {transaction_id!r}: {', '.join(found)}; "
                "choose one with --organization"
            )
        details = read_purchase(connection, found[0], transaction_id, personal=personal) if found else None
    if details is None:
        raise OperationRefused(
            f"no transaction, event or delivery has the id {transaction_id!r}; a delivery that could not be parsed "
            "has none: see receiver deliveries list --status dead"
        )
    if as_json:
        print_json(asdict(details))
    else:
        print_purchase(details)
    sys.stdout.flush()


def _connection() -> AbstractContextManager[Connection]:
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    return one_connection(settings.database_url, application="transactions", timeouts=WEB)

"""``receiver transactions``: one purchase with everything that happened to it."""

from __future__ import annotations

import os
from dataclasses import asdict

import click

from receiver.cli.filters import check_organizations
from receiver.cli.group import Group
from receiver.cli.output import json_option, print_json
from receiver.cli.purchase_sheet import print_purchase
from receiver.connections import WEB
from receiver.db import one_connection
from receiver.errors import OperationRefused
from receiver.ops.purchases import organizations_of, read_purchase
from receiver.settings import REQUIRED_FOR_DATABASE, load_settings


@click.group(cls=Group)
def transactions() -> None:
    """Show everything about one purchase."""


@transactions.command("show")
@click.argument("transaction_id", metavar="ID")
@click.option("--organization", metavar="REF", help="Organization, if several have this id.")
@json_option
def show_command(transaction_id: str, organization: str | None, as_json: bool) -> None:
    """Show everything about one purchase.

    What holds now, the ledger's line or why there is none, receipts, VAT and items, what reconcile found, and a
    timeline: deliveries, events with what each changed, OpenCard's attempts, the journal, replays. Without personal
    data: receiver deliveries show has the payloads.

    Example: receiver transactions show 7c1e5d0e-5b1f-4e0a-9d8e-3a9f6a1b2c3d
    """
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    with one_connection(settings.database_url, application="transactions", bounds=WEB) as connection:
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
        details = read_purchase(connection, found[0], transaction_id) if found else None
    if details is None:
        raise OperationRefused(
            f"no transaction, event or delivery has the id {transaction_id!r}; a delivery that could not be parsed "
            "has none: see receiver deliveries list --status dead"
        )
    if as_json:
        print_json(asdict(details))
    else:
        print_purchase(details)

"""``receiver scopes``: the scopes of OpenCard's OAuth clients."""

from __future__ import annotations

import click

from receiver.cli.output import json_option, print_json, print_rows
from receiver.opencard.scopes import FIRST_RUN, RECOMMENDED, SCOPES, commands_needing


@click.command()
@json_option
def scopes(as_json: bool) -> None:
    """List OpenCard's OAuth scopes and the commands that need them.

    With what each scope allows, whether OpenCard recommends it for an EMS, and whether a first run of this service
    needs it.

    Example: receiver scopes
    """
    rows = [
        {
            "scope": scope,
            "opens": opens,
            "recommended": scope in RECOMMENDED,
            "first_run": scope in FIRST_RUN,
            "needed_by": commands_needing(scope),
        }
        for scope, opens in SCOPES.items()
    ]
    if as_json:
        print_json(rows)
        return
    columns = {
        "scope": "scope",
        "opens": "allows",
        "recommended": "recommended",
        "first_run": "first run",
        "needed_by": "needed by",
    }
    print_rows(
        [{**row, "needed_by": ", ".join(commands_needing(str(row["scope"])))} for row in rows],
        columns,
        empty="",
        optional=("needed_by", "opens"),
    )

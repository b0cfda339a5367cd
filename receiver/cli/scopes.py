"""``receiver scopes``: what an OAuth client of OpenCard can be allowed."""

from __future__ import annotations

import click

from receiver.cli.output import json_option, print_json, print_rows
from receiver.opencard.scopes import FIRST_RUN, RECOMMENDED, SCOPES, commands_needing


@click.command()
@json_option
def scopes(as_json: bool) -> None:
    """List OpenCard's scopes, and which command needs which.

    With what each opens, whether it is in the set that OpenCard recommends to start an EMS with, and whether a client
    needs it for a first run of this service.

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
    columns = ("scope", "opens", "recommended", "first_run", "needed_by")
    print_rows(
        [{**row, "needed_by": ", ".join(commands_needing(str(row["scope"])))} for row in rows],
        {name: name.replace("_", " ") for name in columns},
        empty="",
    )

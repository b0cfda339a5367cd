"""``receiver scopes``: what an OAuth client of OpenCard can be allowed."""

from __future__ import annotations

import click

from receiver.cli.output import json_option, print_json, print_rows
from receiver.opencard.scopes import RECOMMENDED, SCOPES, commands_needing


@click.command()
@json_option
def scopes(as_json: bool) -> None:
    """List OpenCard's scopes, and which command needs which.

    With what each opens, and whether it is in the set that OpenCard recommends to start an EMS with.

    Example: receiver scopes
    """
    rows = [
        {"scope": scope, "opens": opens, "recommended": scope in RECOMMENDED, "needed_by": commands_needing(scope)}
        for scope, opens in SCOPES.items()
    ]
    if as_json:
        print_json(rows)
        return
    print_rows(
        [{**row, "needed_by": ", ".join(commands_needing(str(row["scope"])))} for row in rows],
        {"scope": "scope", "opens": "opens", "recommended": "recommended", "needed_by": "needed by"},
        empty="",
    )

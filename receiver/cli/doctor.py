"""``receiver doctor``: checks of the whole installation, each with what to do."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from receiver.cli.bootstrap import configuration_option, configuration_path
from receiver.cli.logs import configure_command_logs
from receiver.cli.output import json_option, print_json, print_rows
from receiver.ops.doctor import examine, exit_code
from receiver.settings import REQUIRED_FOR_API, read_settings

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@configuration_option
@json_option
def doctor(config: Path | None, as_json: bool) -> None:
    """Check settings, connections and webhooks, and say what to fix.

    Checks settings, database, migrations, encryption keys, Redis, OpenCard's API, the OAuth client and each of its
    scopes, the route from PUBLIC_URL to a web process, and every webhook at OpenCard. Changes nothing.

    Exit codes: 0 all is well (notes are not failures), 1 something is broken, 2 settings are missing or wrong.

    Example: receiver doctor
    """
    settings, problems = read_settings(os.environ, required=REQUIRED_FOR_API)
    configure_command_logs(settings)
    found = examine(settings, problems, configuration=configuration_path(config), environ=os.environ)
    rows = [{"check": each.check, "state": each.state.value, "detail": each.detail} for each in found]
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, {"state": "state", "check": "check", "detail": "detail"}, empty="")
    sys.exit(exit_code(found))

"""``receiver doctor``: is everything as it should be, and if not, what is to be done."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from receiver.cli.bootstrap import configuration_option, configuration_path
from receiver.cli.output import json_option, print_json, print_rows
from receiver.logs import configure_logs
from receiver.ops.doctor import examine, exit_code
from receiver.settings import REQUIRED_FOR_API, read_settings

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@configuration_option
@json_option
def doctor(config: Path | None, as_json: bool) -> None:
    """Check everything, and say what to do about what is broken.

    Settings, database, migrations, encryption keys, Redis, OpenCard's API, the OAuth client and each of its scopes, the
    way from PUBLIC_URL to a web process, and every webhook at OpenCard. Changes nothing.

    Exits 0 when all is well (notes are no fault), 1 when something is broken, 2 when settings are missing or wrong.

    Example: receiver doctor
    """
    settings, problems = read_settings(os.environ, required=REQUIRED_FOR_API)
    configure_logs(level=settings.log_level, log_format=settings.log_format)
    found = examine(settings, problems, configuration=configuration_path(config), environ=os.environ)
    rows = [{"check": each.check, "state": each.state.value, "detail": each.detail} for each in found]
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, {"state": "state", "check": "check", "detail": "detail"}, empty="")
    sys.exit(exit_code(found))

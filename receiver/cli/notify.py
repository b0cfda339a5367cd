"""``receiver notify``: test the addresses that alerts are sent to."""

from __future__ import annotations

import os

import click

from receiver.cli.group import Group
from receiver.cli.output import json_option, print_json, print_rows
from receiver.errors import ConfigurationError
from receiver.ops.issues.notifications import targets_of
from receiver.settings import load_settings


@click.group(cls=Group)
def notify() -> None:
    """Check the addresses of NOTIFY_URLS, to which messages about issues are sent."""


@notify.command("test")
@json_option
def test(as_json: bool) -> None:
    """Send a test message to each address. Exit code 1 when one does not accept it.

    Example: receiver notify test
    """
    settings = load_settings(os.environ, required=())
    targets = targets_of(settings)
    if not targets:
        raise ConfigurationError(
            ["NOTIFY_URLS is not set: set it to the addresses that get messages, such as slack://… or mailto://…"]
        )
    results = []
    for target in targets:
        try:
            target.send(
                title="OpenCard receiver: test", body="Messages about issues arrive here.", message_type="success"
            )
        except OSError as error:
            results.append({"address": target.name, "taken": False, "error": str(error)})
        else:
            results.append({"address": target.name, "taken": True, "error": None})
    if as_json:
        print_json(results)
    else:
        print_rows(results, {"address": "address", "taken": "taken", "error": "error"}, empty="")
    if not all(each["taken"] for each in results):
        raise click.exceptions.Exit(1)

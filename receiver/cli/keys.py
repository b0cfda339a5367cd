"""``receiver keys``: the encryption keys of stored secrets."""

from __future__ import annotations

import os
import sys

import click

from receiver.cli.group import Group
from receiver.cli.output import json_option, print_json, print_rows
from receiver.cli.recorded import RecordedCommand
from receiver.db import engine_for
from receiver.encryption import Encryption
from receiver.ops.keys import rotate_keys
from receiver.settings import REQUIRED_FOR_KEYS, load_settings


@click.group(cls=Group)
def keys() -> None:
    """Rotate the keys that stored secrets are encrypted with."""


@keys.command("rotate", cls=RecordedCommand)
@json_option
def rotate(as_json: bool) -> None:
    """Encrypt stored secrets with the newest key.

    That is the first in ENCRYPTION_KEYS; values that use it already are not changed.

    First put the new key in front of the others for every process, and restart them; then run this. When it exits 0,
    the older keys can be removed. Safe while the service runs; may be interrupted and run again.

    A value that no key decrypts is left unchanged; its column is named, and the exit code is 1.

    Example: receiver keys rotate
    """
    settings = load_settings(os.environ, required=REQUIRED_FOR_KEYS)
    engine = engine_for(settings.database_url, application="command")
    try:
        found = rotate_keys(engine, Encryption(settings.encryption_keys))
    finally:
        engine.dispose()
    rows = [
        {
            "table": state.table,
            "column": state.column,
            "renewed": state.older,
            "newest": state.newest,
            "unreadable": state.unreadable,
        }
        for state in found
    ]
    if as_json:
        print_json(rows)
    else:
        headings = {"renewed": "re-encrypted", "newest": "already current", "unreadable": "unreadable"}
        print_rows(rows, {"table": "table", "column": "column", **headings}, empty="nothing is encrypted")
    unreadable = [state for state in found if state.unreadable]
    for state in unreadable:
        click.echo(
            f"receiver: {state.name}: no key in ENCRYPTION_KEYS decrypts {state.unreadable} of its values; they are "
            "unchanged: append the key that was in use before, and run receiver keys rotate again",
            err=True,
        )
    sys.exit(1 if unreadable else 0)

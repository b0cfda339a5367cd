"""``receiver ops``: users of the console."""

from __future__ import annotations

import sys
from typing import Final

import click
from werkzeug.security import generate_password_hash

from receiver.cli.group import Group

SHORTEST_PASSWORD: Final = 12
LONGEST_PASSWORD: Final = 1024


@click.group(cls=Group)
def ops() -> None:
    """Manage the users of the console."""


@ops.command("hash-password")
@click.argument("source", required=False, type=click.Choice(["-"]), metavar="[-]")
def hash_password(source: str | None) -> None:
    """Print the hash of a password, for OPS_USERS.

    Asks for the password twice on a terminal; with - reads the first line of standard input.

    Example: receiver ops hash-password
    """
    if source == "-":
        password = sys.stdin.readline().rstrip("\r\n")
    elif at_terminal():
        password = click.prompt("Password", hide_input=True, confirmation_prompt="Repeat the password", err=True)
    else:
        raise click.UsageError("no terminal to ask for the password; give - and the password on standard input")
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise click.UsageError(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")
    click.echo(generate_password_hash(password))


def at_terminal() -> bool:
    """Return whether an operator can be asked."""
    return sys.stdin.isatty()

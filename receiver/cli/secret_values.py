"""Options whose value is a secret: given as an argument, read from standard input, or from a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable


def secret_option(name: str, meaning: str, *, required: bool = False) -> Callable[[Any], Any]:
    """Return an option with a secret: a text, ``-`` for a line of standard input, or ``@FILE``."""
    return click.option(
        name,
        default=None if required else "",
        required=required,
        metavar="TEXT|-|@FILE",
        callback=_read,
        help=f"{meaning}; - reads standard input, @FILE a file.",
    )


def _read(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if value == "-":
        return sys.stdin.readline().rstrip("\r\n")
    if value.startswith("@@"):
        return value[1:]
    if value.startswith("@"):
        try:
            return Path(value[1:]).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            raise click.BadParameter(f"cannot read {value[1:]}: {reason}") from None
    return value

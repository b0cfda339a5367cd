"""How commands print: aligned tables for people, one JSON document for machines."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from receiver.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

WIDE: Final = 10_000
"""Columns of an output that is no terminal: lines are not broken there."""

TURNING: Final = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
"""Kinds of characters that change the direction of those that follow."""


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json`` to a command, as the argument *as_json*."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")(command)


def print_json(value: object) -> None:
    """Print *value* as one JSON document on standard output, in UTF-8; times in ISO 8601, amounts as texts."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def console() -> Console:
    """Return the console of standard output."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDE
    return Console(width=width, highlight=False, soft_wrap=False)


def print_rows(rows: Sequence[Mapping[str, object]], columns: Mapping[str, str], *, empty: str) -> None:
    """Print *rows* as a table; *columns*: field → heading. *empty* is said when there are none."""
    if not rows:
        click.echo(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for field, heading in columns.items():
        numeric = all(isinstance(row[field], int) and not isinstance(row[field], bool) for row in rows)
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(words(row[field])) for field in columns))  # Text: a name is no markup
    console().print(table)


def print_fields(fields: Mapping[str, object]) -> None:
    """Print one thing, a line for each of its fields."""
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        click.echo(f"{name:<{width}}  {words(value)}")


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show a bar on standard error when it is a terminal, and nothing otherwise."""
    console = Console(stderr=True)
    with Bar(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("", total=None)
        yield Progress(
            stage=lambda said: bar.update(task, description=said),
            total=lambda number: bar.update(task, total=number),
            advance=lambda: bar.advance(task),
        )


def counted(number: int, what: str, several: str | None = None) -> str:
    """Return a number of things, *what* in the singular; *several* where the plural is not regular."""
    return f"{number} {what}" if number == 1 else f"{number} {several or what + 's'}"


def words(value: object) -> str:
    """Return *value* as people read it."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S %Z}"
        case _:
            return printable(str(value))


def printable(text: str) -> str:
    """Return *text* without what would command a terminal, or turn lines around: it may come from outside."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _commands(letter) else letter for letter in text)


def _commands(letter: str) -> bool:
    if letter in "\n\t":
        return False
    return unicodedata.category(letter) == "Cc" or unicodedata.bidirectional(letter) in TURNING

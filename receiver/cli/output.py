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
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from receiver.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import timedelta

WIDE: Final = 10_000
"""Columns of an output that is no terminal: lines are not broken there."""

GAP: Final = 2
"""Spaces between two columns of a table."""
NARROWEST: Final = 20
"""A column is not wrapped into less than that."""
STYLES: Final = {
    "dead": "red",
    "broken": "red",
    "failed": "red",
    "some failed": "red",
    "all failed": "red",
    "refused": "red",
    "expired": "red",
    "quarantined": "yellow",
    "note": "yellow",
    "ok": "green",
}
"""Colours of states on a terminal."""

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


def print_rows(
    rows: Sequence[Mapping[str, object]], columns: Mapping[str, str], *, empty: str, optional: Sequence[str] = ()
) -> None:
    """Print *rows* as a table; *columns*: field → heading. *empty* is printed when there are none.

    On a terminal that is too narrow, *optional* fields are left out in their order. If that is not enough the widest
    column is wrapped; where nothing is left for it, each row is printed as a block of lines.
    """
    if not rows:
        click.echo(empty)
        return
    cells = {field: [words(row[field]) for row in rows] for field in columns}
    widths = {field: max(map(_width, (heading, *cells[field]))) for field, heading in columns.items()}
    screen = console()
    left_out = _left_out(widths, optional, screen.width)
    shown = {field: heading for field, heading in columns.items() if field not in left_out}
    widest = max(shown, key=lambda field: widths[field])
    rest = screen.width - _total(widths[field] for field in shown if field != widest) - GAP
    if rest < min(NARROWEST, widths[widest]):
        _print_blocks(cells, columns, len(rows))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for field, heading in shown.items():
        numeric = all(isinstance(row[field], int) and not isinstance(row[field], bool) for row in rows)
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold", no_wrap=field != widest)
    for number in range(len(rows)):
        table.add_row(*(Text(cells[field][number], _style(field, cells[field][number])) for field in shown))
    screen.print(table)
    if left_out:
        names = ", ".join(columns[field] for field in left_out)
        click.echo(f"(not shown for lack of width: {names}; see --json)", err=True)


def _left_out(widths: Mapping[str, int], optional: Sequence[str], width: int) -> list[str]:
    """Return the first of the *optional* fields, as few as needed so that the others fit into *width*."""
    for number in range(len(optional)):
        if _total(widths[field] for field in widths if field not in optional[:number]) <= width:
            return list(optional[:number])
    return list(optional)


def _total(widths: Iterable[int]) -> int:
    each = list(widths)
    return sum(each) + GAP * (len(each) - 1)


def _width(text: str) -> int:
    return max(map(cell_len, text.split("\n")))


def _style(field: str, value: str) -> str:
    return STYLES.get(value, "") if field in {"status", "state", "outcome", "failed"} else ""


def _print_blocks(cells: Mapping[str, Sequence[str]], columns: Mapping[str, str], number_of_rows: int) -> None:
    width = max(map(len, columns.values()))
    for number in range(number_of_rows):
        if number:
            click.echo()
        for field, heading in columns.items():
            click.echo(f"{heading:<{width}}  {cells[field][number]}")


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
            stage=lambda text: bar.update(task, description=text),
            total=lambda number: bar.update(task, total=number),
            advance=lambda: bar.advance(task),
        )


def counted(number: int, what: str, several: str | None = None) -> str:
    """Return a number of things, *what* in the singular; *several* where the plural is not regular."""
    return f"{number} {what}" if number == 1 else f"{number} {several or what + 's'}"


def length_of_time(length: timedelta) -> str:
    """Return a length of time in its two largest units."""
    seconds = max(0, int(length.total_seconds()))
    parts = (("d", seconds // 86400), ("h", seconds // 3600 % 24), ("min", seconds // 60 % 60), ("s", seconds % 60))
    first = next((place for place, (_, number) in enumerate(parts) if number), len(parts) - 1)
    return " ".join(f"{number} {unit}" for unit, number in parts[first : first + 2] if number) or "0 s"


def words(value: object) -> str:
    """Return *value* as people read it."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case bytes():
            return value.hex()
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S %Z}"
        case _:
            return printable(str(value))


def printable(text: str) -> str:
    """Return *text* without control characters: it may come from outside."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _commands(letter) else letter for letter in text)


def _commands(letter: str) -> bool:
    if letter in "\n\t":
        return False
    return unicodedata.category(letter) == "Cc" or unicodedata.bidirectional(letter) in TURNING

"""``python -m bench [intake] [drain] [latency] [reconcile] [console]``: all of them when none is named."""

from __future__ import annotations

import signal
import sys
from typing import Final

import click
from rich.console import Console
from rich.progress import Progress

from bench import console as console_pages
from bench import drain, intake, latency, reconcile
from bench.publish import publish
from bench.report import RESULTS, keep, show
from receiver.logs import configure_logs
from receiver.settings import LogFormat

BENCHMARKS: Final = {
    "intake": intake.run,
    "drain": drain.run,
    "latency": latency.run,
    "reconcile": reconcile.run,
    "console": console_pages.run,
}

WIDTH: Final = 120
"""Columns of what is printed to a file or a pipe."""


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHMARKS)))
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Turns of each measurement.")
@click.option(
    "--deliveries",
    type=click.IntRange(min=1000),
    default=console_pages.DELIVERIES,
    show_default=True,
    help="How many are stored when the console is measured.",
)
def main(names: tuple[str, ...], rounds: int, deliveries: int) -> None:
    """Measure on embedded servers and print a table for each benchmark."""
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit(143))  # so that all that was started is ended
    configure_logs(level="WARNING", log_format=LogFormat.CONSOLE)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    for name in names or tuple(BENCHMARKS):
        with Progress(console=console, transient=True) as progress:
            options = {"deliveries": deliveries} if name == "console" else {}
            report = BENCHMARKS[name](rounds, progress, **options)
        show(console, report)
        keep(name, report)
    console.print(f"The ratios are in {publish(tuple(BENCHMARKS))}; each round's numbers in {RESULTS}", soft_wrap=True)


if __name__ == "__main__":
    main()

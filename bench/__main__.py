"""``python -m bench [NAME]…``, with the names of ``BENCHMARKS``: all, when none is named."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console
from rich.progress import Progress

from bench import console as console_pages
from bench import drain, everything, growth, intake, latency, new_first, reconcile, tracing
from bench.publish import publish
from bench.report import RESULTS, keep, show
from receiver.logs import configure_logs
from receiver.settings import LogFormat

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.report import BenchmarkReport

BENCHMARKS: Final[dict[str, Callable[..., BenchmarkReport]]] = {
    "intake": intake.run,
    "drain": drain.run,
    "latency": latency.run,
    "new_first": new_first.run,
    "reconcile": reconcile.run,
    "console": console_pages.run,
    "growth": growth.run,
    "tracing": tracing.run,
    "everything": everything.run,
}

SIZED: Final = ("console", "growth")
"""Those that measure how much is stored; each knows how much by itself."""
WIDTH: Final = 120
"""Columns of what is printed to a file or a pipe."""


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHMARKS)))
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Turns of each measurement.")
@click.option(
    "--deliveries",
    type=click.IntRange(min=1000),
    help="How many are stored when console or growth is measured; ten millions need some 30 GB.",
)
@click.option(
    "--seconds",
    type=click.IntRange(min=20),
    default=everything.SECONDS,
    show_default=True,
    help="How long everything runs; it has one round.",
)
def main(names: tuple[str, ...], rounds: int, deliveries: int | None, seconds: int) -> None:
    """Measure on embedded servers and print a table for each benchmark."""
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit(143))  # so that all that was started is ended
    configure_logs(level="WARNING", log_format=LogFormat.CONSOLE)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    for name in names or tuple(BENCHMARKS):
        with Progress(console=console, transient=True) as progress:
            options = {"deliveries": deliveries} if deliveries and name in SIZED else {}
            if name == "everything":
                options["seconds"] = seconds
            report = BENCHMARKS[name](rounds, progress, **options)
        show(console, report)
        keep(name, report)
    console.print(f"The ratios are in {publish(tuple(BENCHMARKS))}; each round's numbers in {RESULTS}", soft_wrap=True)


if __name__ == "__main__":
    main()

"""The table of a benchmark: medians of the rounds, their spread, and whether the targets were met."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import msgspec
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

RESULTS: Final = Path(__file__).parent / "results"
"""Where the numbers of each benchmark's last run are kept; ignored by git."""

Rounds = list[float]
"""A figure of each round, in order."""


@dataclass(frozen=True, slots=True)
class Row:
    """One of the things that are compared: its figures by the title of their column."""

    name: str
    figures: dict[str, Rounds]
    compared_with: str = ""
    """The row that this one is compared with; it is itself compared with none."""


@dataclass(frozen=True, slots=True)
class ReportTarget:
    """A ratio of medians that is to be reached: a least, or a most."""

    name: str
    ratio: float
    at_least: float | None = None
    at_most: float | None = None
    if_missed: str = ""
    """Why it may be missed, what was tried, and what it would take."""

    @property
    def met(self) -> bool:
        """Whether it is within its bounds."""
        enough = self.at_least is None or self.ratio >= self.at_least
        return enough and (self.at_most is None or self.ratio <= self.at_most)

    @property
    def wanted(self) -> str:
        """The bounds in words."""
        bounds = [("at least", self.at_least), ("at most", self.at_most)]
        return ", ".join(f"{words} {bound:.2f}" for words, bound in bounds if bound is not None)


@dataclass(frozen=True, slots=True)
class BenchmarkReport:
    """What a benchmark found."""

    title: str
    rows: list[Row]
    targets: list[ReportTarget] = field(default_factory=list)
    settings: str = ""
    """What it was run with, in a sentence: numbers of connections, workers, rows."""


@dataclass(frozen=True, slots=True)
class KeptResult:
    """A report, and when it was made, in UTC."""

    at: datetime
    report: BenchmarkReport


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of *values* that *percent* per cent of them do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def ratio(one: Rounds, other: Rounds) -> float:
    """Return the ratio of the medians."""
    return median(one) / median(other)


def show(console: Console, report: BenchmarkReport) -> None:
    """Print the table of *report*, and its targets."""
    table = Table(title=report.title, title_justify="left")
    table.add_column("", no_wrap=True)
    columns = dict.fromkeys(column for row in report.rows for column in row.figures)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in report.rows:
        table.add_row(row.name, *(_figure(row.figures[column]) if column in row.figures else "" for column in columns))
    console.print(table, crop=False)
    console.print(_targets(report), highlight=False, soft_wrap=True, end="\n\n")


def keep(name: str, report: BenchmarkReport, folder: Path = RESULTS) -> None:
    """Write the numbers of a benchmark's run as JSON, in place of those of its run before."""
    folder.mkdir(exist_ok=True)
    kept = KeptResult(datetime.now(UTC), report)
    (folder / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(kept)))


def last_kept(name: str, folder: Path = RESULTS) -> KeptResult | None:
    """Return the numbers of a benchmark's last run, or ``None`` when it was never run here."""
    file = folder / f"{name}.json"
    return msgspec.json.decode(file.read_bytes(), type=KeptResult) if file.exists() else None


def spread(rounds: Rounds) -> float:
    """Return how far the farthest round is from the median, in parts of it."""
    middle = median(rounds)
    return max(middle - min(rounds), max(rounds) - middle) / middle


def _figure(rounds: Rounds) -> str:
    return f"{_number(median(rounds))} [dim]±{spread(rounds):.0%}[/dim]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _targets(report: BenchmarkReport) -> str:
    lines = ["median of the rounds, and how far the farthest round is from it"]
    for target in report.targets:
        verdict = "[green]met[/green]" if target.met else "[red]missed[/red]"
        lines.append(f"{target.name}: {target.ratio:.2f}, wanted {target.wanted}: {verdict}")
    return "\n".join(lines)

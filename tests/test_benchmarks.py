"""What the benchmarks publish says what was measured, as ratios alone."""

from __future__ import annotations

import re
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from pathlib import Path
from threading import Thread

from bench import publish, report
from bench.load import load
from bench.report import BenchmarkReport, ReportTarget, Row
from bench.watching import Feed

ROOT = Path(__file__).parent.parent
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


def test_an_event_is_visible_with_the_commit_that_has_it() -> None:
    feed = Feed([1.0, 2.5, 4.0], [10, 20, 21])
    assert [feed.visible_at(position) for position in (1, 10, 11, 20, 21)] == [1.0, 1.0, 2.5, 2.5, 4.0]


def test_a_consumer_lags_by_the_age_of_its_next_event() -> None:
    feed = Feed([1.0, 2.5, 4.0], [10, 20, 21])
    assert [feed.lag(consumed, at=5.0) for consumed in (0, 9, 10, 19, 20, 21)] == [4.0, 4.0, 2.5, 2.5, 1.0, 0.0]
    assert feed.lag(10, at=2.0) == 0.0  # the next one was not visible yet


def test_a_load_of_a_fixed_rate_uses_its_connections_in_turn() -> None:
    used: Counter[int] = Counter()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            used[self.client_address[1]] += 1
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        requests = repeat(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        timings = load(server.server_port, requests, connections=3, seconds=0.3, per_second=100)
        server.shutdown()
    assert sorted(timings.places) == list(range(len(timings)))
    assert 3 <= len(timings) <= 31
    assert len(used) == 3
    assert min(used.values()) > 1


def test_the_page_for_readers_repeats_the_results() -> None:
    page, results = (ROOT / "docs" / "performance.md").read_text(), (ROOT / "bench" / "results.md").read_text()
    shown = re.findall(r"^\| (.+?) \| ([0-9.]+) \|", page, re.MULTILINE)
    assert len(shown) > 10
    assert set(shown) <= set(re.findall(r"^- (.+): \*\*([0-9.]+)\*\*", results, re.MULTILINE))

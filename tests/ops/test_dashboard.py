"""The dashboard for Grafana is what the script writes, its queries are PromQL, and ask for what the service exports."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from receiver import counters
from receiver.ops.findings import FindingKind
from receiver.sandbox.embedded import LOOPBACK, free_port
from tests.support.factories import card_holder
from tests.support.service_states import add_run
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Acme

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "operate" / "grafana.json"
PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
WIDTH = 24
"""Columns of a dashboard."""
PARTS = re.compile(r"_(?:bucket|sum|count|total)$")


def shown() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(PAGE.read_text())
    return document


def panels() -> list[dict[str, Any]]:
    return [panel for panel in shown()["panels"] if panel["type"] != "row"]


def queries() -> dict[str, tuple[str, str]]:
    """Return each query, with Grafana's variables replaced, and its legend; by panel and place."""
    written = {
        f"{panel['title']} {target['refId']}": (target["expr"], target["legendFormat"])
        for panel in panels()
        for target in panel["targets"]
    }
    for annotation in shown()["annotations"]["list"]:
        written[annotation["name"]] = (annotation["expr"], annotation["titleFormat"])
    replaced = {"$__rate_interval": "1m", "$organization": ".*"}
    return {
        name: (re.sub(r"\$\w+", lambda found: replaced[found[0]], expr), legend)
        for name, (expr, legend) in written.items()
    }


@pytest.fixture
def filled(acme: Acme) -> Acme:
    """A service of which every metric has a value."""
    acme.apply("card_holder.created", card_holder())
    acme.apply("card_holder.created", b"{}")
    acme.deliver("card_holder.created", card_holder(), headers={"X-Data-Signature": "f" * 64})
    add_run(acme.engine, "acme", minutes_ago=5, recovered_in_all=2, unconfirmed=1, unrecoverable=1)
    add_run(acme.engine, "acme", error="no answer")
    counters.count_opencard_request("GET", "/accounts/{account}/organizations", 200)
    counters.RETENTION_REMOVED.labels("bodies").inc()
    acme.execute("SELECT ems.commit_position('bookkeeping', 0)")
    acme.execute("INSERT INTO receiver.deploys (version) VALUES ('1.0.0')")
    acme.execute("INSERT INTO receiver.retention_runs (ended_at) VALUES (now())")
    acme.execute(
        "INSERT INTO receiver.receipt_downloads"
        " (organization_reference_id, transaction_id, url, expires_at, attempts, error)"
        " VALUES ('acme', 'transaction-1', 'https://files.invalid', now() + interval '1 day', 3, 'no answer')"
    )
    acme.execute(
        "INSERT INTO receiver.issues"
        " (kind, subject, severity, text, count, state, opened_at, first_seen_at, last_seen_at, by_person)"
        " SELECT kind, '', 1, 'text', 1, 'open', now(), now(), now(), false"
        " FROM unnest(CAST(:kinds AS text[])) AS kind",
        kinds=list(FindingKind),
    )
    return acme


def labels_of(exposition: str) -> dict[str, set[str]]:
    """Return the labels of each exported number: as they are shown, and of the counters also as they are declared."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    for each in vars(counters).values():
        if isinstance(each, MetricWrapperBase):
            for name in found:
                if PARTS.sub("", name) == each._name:
                    found[name] |= {*each._labelnames}
    return found


def test_the_dashboard_is_what_the_script_writes() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "write_dashboard.py"))
    assert PAGE.read_text() == script["written"](), "run make docs"


def test_the_dashboard_has_nothing_that_grafana_does_not_know() -> None:
    """Read by the types of Grafana's schema and written again, it is the same: they drop what they do not know."""
    register_default_plugins()
    document = shown()
    document["panels"][3]["unknown"] = True
    for given, same in ((shown(), True), (document, False)):
        read = json.loads(JSONEncoder().encode(Dashboard.from_json(given)))
        assert (read == given) is same
    assert shown()["schemaVersion"] >= 42


def test_panels_have_a_place_of_their_own() -> None:
    ids = [panel["id"] for panel in shown()["panels"]]
    assert len(set(ids)) == len(ids)
    assert len({panel["title"] for panel in panels()}) == len(panels())
    for one in shown()["panels"]:
        assert one["gridPos"]["x"] + one["gridPos"]["w"] <= WIDTH
    for one, other in combinations([panel["gridPos"] for panel in shown()["panels"]], 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


def test_queries_use_exported_metrics_and_labels(filled: Acme) -> None:
    exported = labels_of(filled.client.get("/metrics").text)
    for panel, (query, legend) in queries().items():
        metrics = set(re.findall(r"\breceiver_\w+", query))
        assert metrics <= exported.keys(), panel
        known = {label for metric in metrics for label in exported[metric]}
        grouped = {label for names in re.findall(r"\bby \(([^)]*)\)", query) for label in names.split(", ")}
        matched = set(re.findall(r'(\w+)(?:=~|!~|!=|=)"', query))
        assert grouped | matched <= known, panel
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= grouped, f"{panel}: the legend has a label that is summed"


def test_every_metric_is_on_the_dashboard(filled: Acme) -> None:
    asked = {PARTS.sub("", name) for query, _ in queries().values() for name in re.findall(r"\breceiver_\w+", query)}
    exposition = filled.client.get("/metrics").text
    assert {PARTS.sub("", name) for name in re.findall(r"^# TYPE (\w+) ", exposition, re.MULTILINE)} == asked


def test_the_kinds_of_issues_that_queries_name_exist() -> None:
    named = [
        kind
        for query, _ in queries().values()
        for kinds in re.findall(r'kind=~"([^"]*)"', query)
        for kind in kinds.split("|")
    ]
    assert named
    assert set(named) <= set(FindingKind)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is missing: apt-get install prometheus")
def test_each_query_is_promql(tmp_path: Path) -> None:
    assert PROMTOOL is not None
    rules = tmp_path / "rules.yml"
    for broken in (False, True):
        expressions = [query for query, _ in queries().values()] + ["rate(receiver_requests_total)"] * broken
        recorded = [{"record": f"dashboard:query_{number}", "expr": each} for number, each in enumerate(expressions)]
        rules.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
        checked = subprocess.run([PROMTOOL, "check", "rules", rules], capture_output=True, text=True, check=False)
        assert (checked.returncode != 0) is broken, checked.stderr
    assert "expected type range vector" in checked.stderr


@contextmanager
def prometheus(target: str, folder: Path) -> Iterator[Callable[[str], list[Any]]]:
    """Run a Prometheus that reads *target* every second, and yield what answers a query."""
    assert PROMETHEUS is not None
    configuration, url = folder / "prometheus.yml", f"{LOOPBACK}:{free_port()}"
    job = {"job_name": "receiver", "static_configs": [{"targets": [target.partition("//")[2]]}]}
    configuration.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
    options = [
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={url}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([PROMETHEUS, *options], stdout=log, stderr=log)

    def ask(query: str) -> list[Any]:
        answer = httpx.get(f"http://{url}/api/v1/query", params={"query": query}).json()
        assert answer["status"] == "success", (query, answer)
        result: list[Any] = answer["data"]["result"]
        return result

    def has_read() -> bool:
        try:
            return bool(ask("count_over_time(receiver_can_store[1m]) > 2"))
        except (httpx.HTTPError, ValueError):  # it starts
            return False

    try:
        assert eventually(has_read, within=60), (folder / "log").read_text()[-2000:]
        yield ask
    finally:
        process.terminate()
        process.wait()


@pytest.mark.long
@pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is missing: apt-get install prometheus")
def test_a_real_prometheus_answers_each_query_with_values(filled: Acme, public_url: str, tmp_path: Path) -> None:
    assert filled.client.application.extensions["receiver.flusher"].flush()
    with prometheus(public_url, tmp_path) as ask:
        assert [panel for panel, (query, _) in queries().items() if not ask(query)] == []
        (deploy,) = ask(queries()["Deploys"][0])
        assert deploy["metric"] == {"version": "1.0.0"}

"""With an endpoint for OpenTelemetry, a delivery has one trace, from its request to the feed; no span has its data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from receiver import tracing
from receiver.deliveries.traced import REQUEST
from receiver.ops.findings import Finding, FindingKind
from receiver.ops.issues.notifications import note_changes, send_due, targets_of
from receiver.ops.issues.store import compare
from receiver.sandbox.embedded import LOOPBACK
from receiver.settings import load_settings
from receiver.spans import SERVICE
from receiver.variables import NotifyUrl
from tests.support.applications import receiver_with
from tests.support.factories import body, card_holder, snapshot
from tests.support.failing_statements import failing_statements
from tests.support.reconcile_steps import ago, append_log, attempts, execute, reconcile, rows, store_delivery, value
from tests.support.waiting import eventually
from tests.support.web_process import EVENT, SECONDS, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from receiver.settings import Settings
    from tests.conftest import Acme
    from tests.support.alert_channel import Channel
    from tests.support.collector import CollectedSpan, Collector
    from tests.support.web_process import Web
    from tests.support.world import World

PROXY_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PROXY_SPAN = "00f067aa0ba902b7"
TRACEPARENT = f"00-{PROXY_TRACE}-{PROXY_SPAN}-01"
STEPS = ["claim", "parse", "fold", "write", "note history", "append to feed"]
HIDDEN = "jane-doe"
PAGE = (Path(__file__).parents[1] / "docs" / "operate" / "tracing.md").read_text()


@pytest.fixture
def web(acme: Acme, environment: dict[str, str], tmp_path: Path, collector: Collector) -> Iterator[Web]:
    """A web process that records traces."""
    del collector  # asked for so that it is in the environment
    with running(acme, environment, tmp_path, "--workers 2") as web:
        yield web


def post(web: Web, reference_id: str, **headers: str) -> httpx.Response:
    content = body(card_holder(reference_id))
    signed = web.acme.registration.headers(EVENT, content)
    url = f"http://{LOOPBACK}:{web.port}{web.acme.path}"
    return httpx.post(url, content=content, headers={**signed, **headers}, timeout=SECONDS)


def positions(acme: Acme) -> list[int]:
    return [row["position"] for row in acme.rows("SELECT position FROM ems.events ORDER BY position")]


def by_id(spans: list[CollectedSpan]) -> dict[str, CollectedSpan]:
    return {span.span_id: span for span in spans}


def test_one_trace_from_the_proxy_to_the_feed(acme: Acme, web: Web, collector: Collector) -> None:
    acme.execute("DELETE FROM receiver.feed_epochs")  # as before the first append to a database
    web.processes.start("worker")
    assert post(web, HIDDEN, traceparent=TRACEPARENT).status_code == 200
    assert eventually(lambda: len(positions(acme)) == 1, within=SECONDS)
    collector.wait_for(process_delivery=1, batch=1, append_to_feed=1, wake_worker=1, store=1)
    spans = [span for span in collector.spans if span.trace_id == PROXY_TRACE]
    named = {span.name: span for span in spans}
    assert sorted(named) == sorted([REQUEST, "store", "wake worker", "process delivery", "batch", *STEPS])
    assert len(named) == len(spans), sorted(span.name for span in spans)
    assert all(f"`{name}`" in PAGE for name in named)
    parents = {name: by_id(spans)[span.parent_id].name for name, span in named.items() if name != REQUEST}
    assert named[REQUEST].parent_id == PROXY_SPAN
    assert parents == {
        "store": REQUEST,
        "wake worker": REQUEST,
        "process delivery": REQUEST,
        "batch": "process delivery",
        "claim": "batch",
        "parse": "batch",
        "fold": "batch",
        "write": "batch",
        "note history": "write",
        "append to feed": "write",
    }
    assert named[REQUEST].attributes["http.response.status_code"] == 200
    assert named["process delivery"].attributes == {
        "receiver.delivery_id": acme.value("SELECT id FROM receiver.deliveries"),
        "receiver.event": EVENT,
        "receiver.status": "processed",
    }
    assert {named[REQUEST].process["receiver.process"], named["batch"].process["receiver.process"]} == {"web", "worker"}
    assert named["batch"].process["service.name"] == SERVICE
    ordered = [named[name] for name in (REQUEST, *STEPS)]
    assert [span.begun for span in ordered] == sorted(span.begun for span in ordered)
    assert named["append to feed"].ended <= named["batch"].ended <= named["process delivery"].ended
    sent = b"".join(collector.received)
    for hidden in (HIDDEN, "acme", acme.path.rpartition("/")[2], acme.registration.secret):
        assert hidden.encode() not in sent, hidden


def test_a_batch_that_joins_deliveries_is_linked_with_each(acme: Acme, web: Web, collector: Collector) -> None:
    for number in range(3):
        assert post(web, f"employee-{number}").status_code == 200
    assert acme.value("SELECT count(*) FROM receiver.queue WHERE length(trace) = 24") == 3
    web.processes.start("worker")
    collector.wait_for(process_delivery=3, batch=1)
    (batch,) = collector.named("batch")
    requests, deliveries = collector.named(REQUEST), collector.named("process delivery")
    assert len({span.trace_id for span in requests}) == 3
    assert {(span.trace_id, span.parent_id) for span in deliveries} == {
        (span.trace_id, span.span_id) for span in requests
    }
    assert sorted(batch.links) == sorted((span.trace_id, span.span_id) for span in deliveries)
    first = by_id(deliveries)[batch.parent_id]
    others = [span.links for span in deliveries if span is not first]
    assert others == [[(batch.trace_id, batch.span_id)]] * 2
    assert batch.attributes == {"receiver.deliveries": 3, "receiver.traced_deliveries": 3}


def test_request_unsampled_by_the_proxy_is_not_recorded(acme: Acme, web: Web, collector: Collector) -> None:
    assert post(web, "unsampled", traceparent=TRACEPARENT[:-2] + "00").status_code == 200
    assert acme.value("SELECT count(*) FROM receiver.queue WHERE trace IS NOT NULL") == 0
    assert post(web, "sampled", traceparent=TRACEPARENT).status_code == 200
    collector.wait_for(store=1)
    assert web.processes.stop("web") == {"web": 0}
    assert [span.parent_id for span in collector.named(REQUEST)] == [PROXY_SPAN]


def test_refused_request_is_recorded_with_its_reason_alone(web: Web, collector: Collector) -> None:
    assert post(web, HIDDEN, **{"X-Data-Signature": "wrong"}).status_code == 401
    assert eventually(lambda: len(collector.named(REQUEST)) == 1, within=SECONDS)
    (request,) = collector.named(REQUEST)
    assert (request.attributes["http.response.status_code"], request.failed) == (401, False)
    assert request.attributes["receiver.reason"] == "signature-wrong"
    assert request.events == 0


def test_sampling_follows_the_usual_variables(
    acme: Acme, environment: dict[str, str], tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=cards,deployment.environment.name=test")
    with running(acme, environment, tmp_path) as web:
        assert post(web, "a-root").status_code == 200
        assert post(web, "of-the-proxy", traceparent=TRACEPARENT).status_code == 200
        web.processes.stop("web")
    assert {span.trace_id for span in collector.spans} == {PROXY_TRACE}
    assert collector.spans[0].process["service.name"] == "cards"
    assert collector.spans[0].process["deployment.environment.name"] == "test"


def test_collector_that_is_away_delays_nothing(
    acme: Acme, environment: dict[str, str], tmp_path: Path, nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", nowhere)
    with running(acme, environment, tmp_path) as web:
        web.processes.start("worker")
        assert {post(web, f"employee-{number}").status_code for number in range(5)} == {200}
        assert eventually(lambda: len(positions(acme)) == 5, within=SECONDS)
        assert web.processes.stop("web", "worker") == {"web": 0, "worker": 0}


def test_variable_that_the_sdk_refuses_stops_nothing(
    acme: Acme, environment: dict[str, str], tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "256")  # less than a batch
    with running(acme, environment, tmp_path) as web:
        web.processes.start("worker")
        assert post(web, "employee").status_code == 200
        assert eventually(lambda: len(positions(acme)) == 1, within=SECONDS)
        assert web.processes.stop("web", "worker") == {"web": 0, "worker": 0}
    assert collector.spans == []


@pytest.mark.parametrize(
    "broken",
    [
        "receiver.spans.Recorder.request",
        "receiver.spans.entered",
        "receiver.spans.Recorder.span",
        "opentelemetry.sdk.trace.Span.set_attributes",
        "opentelemetry.sdk.trace.Span.end",
        "opentelemetry.trace.use_span",
    ],
)
def test_failed_recording_does_not_lose_or_double_a_delivery(
    acme: Acme, recorded: Collector, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    del recorded  # asked for so that traces are on

    def fail(*_: object, **__: object) -> None:
        raise OSError

    with receiver_with(load_settings(os.environ)) as app:
        monkeypatch.setattr(broken, fail)
        acme.client = app.test_client()
        acme.deliver_ok(EVENT, card_holder())
        content = body(card_holder())
        headers = acme.registration.headers(EVENT, content) | {"X-Data-Signature": "wrong"}
        assert acme.client.post(acme.path, data=content, headers=headers).status_code == 401
        monkeypatch.undo()
    assert acme.value("SELECT count(*) FROM receiver.deliveries") == 1
    assert acme.value("SELECT count(*) FROM receiver.queue") == 1


def test_failed_delivery_is_recorded_without_its_words(acme: Acme, recorded: Collector) -> None:
    with receiver_with(load_settings(os.environ)) as app:
        acme.client = app.test_client()
        acme.deliver_ok(EVENT, card_holder(HIDDEN))
    tracing.start_tracing(load_settings(os.environ), process="worker")  # the application stopped it
    with failing_statements(acme):
        acme.process()
    tracing.stop_tracing()
    failed = {span.name for span in recorded.spans if span.failed}
    assert failed == {"process delivery", "batch", "write", "append to feed"}
    (delivery,) = recorded.named("process delivery")
    assert (delivery.attributes["receiver.status"], delivery.attributes["error.type"]) == ("failed", "RaiseException")
    assert sum(span.events for span in recorded.spans) == 0
    assert HIDDEN.encode() not in b"".join(recorded.received)


def test_reconcile_run_is_recorded_with_its_counts(world: World, recorded: Collector) -> None:
    assert world.bootstrap().failures == []
    outcome = reconcile(world)
    tracing.stop_tracing()
    (run,) = recorded.named("reconcile")
    assert run.attributes["receiver.webhook_id"] == outcome.webhook_id
    assert (run.attributes["receiver.recovered"], run.attributes["receiver.failed"]) == (0, False)


def test_queued_delivery_keeps_its_trace_when_its_time_changes(world: World) -> None:
    assert world.bootstrap().failures == []
    event, payload = "card.transaction.authorized", snapshot("authorized")
    at, trace = ago(timedelta(minutes=2)), bytes(range(24))
    store_delivery(world, event, payload, at=at)
    execute(world, "UPDATE receiver.queue SET trace = :trace, attempts = 1", trace=trace)
    first = at - timedelta(seconds=30)
    append_log(world, attempts(event, payload, 503, at=first), attempts(event, payload, 200, at=at))
    reconcile(world)
    assert value(world, "SELECT occurred_at FROM receiver.deliveries") == first
    assert rows(world, "SELECT attempts, trace FROM receiver.queue") == [{"attempts": 1, "trace": trace}]


def test_notification_is_recorded_by_its_issue(
    engine: Engine, settings: Settings, channel: Channel, recorded: Collector
) -> None:
    targets = targets_of(replace(settings, notify_urls=(NotifyUrl(f"{channel.url}/all", "warning"),)))
    with engine.begin() as connection:
        finding = Finding(FindingKind.WEBHOOK_INACTIVE, f"webhook 1 ({HIDDEN}): not active", "webhook 1", HIDDEN)
        changed = compare(connection, [finding], at=datetime(2026, 3, 1, tzinfo=UTC))
        note_changes(connection, changed, targets)
    assert send_due(engine, targets, link="https://hooks.example.com") == 1
    tracing.stop_tracing()
    (message,) = recorded.named("send notification")
    assert message.attributes == {"receiver.issue_id": changed[0].id, "receiver.state": "open"}
    assert HIDDEN.encode() not in b"".join(recorded.received)


RECEIVE_AND_PROCESS = """
import json, os, sys
from receiver.app import create_app
from receiver.processing.job import process_deliveries
from receiver.settings import load_settings
import receiver.worker, receiver.schedule

path, body, headers = json.loads(sys.argv[1])
app = create_app(load_settings(os.environ))
assert app.test_client().post(path, data=body.encode(), headers=headers).status_code == 200
app.extensions["receiver.close"]()
process_deliveries()
ours = ("receiver.spans", "opentelemetry.sdk.trace", "opentelemetry.exporter")  # redis-py imports the rest
print(json.dumps([name for name in sys.modules if name.startswith(ours)]))
"""


def test_without_an_endpoint_nothing_is_imported(acme: Acme, environment: dict[str, str]) -> None:
    content = body(card_holder())
    delivery = json.dumps([acme.path, content.decode(), acme.registration.headers(EVENT, content)])
    done = subprocess.run(
        [sys.executable, "-c", RECEIVE_AND_PROCESS, delivery],
        env={**os.environ, **environment, "OTEL_TRACES_SAMPLER": "always_on"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == []
    assert len(positions(acme)) == 1


def test_where_the_extra_is_missing_it_says_so_and_continues(environment: dict[str, str]) -> None:
    code = """
import sys
sys.modules["opentelemetry"] = None
from receiver.wsgi import app
app.extensions["receiver.close"]()
"""
    reported = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    line = json.loads(reported.splitlines()[0])
    assert (line["event"], line["reason"]) == ("traces.unavailable", tracing.MISSING)


@pytest.mark.parametrize(
    ("variable", "wrong"),
    [("OTEL_PROPAGATORS", "b3"), ("OTEL_SPAN_LINK_COUNT_LIMIT", "no"), ("OTEL_BSP_MAX_QUEUE_SIZE", "256")],
)
def test_variable_that_the_sdk_refuses_is_reported(environment: dict[str, str], variable: str, wrong: str) -> None:
    code = """
import receiver.worker
from receiver.wsgi import app
assert app.extensions["receiver.close"]() is None
"""
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    reported = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment, **endpoint, variable: wrong},
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    (line,) = (json.loads(line) for line in reported.splitlines() if "traces.unavailable" in line)
    assert line["reason"]

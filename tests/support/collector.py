"""A collector: takes traces by OTLP over HTTP, as OpenTelemetry's own does, and keeps the spans."""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from receiver import tracing
from receiver.settings import load_settings
from tests.support.program import set_environment
from tests.support.serving import served
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from wsgiref.types import StartResponse, WSGIEnvironment

    from opentelemetry.proto.common.v1.common_pb2 import KeyValue

SECONDS = 60


@dataclass(frozen=True)
class CollectedSpan:
    """A span as it was sent; ids in hexadecimal."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    links: list[tuple[str, str]]
    """Trace and span of each link."""
    attributes: dict[str, str | int | bool]
    process: dict[str, str | int | bool]
    """The attributes of the process that sent it."""
    failed: bool
    begun: int
    ended: int
    events: int


@dataclass
class Collector:
    """What arrived."""

    received: list[bytes] = field(default_factory=list)
    spans: list[CollectedSpan] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        sent = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        if environ.get("HTTP_CONTENT_ENCODING") == "gzip":
            sent = gzip.decompress(sent)
        self.received.append(sent)
        self.headers = {name: str(value) for name, value in environ.items() if name.startswith("HTTP_")}
        assert environ["CONTENT_TYPE"] == "application/x-protobuf"
        for resource in ExportTraceServiceRequest.FromString(sent).resource_spans:
            process = _values(resource.resource.attributes)
            self.spans += [
                CollectedSpan(
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
                    attributes=_values(span.attributes),
                    process=process,
                    failed=span.status.code == span.status.STATUS_CODE_ERROR,
                    begun=span.start_time_unix_nano,
                    ended=span.end_time_unix_nano,
                    events=len(span.events),
                )
                for scope in resource.scope_spans
                for span in scope.spans
            ]
        start_response("200 OK", [("Content-Type", "application/x-protobuf")])
        return [b""]

    def named(self, name: str) -> list[CollectedSpan]:
        """Return the spans with this name, in order of time."""
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.begun)

    def wait_for(self, **numbers: int) -> None:
        """Wait until so many spans of each name have arrived; spaces are written as underscores."""
        wanted = {name.replace("_", " "): number for name, number in numbers.items()}
        assert eventually(
            lambda: all(len(self.named(name)) >= number for name, number in wanted.items()), within=SECONDS
        ), sorted(span.name for span in self.spans)


def _values(attributes: Sequence[KeyValue]) -> dict[str, str | int | bool]:
    return {each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in attributes}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """What arrives at the endpoint that the processes of this test find in the environment."""
    collector = Collector()
    with served(collector) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield collector


@pytest.fixture
def recorded(collector: Collector, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Traces are recorded in this process; they have arrived once it has called ``tracing.stop_tracing``."""
    endpoint = os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
    set_environment(monkeypatch, {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
    settings = load_settings(os.environ)
    tracing.load_tracing(settings)
    assert tracing.start_tracing(settings, process="worker") is not None
    yield collector
    tracing.stop_tracing()

"""Spans as OpenTelemetry's SDK records them, sent by OTLP over HTTP. ``receiver.tracing`` imports this where it is on.

The SDK reads ``OTEL_EXPORTER_OTLP_*``, ``OTEL_TRACES_SAMPLER``, ``OTEL_BSP_*`` and ``OTEL_RESOURCE_ATTRIBUTES``.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SERVICE: Final = "opencard-receiver"
"""The name of the service, unless ``OTEL_SERVICE_NAME`` or ``OTEL_RESOURCE_ATTRIBUTES`` gives another."""
CLOSE_SECONDS: Final = 2.0
"""How long the end of a process or job waits for a collector."""
TRACE_ID_BYTES: Final = 16
SPAN_ID_BYTES: Final = 8
_NOTHING: Final = Context()


class _TraceIds(RandomIdGenerator):
    """Random ids; that of a request is drawn before its span is made, because the sampler decides by it."""

    def __init__(self) -> None:
        self._drawn: ContextVar[int] = ContextVar("trace id", default=0)

    def generate_trace_id(self) -> int:
        return self._drawn.get() or super().generate_trace_id()

    @contextmanager
    def next_is(self, drawn: int) -> Iterator[None]:
        """Give this id for as long as the block runs; 0: random ones."""
        token = self._drawn.set(drawn)
        try:
            yield
        finally:
            self._drawn.reset(token)


class Recorder:
    """Records the spans of one process and sends them from a separate thread."""

    def __init__(self, process: str) -> None:
        """*process* is the name in the Procfile."""
        ours = Resource(
            {
                "service.name": SERVICE,
                "service.version": version("opencard-receiver"),
                "process.pid": os.getpid(),
                "receiver.process": process,
            }
        )
        self._ids = _TraceIds()
        self._provider = TracerProvider(
            resource=Resource.create().merge(ours).merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,
            id_generator=self._ids,
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("receiver")

    def close(self) -> None:
        """Send what was recorded; a collector that does not answer is not waited for long."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces-closing", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    @contextmanager
    def span(self, name: str, attributes: Mapping[str, str | int], context: Context | None = None) -> Iterator[Span]:
        """Record the block as a step of *context*, or of what this thread is doing."""
        with _current(self._tracer.start_span(name, context, attributes=attributes)) as recorded:
            yield recorded

    @contextmanager
    def step_of(self, carried: bytes, name: str) -> Iterator[Span]:
        """Record the block as a step of the trace whose context is *carried*."""
        with self.span(name, {}, _context_of(carried)) as recorded:
            yield recorded

    def request(self, name: str, traceparent: str | None) -> Span | None:
        """Begin the span of a request, which the caller enters with ``entered``; ``None`` if it is not sampled."""
        context, drawn = _NOTHING, 0
        if traceparent is not None:  # OTEL_PROPAGATORS decides whether it counts
            context = propagate.extract({"traceparent": traceparent}, _NOTHING)
        else:  # most requests end here: making a span that records nothing costs three times as much
            drawn = self._ids.generate_trace_id()
            sampling = self._provider.sampler.should_sample(_NOTHING, drawn, name, SpanKind.SERVER)
            if not sampling.decision.is_recording():  # type: ignore[no-untyped-call] # of the SDK
                return None
        with self._ids.next_is(drawn):
            recorded = self._tracer.start_span(name, context, kind=SpanKind.SERVER)
        return recorded if recorded.is_recording() else None

    @contextmanager
    def batch(self, began: int, deliveries: Sequence[tuple[int, str, bytes | None]]) -> Iterator[Batch]:
        """Record the block as a batch of *deliveries* (id, event, context), which were claimed since *began*.

        Each delivery that has a trace gets a span in it. The batch is a step of the first of them, because then it is
        recorded whenever one of them is, however few are sampled; it is linked with all of them.
        """
        claimed = time.time_ns()
        own = {
            delivery_id: self._tracer.start_span(
                "process delivery",
                _context_of(carried),
                kind=SpanKind.CONSUMER,
                attributes={"receiver.delivery_id": delivery_id, "receiver.event": event},
                start_time=began,
            )
            for delivery_id, event, carried in deliveries
            if carried is not None
        }
        first = next(iter(own.values()), None)
        joined = self._tracer.start_span(
            "batch",
            _NOTHING if first is None else trace.set_span_in_context(first, _NOTHING),
            links=[Link(each.get_span_context()) for each in own.values() if len(deliveries) > 1],
            attributes={"receiver.deliveries": len(deliveries), "receiver.traced_deliveries": len(own)},
            start_time=began,
        )
        for each in own.values():
            if each is not first:
                each.add_link(joined.get_span_context())
        with ExitStack() as stack:
            for each in own.values():
                stack.callback(each.end)
            with _current(joined):
                self._tracer.start_span("claim", start_time=began).end(claimed)
                yield Batch(joined, own)


class Batch:
    """The spans of a batch and of those of its deliveries that have a trace."""

    def __init__(self, span: Span, deliveries: Mapping[int, Span]) -> None:
        self._span = span
        self._deliveries = deliveries

    def ended(self, outcomes: Mapping[int, str]) -> None:
        """Note the status of each delivery, by its id."""
        for delivery_id, recorded in self._deliveries.items():
            if delivery_id in outcomes:
                recorded.set_attribute("receiver.status", outcomes[delivery_id])

    def failed(self, error: BaseException) -> None:
        """Note that the batch was not applied."""
        for recorded in (self._span, *self._deliveries.values()):
            mark_failed(recorded, error)


@contextmanager
def entered(recorded: Span) -> Iterator[bytes]:
    """Make *recorded* what this thread is doing, and end it with the block; yield its context as it is stored."""
    with _current(recorded):
        context = recorded.get_span_context()
        yield context.trace_id.to_bytes(TRACE_ID_BYTES) + context.span_id.to_bytes(SPAN_ID_BYTES)


def mark_failed(recorded: Span, error: BaseException) -> None:
    """Note the type of an error. Its text is in the log: it may hold a payload's values."""
    recorded.set_attribute("error.type", type(error).__name__)
    recorded.set_status(Status(StatusCode.ERROR))


@contextmanager
def _current(recorded: Span) -> Iterator[Span]:
    with trace.use_span(recorded, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield recorded
        except BaseException as error:
            mark_failed(recorded, error)
            raise


def _context_of(carried: bytes) -> Context:
    """Return the context that ``entered`` yielded elsewhere. Only a sampled one is ever stored."""
    parent = SpanContext(
        int.from_bytes(carried[:TRACE_ID_BYTES]),
        int.from_bytes(carried[TRACE_ID_BYTES:]),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
    return trace.set_span_in_context(NonRecordingSpan(parent), _NOTHING)

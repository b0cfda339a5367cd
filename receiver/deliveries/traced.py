"""Receiving a delivery with a trace: a span for the request, and one for storing it. Used only where traces are on."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from receiver import tracing
from receiver.deliveries.receive import receive
from receiver.errors import DeliveryRefused
from receiver.webhooks.addresses import ENDPOINT_PATH

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Span
    from werkzeug.datastructures import EnvironHeaders

    from receiver.deliveries.receive import DeliveryStore, Intake
    from receiver.deliveries.store import ArrivedDelivery
    from receiver.queue import WakeUp
    from receiver.spans import Recorder

ROUTE = f"{ENDPOINT_PATH}{{endpoint_key}}"
"""How the path is named: the endpoint's key is a secret."""
REQUEST = f"POST {ROUTE}"
STATUS = "http.response.status_code"


class TracedReceiver:
    """Receives deliveries as ``receive`` does, and records those that are sampled."""

    def __init__(self, recorder: Recorder, wake_up: WakeUp) -> None:
        self._recorder = recorder
        self._wake_up = wake_up

    def __call__(
        self, intake: Intake, endpoint_key: str, headers: EnvironHeaders, read_body: Callable[[], bytes]
    ) -> None:
        """Receive one delivery, once, whatever fails in recording it; raises what ``receive`` raises."""
        request = None
        with tracing.guarded():
            request = self._recorder.request(REQUEST, headers.environ.get("HTTP_TRACEPARENT"))
        if request is None:
            receive(intake, endpoint_key, headers, read_body)
        else:
            self._record(request, intake, endpoint_key, headers, read_body)

    def _record(
        self, request: Span, intake: Intake, endpoint_key: str, headers: EnvironHeaders, read_body: Callable[[], bytes]
    ) -> None:
        from receiver.spans import entered  # noqa: PLC0415 - it is loaded

        status, refused = HTTPStatus.INTERNAL_SERVER_ERROR, None
        with tracing.unfailing(partial(entered, request), b"") as carried:
            if carried:
                intake = replace(
                    intake,
                    committer=_TracedCommitter(intake.committer, carried),
                    wake_worker=partial(self._wake_up, carried),
                )
            try:
                receive(intake, endpoint_key, headers, read_body)
                status = HTTPStatus.OK
            except DeliveryRefused as error:  # only a failure of ours makes the span one that failed
                status, refused = error.status, error
            finally:
                with tracing.guarded():
                    _describe(request, status, refused)
        if refused is not None:
            raise refused


def _describe(request: Span, status: HTTPStatus, refused: DeliveryRefused | None) -> None:
    from receiver.spans import mark_failed  # noqa: PLC0415 - it is loaded

    request.set_attributes({"http.request.method": "POST", "http.route": ROUTE, STATUS: int(status)})
    if refused is not None:
        request.set_attribute("receiver.reason", refused.reason)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            mark_failed(request, refused)


class _TracedCommitter:
    """Stores a delivery together with the context of its trace."""

    def __init__(self, committer: DeliveryStore, carried: bytes) -> None:
        self._committer = committer
        self._carried = carried

    def store(self, arrived: ArrivedDelivery) -> bool:
        with tracing.span("store", **{"receiver.webhook_id": arrived.webhook.id}):
            return self._committer.store(replace(arrived, trace=self._carried))

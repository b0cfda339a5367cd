"""With ``SENTRY_DSN``, errors are reported: that they are, where in the code, and nothing of any payload."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import sentry_sdk

from receiver.error_reports import MISSING, flush_reports, start_reporting
from receiver.logs import configure_logs
from receiver.processing.drain import drain
from receiver.settings import LogFormat
from tests.support.applications import receiver_with
from tests.support.factories import card_holder
from tests.support.failing_statements import failing_statements
from tests.support.serving import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment

    from receiver.settings import Settings
    from tests.conftest import Acme

pytestmark = pytest.mark.usefixtures("unchanged_logging")
HIDDEN = "jane-doe"


class Sentry:
    """What arrives at a server that takes reports."""

    def __init__(self) -> None:
        self.received: list[bytes] = []

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        self.received.append(gzip.decompress(body) if environ.get("HTTP_CONTENT_ENCODING") == "gzip" else body)
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b"{}"]

    def events(self) -> list[dict[str, Any]]:
        """Return the reports that came so far."""
        flush_reports()
        lines = [json.loads(line) for body in self.received for line in body.splitlines() if line.strip()]
        return [line for line in lines if "event_id" in line and "platform" in line]


@pytest.fixture
def sentry() -> Iterator[tuple[Sentry, str]]:
    """A server that takes reports, and the DSN that leads to it."""
    server = Sentry()
    with served(server) as url:
        yield server, url.replace("http://", "http://public-key@") + "/1"
    sentry_sdk.init()


def test_web_error_report_omits_the_request(
    acme: Acme, settings: Settings, sentry: tuple[Sentry, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, dsn = sentry

    def fail(*_arguments: object, **_options: object) -> None:
        local_value = HIDDEN
        raise RuntimeError(f"cannot work with {local_value}")

    monkeypatch.setattr("receiver.deliveries.committer.Committer.store", fail)
    with receiver_with(settings, sentry_dsn=dsn) as app:
        acme.client = app.test_client()
        answer = acme.deliver("card_holder.created", card_holder(HIDDEN), headers={"X-Request-ID": "edge-4711-abc"})
    assert answer.status_code == 500
    (event,) = server.events()
    (exception,) = event["exception"]["values"]
    assert exception["type"] == "RuntimeError"
    assert exception["stacktrace"]["frames"][-1]["function"] == "fail"
    assert event["extra"]["request_id"] == "edge-4711-abc"
    assert event["tags"]["process"] == "web"
    reported = b"".join(server.received).decode()
    assert "request" not in event
    for hidden in (HIDDEN, acme.registration.secret, acme.path, "X-Data-Signature", 'local_value":'):
        assert hidden not in reported, hidden


def test_a_delivery_that_fails_is_reported_by_its_id(acme: Acme, sentry: tuple[Sentry, str]) -> None:
    server, dsn = sentry
    configure_logs(level="INFO", log_format=LogFormat.JSON)
    start_reporting(dsn, process="worker")
    acme.deliver_ok("card_holder.created", card_holder(HIDDEN))
    with failing_statements(acme):
        drain(acme.engine)
    (event,) = server.events()
    assert event["message"] == "delivery.failed"
    assert event["extra"]["delivery_id"] == acme.value("SELECT id FROM receiver.deliveries")
    assert HIDDEN not in b"".join(server.received).decode()


def test_nothing_is_reported_without_a_dsn(acme: Acme, sentry: tuple[Sentry, str]) -> None:
    server, _ = sentry
    start_reporting("", process="worker")
    acme.deliver_ok("card_holder.created", card_holder())
    with failing_statements(acme):
        drain(acme.engine)
    assert server.events() == []


def test_where_the_extra_is_missing_it_says_so_and_goes_on(environment: dict[str, str]) -> None:
    code = """
import sys
sys.modules["sentry_sdk"] = None
from receiver.wsgi import app
app.extensions["receiver.close"]()
"""
    reported = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment, "SENTRY_DSN": "https://key@sentry.example/1"},
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    line = json.loads(reported.splitlines()[0])
    assert (line["event"], line["reason"]) == ("error_reports.unavailable", MISSING)

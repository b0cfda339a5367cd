from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from cryptography.fernet import Fernet

from receiver.logs import configure_logs
from receiver.settings import LogFormat, Settings
from receiver.webhooks.addresses import ENDPOINT_PATH
from receiver.webhooks.credentials import Credentials
from tests.support.applications import (
    receiver_with,
    receiver_without_postgresql,
    unreachable_redis,
)
from tests.support.factories import card_holder

if TYPE_CHECKING:
    from tests.conftest import Acme, Organizations


pytestmark = pytest.mark.usefixtures("unchanged_logging")


class CapturedLog:
    """What this process logs."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def start(self, *, level: str = "DEBUG") -> None:
        configure_logs(level=level, log_format=LogFormat.JSON)

    def lines(self) -> list[dict[str, Any]]:
        """Return what was logged; fails when standard output got anything."""
        captured = self._capsys.readouterr()
        assert captured.out == ""
        return [json.loads(line) for line in captured.err.splitlines()]


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> CapturedLog:
    return CapturedLog(capsys)


def test_log_line_is_one_json_object_on_stderr(log: CapturedLog) -> None:
    log.start()
    structlog.stdlib.get_logger("receiver.somewhere").warning("something happened", number=7)
    (line,) = log.lines()
    assert (line["event"], line["level"], line["logger"]) == ("something happened", "warning", "receiver.somewhere")
    assert line["number"] == 7
    assert line["timestamp"].endswith("Z")


def test_libraries_log_through_the_same_renderer(log: CapturedLog) -> None:
    log.start()
    logging.getLogger("some.library").warning("said %s", "this\nand that")
    (line,) = log.lines()
    assert (line["event"], line["logger"]) == ("said this\nand that", "some.library")


def test_an_exception_is_part_of_its_line(log: CapturedLog) -> None:
    log.start()
    structlog.stdlib.get_logger("receiver.somewhere").error("failed", exc_info=RuntimeError("went wrong"))
    (line,) = log.lines()
    assert "RuntimeError: went wrong" in line["exception"]


def test_lines_below_the_level_are_left_out(log: CapturedLog) -> None:
    log.start(level="WARNING")
    structlog.stdlib.get_logger("receiver.somewhere").info("not said")
    structlog.stdlib.get_logger("receiver.somewhere").warning("said")
    assert [line["event"] for line in log.lines()] == ["said"]


def test_everyday_lines_of_libraries_are_left_out(log: CapturedLog) -> None:
    log.start()
    logging.getLogger("httpx").info("HTTP Request: POST https://sandbox-api.opencard.io/oauth/token")
    logging.getLogger("rq.worker").info("a job began")
    assert log.lines() == []


def test_people_get_lines_without_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="INFO", log_format=LogFormat.CONSOLE)
    structlog.stdlib.get_logger("receiver.somewhere").info("something happened")
    said = capsys.readouterr().err
    assert "something happened" in said
    assert not said.startswith("{")


@pytest.mark.parametrize("log_format", LogFormat)
def test_traceback_has_no_local_variables(capsys: pytest.CaptureFixture[str], log_format: LogFormat) -> None:
    """They may be bodies and secrets; structlog shows them where rich is installed."""
    configure_logs(level="INFO", log_format=log_format)

    def fail() -> None:
        secret = "Café Müller"
        raise ValueError(len(secret))

    try:
        fail()
    except ValueError:
        structlog.stdlib.get_logger("receiver").exception("delivery.failed")
    line = capsys.readouterr().err
    assert "ValueError" in line
    assert "Café" not in line


def test_refused_delivery_is_logged_without_its_content(organizations: Organizations, log: CapturedLog) -> None:
    log.start()
    acme = organizations.adopt("acme", Credentials(basic_username="opencard", basic_password="the-password"))
    content = b'{"card_holder": {"reference_id": "jane-doe"}}'
    genuine = acme.registration.headers("card_holder.created", content)
    acme.deliver("card_holder.created", content, headers={"X-Data-Signature": "f" * 64})
    acme.deliver("card_holder.created", content, headers={"Authorization": "Basic d3Jvbmc6Z3Vlc3M="})
    said = log.lines()
    assert [line["reason"] for line in said] == ["signature-wrong", "basic-wrong"]
    assert {line["webhook_id"] for line in said} == {acme.value("SELECT id FROM receiver.webhooks")}
    everything = json.dumps(said)
    for hidden in (
        "the-password",
        acme.registration.secret,
        acme.path.rpartition("/")[2],
        genuine["Authorization"].removeprefix("Basic "),
        genuine["X-Data-Signature"],
        "d3Jvbmc6Z3Vlc3M=",
        "f" * 64,
        "jane-doe",
    ):
        assert hidden not in everything


def test_unstored_delivery_is_logged_without_its_content(
    organizations: Organizations,
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    acme = organizations.adopt("acme")
    with receiver_without_postgresql(settings, redis_url=unreachable_redis()) as app:
        acme.client = app.test_client()
        assert acme.deliver("card_holder.created", b'{"name": "jane-doe"}').status_code == 503
    said = capsys.readouterr().err
    assert "delivery.not_stored" in said
    assert "jane-doe" not in said
    assert "database-password" not in said


def test_the_operator_learns_what_the_caller_does_not(
    organizations: Organizations, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    acme = organizations.adopt("acme")
    with receiver_with(settings, encryption_keys=(Fernet.generate_key().decode(),)) as app:
        acme.client = app.test_client()
        response = acme.deliver("card_holder.created", b'{"name": "jane-doe"}')
    assert response.status_code == 503
    assert response.json == {"error": "could not store the delivery; please send it again"}
    said = capsys.readouterr().err
    assert "ENCRYPTION_KEYS" in said
    assert "jane-doe" not in said


def test_log_lines_of_a_request_have_the_proxys_request_id(acme: Acme, log: CapturedLog) -> None:
    log.start()
    acme.deliver("card_holder.created", b"{}", headers={"X-Request-ID": "edge-4711-abc"})
    acme.deliver("card_holder.created", b"{}", headers={"X-Request-ID": "edge-4712-abc", "X-Data-Signature": "f" * 64})
    said = log.lines()
    stored = [line for line in said if line["event"] == "delivery.stored"]
    assert [line["request_id"] for line in stored] == ["edge-4711-abc"]
    assert acme.value("SELECT headers ->> 'X-Request-Id' FROM receiver.deliveries") == "edge-4711-abc"
    assert {line["request_id"] for line in said if "refused" in line["event"]} == {"edge-4712-abc"}


@pytest.mark.parametrize(
    "given", [None, "short", "with blanks in it", 'with"quotes"in-it', "x" * 200, "n\u00e4chste-anfrage"]
)
def test_a_request_without_a_sane_id_gets_one(acme: Acme, log: CapturedLog, given: str | None) -> None:
    log.start()
    headers: dict[str, str | None] = {"X-Data-Signature": "f" * 64, "X-Request-ID": given}
    for _ in range(2):
        acme.deliver("card_holder.created", b"{}", headers=headers)
    ids = [line["request_id"] for line in log.lines() if line["event"] == "delivery.refused"]
    assert len(set(ids)) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)


def test_a_rejected_delivery_is_named_in_the_log(acme: Acme, log: CapturedLog) -> None:
    acme.deliver_ok("card_holder.created", card_holder("jane-doe", organization="globex"))
    acme.deliver_ok("card_holder.created", b'{"card_holder": {"reference_id": 5}}')
    acme.deliver_ok("an.event.of.tomorrow", card_holder("jane-doe"))
    log.start(level="INFO")
    acme.process()
    said = log.lines()
    ids = [row["id"] for row in acme.rows("SELECT id FROM receiver.deliveries ORDER BY id")]
    rejected = sorted(
        (line["delivery_id"], line["status"], line["event_name"], line["level"])
        for line in said
        if line["event"] == "delivery.rejected"
    )
    assert rejected == [
        (ids[0], "quarantined", "card_holder.created", "warning"),
        (ids[1], "dead", "card_holder.created", "warning"),
        (ids[2], "ignored", "other", "info"),
    ]
    (batch,) = [line for line in said if line["event"] == "batch.processed"]
    assert (batch["first_delivery_id"], batch["last_delivery_id"]) == (ids[0], ids[2])
    assert "jane-doe" not in json.dumps(said)


def test_endpoint_keys_are_masked_in_every_line(log: CapturedLog) -> None:
    url = f"https://receiver.example{ENDPOINT_PATH}{'K' * 43}?challenge=abc"
    log.start()
    structlog.stdlib.get_logger("receiver.somewhere").error("bootstrap.failed", error=f"GET {url} fails")
    logging.getLogger("library").warning("cannot reach %s", url)
    structlog.stdlib.get_logger("receiver.somewhere").error("failed", exc_info=ValueError(url))
    masked = f"https://receiver.example{ENDPOINT_PATH}***?challenge=abc"
    first, second, third = log.lines()
    assert (first["error"], second["event"]) == (f"GET {masked} fails", f"cannot reach {masked}")
    assert masked in third["exception"]
    assert "KKK" not in str((first, second, third))

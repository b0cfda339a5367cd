from __future__ import annotations

import dataclasses
import string
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from werkzeug.datastructures import Headers

from receiver.deliveries.challenge import is_signable
from receiver.deliveries.receive import Intake, receive
from receiver.errors import StoreUnavailable
from receiver.webhooks.addresses import ENDPOINT_PATH
from receiver.webhooks.credentials import Credentials
from tests.support.factories import card_holder

if TYPE_CHECKING:
    from flask import Flask

    from tests.conftest import Acme, Organizations

with_the_same_database = hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
EVENT = "card_holder.created"
names = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=60)


def newest(acme: Acme) -> dict[str, Any]:
    return acme.row("SELECT * FROM receiver.deliveries ORDER BY id DESC LIMIT 1")


def test_a_delivery_is_committed_before_it_is_answered_200(acme: Acme) -> None:
    for number in range(1, 6):
        acme.deliver_ok(EVENT, card_holder(f"employee-{number}"))
        assert acme.value("SELECT count(*) FROM receiver.deliveries") == number


def test_a_worker_is_woken_only_after_the_commit(acme: Acme, app: Flask) -> None:
    seen = []
    intake: Intake = dataclasses.replace(
        app.extensions["receiver"],
        wake_worker=lambda: seen.append(acme.value("SELECT count(*) FROM receiver.deliveries")),
    )
    receive(
        intake,
        acme.path.removeprefix(ENDPOINT_PATH),
        Headers(acme.registration.headers(EVENT, b"{}")),
        lambda: b"{}",
    )
    assert seen == [1]


def test_delivery_that_is_not_stored_wakes_no_worker(acme: Acme, app: Flask) -> None:
    woken = []
    intake: Intake = dataclasses.replace(app.extensions["receiver"], wake_worker=lambda: woken.append(True))
    headers = Headers(acme.registration.headers(EVENT, b"{}"))
    acme.execute("ALTER TABLE receiver.stored_deliveries RENAME TO away")
    try:
        with pytest.raises(StoreUnavailable):
            receive(intake, acme.path.removeprefix(ENDPOINT_PATH), headers, lambda: b"{}")
    finally:
        acme.execute("ALTER TABLE receiver.away RENAME TO stored_deliveries")
    assert woken == []


def test_a_stored_delivery_waits_to_be_processed(acme: Acme) -> None:
    acme.deliver_ok(EVENT, card_holder())
    delivery = newest(acme)
    assert (delivery["status"], delivery["attempts"], delivery["source"]) == ("pending", 0, "push")
    assert delivery["webhook_id"] == acme.value("SELECT id FROM receiver.webhooks")
    assert delivery["occurred_at"] == delivery["received_at"]
    assert delivery["next_attempt_at"] >= delivery["received_at"], "due at once, dated by its request"
    assert acme.value("SELECT next_attempt_at <= now() FROM receiver.deliveries")
    assert (delivery["processed_at"], delivery["error"], delivery["confirmed_at"]) == (None, None, None)


def test_every_request_is_kept_as_a_row_of_its_own(acme: Acme) -> None:
    for _ in range(3):
        acme.deliver_ok(EVENT, card_holder())
    assert acme.statuses() == ["pending"] * 3


@given(content=st.binary(max_size=400).filter(lambda content: not is_signable(content)))
@with_the_same_database
def test_a_body_is_kept_byte_by_byte_whatever_the_bytes(acme: Acme, content: bytes) -> None:
    assert acme.deliver(EVENT, content).status_code == 200
    assert newest(acme)["body"] == content


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00", b'{"a":"\\u0000"}', b'{ "b": 1.10,\n "a": 1e2, "a": 45.0 }', b"\xff\xfe{}", b"{}" * 100_000],
    ids=["empty", "NUL", "escaped NUL", "spacing, order and digits", "not UTF-8", "200 kB"],
)
def test_a_body_is_kept_as_it_was_written(acme: Acme, content: bytes) -> None:
    assert acme.deliver(EVENT, content).status_code == 200
    assert newest(acme)["body"] == content


@given(event=names, version=st.none() | names)
@with_the_same_database
def test_event_and_version_are_kept_as_received(acme: Acme, event: str, version: str | None) -> None:
    assert acme.deliver(event, b"{}", headers={"X-Version": version}).status_code == 200
    delivery = newest(acme)
    assert (delivery["event"], delivery["version"]) == (event, version)


@given(value=st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=50))
@with_the_same_database
def test_no_header_value_makes_a_delivery_fail(acme: Acme, value: str) -> None:
    headers: dict[str, str | None] = {"X-Version": value, "User-Agent": value, "Authorization": value, "Cookie": value}
    assert acme.deliver(EVENT, b"{}", headers=headers).status_code == 200


def test_headers_are_kept_as_evidence(acme: Acme) -> None:
    acme.deliver(EVENT, b"{}", headers={"User-Agent": "OpenCard/1.0", "X-Request-Id": "r-1"})
    kept = newest(acme)["headers"]
    assert kept["User-Agent"] == "OpenCard/1.0"
    assert kept["X-Request-Id"] == "r-1"
    assert kept["X-Event"] == EVENT
    assert kept["Content-Type"] == "application/json"
    assert kept["X-Data-Signature"] == acme.registration.headers(EVENT, b"{}")["X-Data-Signature"]


def test_unknown_header_keeps_its_name_but_not_its_value(acme: Acme) -> None:
    acme.deliver(EVENT, b"{}", headers={"X-Partner-Token": "partner-token-value"})
    headers = newest(acme)["headers"]
    assert "X-Partner-Token" in headers
    assert "partner-token-value" not in str(headers)


@pytest.mark.parametrize(
    "credentials",
    [
        Credentials(basic_username="opencard", basic_password="the-password"),
        Credentials(custom_key="X-Webhook-Token", custom_value="the-token"),
        Credentials(custom_key="x-request-id", custom_value="the-token"),
        None,
    ],
    ids=["basic", "custom", "custom under a name that is kept otherwise", "none"],
)
def test_credentials_are_never_kept_with_a_delivery(
    organizations: Organizations, credentials: Credentials | None
) -> None:
    acme = organizations.adopt("acme", credentials)
    sent: dict[str, str | None] = {"Cookie": "session=the-cookie", "Proxy-Authorization": "Basic the-proxy"}
    if credentials is None or not credentials.basic_username:
        sent["Authorization"] = "Bearer the-bearer"
    assert acme.deliver(EVENT, b"{}", headers=sent).status_code == 200
    kept = acme.value("SELECT headers::text FROM receiver.deliveries").lower()
    assert "x-event" in kept
    for secret in ("authorization", "cookie", "the-", "webhook-token", "basic ", "bearer"):
        assert secret not in kept

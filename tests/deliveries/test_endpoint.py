from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.test import EnvironBuilder, run_wsgi_app

from receiver.connections import STORE
from receiver.webhooks.addresses import ENDPOINT_PATH, TOKEN_PATH
from tests.support.applications import receiver_with, receiver_without_postgresql
from tests.support.factories import body, card_holder

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

    from receiver.settings import Settings
    from tests.conftest import Acme

UNKNOWN_KEY = "k" * 43
EVENT = "card_holder.created"


def stored(acme: Acme) -> int:
    number: int = acme.value("SELECT count(*) FROM receiver.deliveries")
    return number


def disable(acme: Acme) -> None:
    acme.execute("UPDATE receiver.webhooks SET enabled = false")


def deliver_to(acme: Acme, path: str) -> TestResponse:
    """Deliver what is genuine in all but its address."""
    content = b"{}"
    return acme.client.post(path, data=content, headers=acme.registration.headers(EVENT, content))


def raw(acme: Acme, path: str, *, method: str = "POST", **request: Any) -> int:
    """Send a request with this very path; a client that reads URLs takes what follows two slashes for a host."""
    environ = EnvironBuilder("/", method="POST", **request).get_environ()
    _, status, _ = run_wsgi_app(acme.client.application, {**environ, "PATH_INFO": path, "REQUEST_METHOD": method})
    return int(status.split()[0])


def without(acme: Acme, header: str) -> TestResponse:
    return acme.deliver(EVENT, card_holder(), headers={header: None})


def replaced(acme: Acme, header: str, value: str) -> TestResponse:
    return acme.deliver(EVENT, card_holder(), headers={header: value})


REFUSALS: dict[str, tuple[int, Callable[[Acme], TestResponse]]] = {
    "no X-Event": (400, lambda acme: without(acme, "X-Event")),
    "an empty X-Event": (400, lambda acme: replaced(acme, "X-Event", " ")),
    "no signature": (401, lambda acme: without(acme, "X-Data-Signature")),
    "a wrong signature": (401, lambda acme: replaced(acme, "X-Data-Signature", "0" * 64)),
    "an unknown key": (404, lambda acme: deliver_to(acme, ENDPOINT_PATH + UNKNOWN_KEY)),
    "what cannot be a key": (404, lambda acme: deliver_to(acme, ENDPOINT_PATH + "short")),
    "no key": (404, lambda acme: deliver_to(acme, ENDPOINT_PATH)),
    "more than a key": (404, lambda acme: deliver_to(acme, f"{acme.path}/more")),
    "PUT": (405, lambda acme: acme.client.put(acme.path, data=b"{}")),
    "DELETE": (405, lambda acme: acme.client.delete(acme.path)),
    "a body above 1 MiB": (413, lambda acme: acme.deliver(EVENT, b" " * (1024 * 1024 + 1))),
    "no Content-Type": (415, lambda acme: without(acme, "Content-Type")),
    "a form": (415, lambda acme: replaced(acme, "Content-Type", "application/x-www-form-urlencoded")),
    "text": (415, lambda acme: replaced(acme, "Content-Type", "text/json")),
}


def test_a_genuine_delivery_is_answered_200_with_an_empty_object(acme: Acme) -> None:
    response = acme.deliver(EVENT, card_holder())
    assert (response.status_code, response.data, response.mimetype) == (200, b"{}", "application/json")
    assert stored(acme) == 1


@pytest.mark.parametrize(("status", "send"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refusal_says_why_in_json_and_stores_nothing(
    acme: Acme, status: int, send: Callable[[Acme], TestResponse]
) -> None:
    response = send(acme)
    assert (response.status_code, response.mimetype) == (status, "application/json")
    assert list(response.json or {}) == ["error"]
    assert isinstance(response.json, dict)
    assert response.json["error"]
    assert stored(acme) == 0


def test_wrong_method_is_answered_with_the_allowed_ones(acme: Acme) -> None:
    assert {"GET", "POST"} <= set(acme.client.put(acme.path).headers["Allow"].split(", "))


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "Application/JSON ; charset=iso-8859-1",
        "application/vnd.opencard+json",
    ],
)
def test_json_is_accepted_with_any_content_type_parameters(acme: Acme, content_type: str) -> None:
    assert replaced(acme, "Content-Type", content_type).status_code == 200
    assert stored(acme) == 1


def looks(response: TestResponse) -> tuple[int, bytes, list[tuple[str, str]]]:
    return response.status_code, response.data, sorted(response.headers)


def test_delivery_to_disabled_and_unknown_endpoint_look_alike(acme: Acme) -> None:
    unknown = looks(deliver_to(acme, ENDPOINT_PATH + UNKNOWN_KEY))
    disable(acme)
    assert looks(deliver_to(acme, acme.path)) == unknown
    assert looks(deliver_to(acme, ENDPOINT_PATH + "short")) == unknown
    assert looks(deliver_to(acme, "/somewhere/else")) == unknown


def test_challenge_to_disabled_and_unknown_endpoint_look_alike(acme: Acme) -> None:
    unknown = looks(acme.client.get(f"{ENDPOINT_PATH}{UNKNOWN_KEY}?challenge=abc"))
    disable(acme)
    assert looks(acme.client.get(f"{acme.path}?challenge=abc")) == unknown
    assert looks(acme.client.get(acme.path)) == unknown


def test_strangers_get_no_details_about_a_malformed_request(acme: Acme) -> None:
    wrong = {"X-Data-Signature": "0" * 64}
    answers = {
        looks(acme.deliver(EVENT, b"{}", headers={**wrong, **form}))[:2]
        for form in ({}, {"X-Event": None}, {"Content-Type": "text/plain"})
    }
    assert [status for status, _ in answers] == [401]


def test_without_postgresql_a_delivery_is_answered_503(acme: Acme, settings: Settings) -> None:
    with receiver_without_postgresql(settings) as app:
        acme.client = app.test_client()
        refused = acme.deliver(EVENT, card_holder())
        challenge = acme.client.get(f"{acme.path}?challenge=abc")
    for response in (refused, challenge):
        assert (response.status_code, response.mimetype) == (503, "application/json")
        assert list(response.json or {}) == ["error"]
        assert int(response.headers["Retry-After"]) > 0
        assert b"database-password" not in response.data


def test_slow_postgresql_makes_the_answer_503(acme: Acme, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.deliveries.store.STORE", replace(STORE, statement=1))
    with receiver_with(settings) as app, acme.engine.begin() as other:
        acme.client = app.test_client()
        other.exec_driver_sql("LOCK receiver.stored_deliveries IN ACCESS EXCLUSIVE MODE")
        response = acme.deliver(EVENT, card_holder())
    assert response.status_code == 503
    assert "Retry-After" in response.headers
    assert stored(acme) == 0


def test_connections_that_postgresql_ended_are_replaced(acme: Acme) -> None:
    acme.deliver_ok(EVENT, card_holder("employee-1"))
    acme.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'receiver web'"
    )
    answers = [acme.deliver(EVENT, card_holder(f"employee-{number}")).status_code for number in range(2, 12)]
    assert set(answers) <= {200, 503}
    assert answers[-1] == 200
    assert stored(acme) == 1 + answers.count(200)


def test_a_body_is_taken_up_to_exactly_the_limit(acme: Acme, settings: Settings) -> None:
    with receiver_with(settings, max_body_bytes=100) as app:
        acme.client = app.test_client()
        assert acme.deliver(EVENT, b" " * 100).status_code == 200
        assert acme.deliver(EVENT, b" " * 101).status_code == 413
    assert stored(acme) == 1


def test_wrong_encryption_keys_make_the_sender_try_again(client: FlaskClient, acme: Acme) -> None:
    acme.execute("UPDATE receiver.webhooks SET secret = 'not encrypted'")
    for response in (acme.deliver(EVENT, b"{}"), client.get(f"{acme.path}?challenge=abc")):
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
    assert stored(acme) == 0


def test_unexpected_error_reveals_nothing_to_the_caller(settings: Settings) -> None:
    with receiver_with(settings) as app:
        app.add_url_rule("/broken", view_func=lambda: str(1 // 0))
        response = app.test_client().get("/broken")
    assert response.status_code == 500
    assert response.json == {"error": "internal error"}


def test_a_proxy_that_doubles_slashes_changes_nothing(acme: Acme) -> None:
    content = body(card_holder())
    headers = acme.registration.headers(EVENT, content)
    for path in (f"/{acme.path}", acme.path.replace("/", "//"), acme.path.replace("opencard/", "opencard///")):
        assert (path, raw(acme, path, data=content, headers=headers)) == (path, 200)
    assert stored(acme) == 3
    asked = {raw(acme, path, data=b"{}") for path in (TOKEN_PATH, f"/{TOKEN_PATH}", TOKEN_PATH.replace("/", "//"))}
    assert len(asked) == 1, "the token endpoint answers alike, too"


@pytest.mark.parametrize("path", ["//hooks/opencard/", "/hooks//opencard//nobody", "//hooks/opencard", "//hooks//"])
def test_an_unknown_address_with_doubled_slashes_is_refused(acme: Acme, path: str) -> None:
    assert raw(acme, path, data=b"{}") in {401, 404, 405}


def test_a_method_in_small_letters_is_that_method(acme: Acme) -> None:
    content = body(card_holder())
    headers = acme.registration.headers(EVENT, content)
    assert raw(acme, acme.path, method="post", data=content, headers=headers) == 200

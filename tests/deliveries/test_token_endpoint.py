"""The token endpoint: what OpenCard may ask, and how it is answered (RFC 6749, sections 4.4, 5.1, 5.2)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from receiver.webhooks.addresses import TOKEN_PATH, token_url
from receiver.webhooks.credentials import Credentials
from tests.support.applications import receiver_without_postgresql
from tests.support.token_requests import GRANT, POST, TokenRequests, assert_issued, assert_refused, basic

if TYPE_CHECKING:
    from flask.testing import FlaskClient

    from receiver.settings import Settings

with_the_same_database = hypothesis_settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def test_the_token_endpoint_is_where_webhooks_say_it_is() -> None:
    assert token_url("https://receiver.example") == "https://receiver.example/hooks/oauth/token"


def test_a_client_that_authenticates_in_the_form_gets_a_token(tokens: TokenRequests) -> None:
    response = tokens.ask()
    assert_issued(tokens, response)
    assert response.mimetype == "application/json"
    assert response.headers["Cache-Control"] == "no-store"


def test_a_client_that_authenticates_by_http_basic_gets_a_token(tokens: TokenRequests) -> None:
    right = basic("acme-client", "the-client-secret")
    assert_issued(tokens, tokens.ask(GRANT, headers=right))
    assert_issued(tokens, tokens.ask({**GRANT, "client_id": "acme-client"}, headers=right))
    assert_issued(
        tokens, tokens.ask(GRANT, headers={"Authorization": right["Authorization"].replace("Basic", "BASIC")})
    )


def test_http_basic_bears_the_names_in_the_form_encoding(tokens: TokenRequests) -> None:
    unusual = Credentials(oauth_client_id="acme client:+%", oauth_client_secret="\u00e5:+ %&=")
    tokens.give("acme", unusual)
    encoded = basic(quote_plus(unusual.oauth_client_id), quote_plus(unusual.oauth_client_secret))
    assert_issued(tokens, tokens.ask(GRANT, headers=encoded), unusual)
    form = {"client_id": unusual.oauth_client_id, "client_secret": unusual.oauth_client_secret}
    assert_issued(tokens, tokens.ask({**GRANT, **form}), unusual)


@pytest.mark.parametrize("scope", ["", "everything", "a b c", "\u00e5", "x" * 500])
def test_a_scope_changes_nothing(tokens: TokenRequests, scope: str) -> None:
    assert_issued(tokens, tokens.ask({**POST, "scope": scope}))


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_a_json_object_is_taken_like_a_form(tokens: TokenRequests, content_type: str) -> None:
    content = json.dumps({**POST, "scope": None, "more": [1, {}]})
    assert_issued(tokens, tokens.acme.client.post(TOKEN_PATH, data=content, content_type=content_type))
    by_header = basic("acme-client", "the-client-secret")
    assert_issued(tokens, tokens.acme.client.post(TOKEN_PATH, json=GRANT, headers=by_header))


@pytest.mark.parametrize("content_type", [None, "", "application/x-www-form-urlencoded; charset=UTF-8"])
def test_form_is_accepted_with_any_content_type_parameters(tokens: TokenRequests, content_type: str | None) -> None:
    assert_issued(tokens, tokens.acme.client.post(TOKEN_PATH, data=urlencode(POST), content_type=content_type))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "invalid_request"),
        ({"client_id": "acme-client", "client_secret": "the-client-secret"}, "invalid_request"),
        ({**POST, "grant_type": ""}, "invalid_request"),
        ({**POST, "grant_type": "authorization_code"}, "unsupported_grant_type"),
        ({**POST, "grant_type": "CLIENT_CREDENTIALS"}, "unsupported_grant_type"),
        ({**POST, "grant_type": ["client_credentials", "client_credentials"]}, "invalid_request"),
        ({**POST, "client_id": ["acme-client", "other"]}, "invalid_request"),
        ({**POST, **{f"field-{number}": "x" for number in range(60)}}, "invalid_request"),
    ],
)
def test_a_request_that_is_not_by_client_credentials_is_refused(
    tokens: TokenRequests, fields: dict[str, str], error: str
) -> None:
    assert_refused(tokens.ask(fields), 400, error)


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"[]", "application/json"),
        (b"{", "application/json"),
        (b"", "application/json"),
        (b"\xff", "application/json"),
        (b'{"grant_type": 1}', "application/json"),
        (b'{"grant_type": ["client_credentials"]}', "application/json"),
        (b'{"a":' + b"[" * 4000, "application/json"),
        (b"grant_type=\xff", "application/x-www-form-urlencoded"),
        (b"grant_type=%ff", "application/x-www-form-urlencoded"),
        (urlencode(POST).encode(), "text/plain"),
        (urlencode(POST).encode(), "multipart/form-data; boundary=x"),
    ],
)
def test_a_body_that_cannot_be_read_is_an_invalid_request(
    tokens: TokenRequests, content: bytes, content_type: str
) -> None:
    assert_refused(tokens.acme.client.post(TOKEN_PATH, data=content, content_type=content_type), 400, "invalid_request")


def test_a_body_of_a_few_kilobytes_is_the_most_that_is_read(tokens: TokenRequests) -> None:
    room = 4096 - len(urlencode({**POST, "scope": ""}))
    assert tokens.ask({**POST, "scope": "x" * room}).status_code == 200
    refused = tokens.ask({**POST, "scope": "x" * (room + 1)})
    assert (refused.status_code, refused.headers["Cache-Control"]) == (413, "no-store")


def test_a_body_that_is_cut_off_is_an_invalid_request(tokens: TokenRequests) -> None:
    assert_refused(tokens.ask(POST, environ_overrides={"CONTENT_LENGTH": "500"}), 400, "invalid_request")


def test_tokens_are_only_posted_for(client: FlaskClient) -> None:
    response = client.get(TOKEN_PATH, query_string=POST)
    assert response.status_code == 405
    assert "POST" in response.headers["Allow"]


def test_without_postgresql_opencard_is_asked_to_retry(tokens: TokenRequests, settings: Settings) -> None:
    with receiver_without_postgresql(settings) as app:
        response = app.test_client().post(TOKEN_PATH, data=POST)
    assert_refused(response, 503, "temporarily_unavailable")
    assert int(response.headers["Retry-After"]) > 0
    assert "database-password" not in response.text
    assert_issued(tokens, tokens.ask())


def test_wrong_encryption_keys_make_opencard_ask_again(tokens: TokenRequests) -> None:
    tokens.acme.execute("UPDATE receiver.webhooks SET credentials = 'not encrypted'")
    response = tokens.ask()
    assert_refused(response, 503, "temporarily_unavailable")
    assert int(response.headers["Retry-After"]) > 0


@given(content=st.binary(max_size=200), content_type=st.sampled_from(["application/json", "", "text/plain"]))
@with_the_same_database
def test_any_posted_body_is_answered_without_a_crash(tokens: TokenRequests, content: bytes, content_type: str) -> None:
    response = tokens.acme.client.post(TOKEN_PATH, data=content, content_type=content_type)
    assert response.status_code in {400, 401}

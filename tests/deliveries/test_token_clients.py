"""Who gets a token, and what a stranger learns (RFC 6749, sections 2.3.1 and 5.2)."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from receiver.encryption import Encryption
from receiver.webhooks.addresses import TOKEN_PATH
from receiver.webhooks.credentials import Credentials
from receiver.webhooks.token_request import TokenRequest
from tests.support.applications import receiver_with, receiver_without_postgresql
from tests.support.token_requests import CLIENT, GRANT, POST, TokenRequests, assert_issued, assert_refused, basic

if TYPE_CHECKING:
    from werkzeug.test import TestResponse

    from receiver.settings import Settings
    from tests.conftest import Organizations

with_the_same_database = hypothesis_settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

WRONG_CLIENTS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "nobody": (GRANT, {}),
    "no secret": ({**GRANT, "client_id": "acme-client"}, {}),
    "an empty secret": ({**POST, "client_secret": ""}, {}),
    "no client id": ({**GRANT, "client_secret": "the-client-secret"}, {}),
    "a wrong secret": ({**POST, "client_secret": "the-client-secreT"}, {}),
    "the beginning of the secret": ({**POST, "client_secret": "the-client"}, {}),
    "an unknown client": ({**POST, "client_id": "other"}, {}),
    "a client id with NUL": ({**POST, "client_id": "acme-client\0"}, {}),
    "a client id that is not ASCII": ({**POST, "client_id": "\u00e5cme"}, {}),
    "a long client id": ({**POST, "client_id": "a" * 2000}, {}),
    "another's client id": ({**POST, "client_id": "globex-client"}, {}),
    "basic with a wrong secret": (GRANT, basic("acme-client", "wrong")),
    "basic with an unknown client": (GRANT, basic("other", "the-client-secret")),
    "basic without a secret": (GRANT, basic("acme-client", "")),
    "basic without a colon": (GRANT, {"Authorization": "Basic " + base64.b64encode(b"acme-client").decode()}),
    "basic that cannot be decoded": (GRANT, {"Authorization": "Basic !!!"}),
    "basic that is not ASCII": (GRANT, {"Authorization": "Basic \u00e9"}),
    "basic that is not UTF-8": (GRANT, {"Authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()}),
    "an empty header": (GRANT, {"Authorization": ""}),
    "a bearer token": (GRANT, {"Authorization": "Bearer the-client-secret"}),
}


@pytest.mark.parametrize(("fields", "headers"), WRONG_CLIENTS.values(), ids=WRONG_CLIENTS.keys())
def test_unknown_client_gets_401_with_the_scheme(
    tokens: TokenRequests, organizations: Organizations, fields: dict[str, str], headers: dict[str, str]
) -> None:
    organizations.adopt("globex")
    tokens.give("globex", Credentials(oauth_client_id="globex-client", oauth_client_secret="another-secret"))
    response = tokens.ask(fields, headers=headers)
    assert_refused(response, 401, "invalid_client")
    assert response.headers["WWW-Authenticate"].startswith("Basic realm=")


def test_unknown_wrong_and_disabled_clients_look_alike(tokens: TokenRequests) -> None:
    def looks(response: TestResponse) -> tuple[int, bytes, list[tuple[str, str]]]:
        return response.status_code, response.data, sorted(response.headers)

    unknown = looks(tokens.ask({**POST, "client_id": "other"}))
    assert looks(tokens.ask({**POST, "client_secret": "wrong"})) == unknown
    assert looks(tokens.ask(GRANT, headers=basic("acme-client", "wrong"))) == unknown
    tokens.acme.execute("UPDATE receiver.webhooks SET enabled = false")
    assert looks(tokens.ask()) == unknown


def test_unknown_client_costs_as_much_as_a_wrong_secret(tokens: TokenRequests, monkeypatch: pytest.MonkeyPatch) -> None:
    decrypted = []
    decrypt = Encryption.decrypt

    def counting(encryption: Encryption, stored: bytes) -> str:
        decrypted.append(len(stored))
        return decrypt(encryption, stored)

    monkeypatch.setattr(Encryption, "decrypt", counting)
    tokens.ask({**POST, "client_secret": "wrong"})
    by_wrong_secret = len(decrypted)
    tokens.ask({**POST, "client_id": "other"})
    assert (by_wrong_secret, len(decrypted)) == (2, 4)


def test_two_client_authentications_must_agree(tokens: TokenRequests) -> None:
    right = basic("acme-client", "the-client-secret")
    assert tokens.ask(POST, headers=right).status_code == 200
    assert_refused(tokens.ask({**GRANT, "client_id": "other"}, headers=right), 400, "invalid_request")
    assert_refused(tokens.ask({**POST, "client_secret": "other"}, headers=right), 400, "invalid_request")


def test_a_webhook_of_another_type_issues_no_tokens(tokens: TokenRequests) -> None:
    tokens.acme.execute("UPDATE receiver.webhooks SET authentication_type = 'basic'")
    assert_refused(tokens.ask(), 401, "invalid_client")


@pytest.mark.parametrize(
    "credentials", [None, Credentials(oauth_client_id="acme-client"), Credentials(basic_username="a")]
)
def test_a_webhook_without_a_client_secret_issues_no_tokens(
    tokens: TokenRequests, credentials: Credentials | None
) -> None:
    stored = None if credentials is None else tokens.encrypted(credentials)
    tokens.acme.execute("UPDATE receiver.webhooks SET credentials = :stored", stored=stored)
    for secret in ("", "the-client-secret"):
        assert_refused(tokens.ask({**POST, "client_secret": secret}), 401, "invalid_client")


@pytest.mark.parametrize("replacing", [Credentials(oauth_client_id="acme-client", oauth_client_secret="new"), None])
@pytest.mark.parametrize(
    ("acknowledged", "overlap", "good"),
    [(False, None, True), (True, "1 hour", True), (True, "0", False), (True, None, False)],
)
def test_replaced_client_secret_gets_tokens_until_it_expires(
    tokens: TokenRequests, replacing: Credentials | None, *, acknowledged: bool, overlap: str | None, good: bool
) -> None:
    tokens.acme.execute(
        "UPDATE receiver.webhooks SET previous_authentication_type = authentication_type,"
        " previous_credentials = credentials, authentication_type = :kind, credentials = :new,"
        " acknowledged_at = CASE WHEN :acknowledged THEN now() END,"
        " previous_credentials_expires_at = now() + CAST(:overlap AS interval)",
        acknowledged=acknowledged,
        overlap=overlap,
        kind="oauth" if replacing else "none",
        new=tokens.encrypted(replacing) if replacing else None,
    )
    if good:
        assert_issued(tokens, tokens.ask())
    else:
        assert_refused(tokens.ask(), 401, "invalid_client")
    if replacing:
        assert_issued(tokens, tokens.ask({**POST, "client_secret": "new"}), replacing)


@given(
    client_id=st.text(max_size=30),
    client_secret=st.text(max_size=30),
    header=st.none() | st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=40),
)
@with_the_same_database
def test_any_token_request_is_answered_without_crash(
    tokens: TokenRequests, client_id: str, client_secret: str, header: str | None
) -> None:
    fields = {**GRANT, "client_id": client_id, "client_secret": client_secret}
    headers = {} if header is None else {"Authorization": header}
    for response in (tokens.ask(fields, headers=headers), tokens.acme.client.post(TOKEN_PATH, json=fields)):
        assert response.status_code in {400, 401}


def test_secret_of_a_replaced_client_fails_for_its_successor(tokens: TokenRequests) -> None:
    tokens.acme.execute(
        "UPDATE receiver.webhooks SET previous_authentication_type = 'oauth', previous_credentials = credentials,"
        " acknowledged_at = NULL"
    )
    tokens.give("acme", Credentials(oauth_client_id="acme-client-2", oauth_client_secret="new"))
    assert tokens.ask({**POST, "client_id": "acme-client-2", "client_secret": "new"}).status_code == 200
    assert_refused(tokens.ask({**POST, "client_id": "acme-client-2"}), 401, "invalid_client")


def test_token_endpoint_logs_no_secret_and_no_token(
    tokens: TokenRequests, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tokens.ask().status_code == 200
    right = basic("acme-client", "the-client-secret")
    issued = []
    for receiver in (receiver_with, receiver_without_postgresql):
        with receiver(settings, log_level="DEBUG") as app:
            client = app.test_client()
            for response in (
                client.post(TOKEN_PATH, data=POST),
                client.post(TOKEN_PATH, data=GRANT, headers=right),
                client.post(TOKEN_PATH, data={**POST, "client_id": "the-client-secret"}),
                client.post(TOKEN_PATH, data={**POST, "grant_type": "the-client-secret"}),
                client.post(TOKEN_PATH, data={**POST, "client_secret": "the-guess"}),
            ):
                issued += [response.json["access_token"]] if response.status_code == 200 and response.json else []
    said = capsys.readouterr().err
    assert {"token.issued", "token.refused", "token.not_issued"} <= {
        json.loads(line)["event"] for line in said.splitlines()
    }
    assert len(issued) == 2
    hidden = ["the-client-secret", "the-guess", right["Authorization"].removeprefix("Basic "), "database-password"]
    for secret in (*hidden, *issued):
        assert secret not in said


def test_a_request_for_a_token_shows_no_secret() -> None:
    assert "the-client-secret" not in repr(TokenRequest("acme-client", "the-client-secret"))
    assert "the-client-secret" not in repr(CLIENT)

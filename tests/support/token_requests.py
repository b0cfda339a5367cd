"""Asking for tokens, for tests of the token endpoint and of what the tokens open."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from receiver.encryption import Encryption
from receiver.webhooks.addresses import TOKEN_PATH
from receiver.webhooks.credentials import Credentials, encrypt_credentials
from receiver.webhooks.oauth import verify_token

if TYPE_CHECKING:
    from werkzeug.test import TestResponse

    from receiver.settings import Settings
    from tests.conftest import Acme

CLIENT = Credentials(oauth_client_id="acme-client", oauth_client_secret="the-client-secret")
GRANT = {"grant_type": "client_credentials"}
POST = {**GRANT, "client_id": "acme-client", "client_secret": "the-client-secret"}


@dataclass
class TokenRequests:
    """A webhook with an OAuth client, and a caller that asks for its tokens."""

    acme: Acme
    settings: Settings

    def give(self, organization: str, credentials: Credentials) -> None:
        """Let the organization's webhook authenticate by OAuth."""
        self.acme.execute(
            "UPDATE receiver.webhooks SET authentication_type = 'oauth', credentials = :credentials,"
            " oauth_client_id = :client_id WHERE organization_reference_id = :organization",
            credentials=self.encrypted(credentials),
            client_id=credentials.oauth_client_id,
            organization=organization,
        )

    def encrypted(self, credentials: Credentials) -> bytes | None:
        return encrypt_credentials(credentials, Encryption(self.settings.encryption_keys))

    def ask(self, fields: dict[str, str] | None = None, **options: Any) -> TestResponse:
        return self.acme.client.post(TOKEN_PATH, data=POST if fields is None else fields, **options)


def basic(client_id: str, client_secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()}


def assert_issued(tokens: TokenRequests, response: TestResponse, credentials: Credentials = CLIENT) -> None:
    """Insist on a token that opens acme's webhook."""
    assert response.status_code == 200, response.data
    assert isinstance(response.json, dict)
    assert {**response.json, "access_token": ""} == {"access_token": "", "token_type": "Bearer", "expires_in": 900}
    verify_token(
        response.json["access_token"],
        webhook_id=tokens.acme.value("SELECT id FROM receiver.webhooks WHERE organization_reference_id = 'acme'"),
        client_id=credentials.oauth_client_id,
        client_secret=credentials.oauth_client_secret,
        now=datetime.now(UTC),
    )


def assert_refused(response: TestResponse, status: int, error: str) -> None:
    assert (response.status_code, response.mimetype) == (status, "application/json"), response.data
    assert isinstance(response.json, dict)
    assert response.json["error"] == error
    assert response.json["error_description"].isascii()
    assert response.headers["Cache-Control"] == "no-store"
    assert "the-client-secret" not in response.text

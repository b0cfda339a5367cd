"""New secrets, credentials and endpoint keys: unguessable, each webhook its own."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from receiver.webhooks.credentials import AuthenticationType, Credentials

if TYPE_CHECKING:
    from collections.abc import Mapping

ENDPOINT_KEY_BYTES: Final = 32
SECRET_BYTES: Final = 45
"""60 characters, as many as OpenCard's own secrets have."""
PASSWORD_BYTES: Final = 32
USERNAME: Final = "opencard"
CUSTOM_KEY: Final = "X-Webhook-Token"


def new_secret() -> str:
    """Return a new secret of a webhook."""
    return secrets.token_urlsafe(SECRET_BYTES)


def new_endpoint_key() -> str:
    """Return a new endpoint key."""
    return secrets.token_urlsafe(ENDPOINT_KEY_BYTES)


def new_credentials(kind: AuthenticationType, given: Mapping[str, str]) -> Credentials:
    """Return credentials of a kind: those that are *given*, the rest generated."""
    made: dict[str, str] = {}
    match kind:
        case AuthenticationType.BASIC:
            made = {"basic_username": USERNAME, "basic_password": secrets.token_urlsafe(PASSWORD_BYTES)}
        case AuthenticationType.CUSTOM:
            made = {"custom_key": CUSTOM_KEY, "custom_value": secrets.token_urlsafe(PASSWORD_BYTES)}
        case AuthenticationType.OAUTH:
            made = {
                "oauth_client_id": f"{USERNAME}-{secrets.token_hex(12)}",
                "oauth_client_secret": secrets.token_urlsafe(PASSWORD_BYTES),
            }
        case AuthenticationType.NONE:
            pass
    return Credentials(**{**made, **given})

"""Verifies a delivery: pure functions of its bytes, its headers and the webhook's secrets and credentials.

Two proofs exist: the signature over the raw body, and the credentials of the webhook. A proof that is present must be
valid. The signature may be missing if ``SIGNATURE_POLICY`` allows it, the credentials if the webhook has none. During
a rotation the previous secrets and credentials are accepted as well.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import TYPE_CHECKING, Protocol

from receiver.deliveries.challenge import is_signable, sign
from receiver.errors import NotAuthentic
from receiver.settings import SignaturePolicy
from receiver.webhooks.credentials import AuthenticationType
from receiver.webhooks.oauth import verify_token

if TYPE_CHECKING:
    from receiver.webhooks.credentials import Authentication, Credentials, Expected

SIGNATURE_HEADER = "X-Data-Signature"


class HeaderLookup(Protocol):
    """Headers of a request, found without regard to case."""

    def get(self, key: str, /) -> str | None:
        """Return the header's value, or ``None``."""


def authenticate(
    body: bytes,
    headers: HeaderLookup,
    expected: Expected,
    policy: SignaturePolicy,
) -> str:
    """Return the proofs that held, as stored with the delivery: for example ``signature+basic``.

    Raises ``NotAuthentic``, whose reason says which proof failed. A body that is signed for anybody who
    sends it as a challenge is refused: its signature proves nothing.
    """
    proofs = []
    signature = headers.get(SIGNATURE_HEADER)
    if signature is not None:
        if is_signable(body):
            raise NotAuthentic("signature-of-a-challenge")
        proofs.append(_verify_signature(signature, body, expected.secrets))
    elif policy is SignaturePolicy.REQUIRED:
        raise NotAuthentic("signature-missing")
    proofs += _verify_either(headers, expected, signed=signature is not None)
    return "+".join(proofs)


def _verify_signature(signature: str, body: bytes, secrets: tuple[str, ...]) -> str:
    received = signature.strip().lower().encode("latin-1", "replace")
    for position, secret in enumerate(secrets):
        if hmac.compare_digest(received, sign(secret, body).encode()):
            return "signature" if position == 0 else "signature-by-previous-secret"
    raise NotAuthentic("signature-wrong")


def _verify_either(headers: HeaderLookup, expected: Expected, *, signed: bool) -> list[str]:
    """Return the proofs by the current authentication, else by the previous one. An error is the current one's."""
    try:
        return _verify(expected.current, headers, expected, signed=signed)
    except NotAuthentic as refused:
        if expected.previous is None:
            raise
        reason = refused.reason
    try:
        proofs = _verify(expected.previous, headers, expected, signed=signed)
    except NotAuthentic:
        raise NotAuthentic(reason) from None
    return [f"{proof}-by-previous-credentials" for proof in proofs]


def _verify(authentication: Authentication, headers: HeaderLookup, expected: Expected, *, signed: bool) -> list[str]:
    credentials = authentication.credentials
    match authentication.type:
        case AuthenticationType.NONE if signed:
            return []
        case AuthenticationType.NONE:
            raise NotAuthentic("signature-missing")  # there is no other proof
        case AuthenticationType.BASIC:
            return [_verify_basic(headers.get("Authorization"), credentials)]
        case AuthenticationType.CUSTOM:
            return [_verify_custom(headers.get(credentials.custom_key), credentials)]
        case AuthenticationType.OAUTH:
            return [_verify_oauth(headers.get("Authorization"), credentials, expected)]


def _verify_basic(authorization: str | None, credentials: Credentials) -> str:
    if authorization is None:
        raise NotAuthentic("basic-missing")
    scheme, _, encoded = authorization.partition(" ")
    try:
        received = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise NotAuthentic("basic-malformed") from None
    wanted = f"{credentials.basic_username}:{credentials.basic_password}".encode()
    if scheme.lower() != "basic" or not hmac.compare_digest(received, wanted) or wanted == b":":
        raise NotAuthentic("basic-wrong")
    return "basic"


def _verify_custom(value: str | None, credentials: Credentials) -> str:
    if value is None:
        raise NotAuthentic("custom-missing")
    # WSGI decodes header bytes as Latin-1; compare the bytes that were sent
    wanted = credentials.custom_value.encode()
    if not hmac.compare_digest(value.encode("latin-1", "replace"), wanted) or not wanted:
        raise NotAuthentic("custom-wrong")
    return "custom"


def _verify_oauth(authorization: str | None, credentials: Credentials, expected: Expected) -> str:
    if authorization is None:
        raise NotAuthentic("oauth-missing")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise NotAuthentic("oauth-malformed")
    verify_token(
        token.strip(),
        webhook_id=expected.webhook_id,
        client_id=credentials.oauth_client_id,
        client_secret=credentials.oauth_client_secret,
        now=expected.now,
    )
    return "oauth"

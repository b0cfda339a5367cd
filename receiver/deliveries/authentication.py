"""Is it authentic? Pure functions of bytes, headers and what is registered for the webhook.

Two proofs exist: the signature over the raw body, and the credentials of the webhook. What is present must be right;
what may be missing is said by ``SIGNATURE_POLICY`` and by whether the webhook has credentials.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from receiver.deliveries.challenge import sign
from receiver.errors import NotAuthentic
from receiver.settings import SignaturePolicy

SIGNATURE_HEADER = "X-Data-Signature"


class HeaderLookup(Protocol):
    """Headers of a request, found without regard to case."""

    def get(self, key: str, /) -> str | None:
        """Return the header's value, or ``None``."""


class AuthenticationType(StrEnum):
    """How OpenCard authenticates on a webhook beside signing; ``oauth`` is not supported yet."""

    NONE = "none"
    BASIC = "basic"
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What OpenCard sends with each delivery of a webhook: of ``basic`` or of ``custom``, else empty."""

    basic_username: str = ""
    basic_password: str = field(default="", repr=False)
    custom_key: str = ""
    custom_value: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Expected:
    """What proves a webhook's deliveries; *secrets* are all that are good now, the current one first."""

    secrets: tuple[str, ...] = field(repr=False)
    authentication_type: AuthenticationType = AuthenticationType.NONE
    credentials: Credentials = field(default_factory=Credentials)


def authenticate(
    body: bytes,
    headers: HeaderLookup,
    expected: Expected,
    policy: SignaturePolicy,
) -> str:
    """Return the verdict to store with the delivery: the proofs that held, for one ``signature+basic``.

    Raises ``NotAuthentic``, whose reason tells an operator which proof failed.
    """
    proofs = []
    signature = headers.get(SIGNATURE_HEADER)
    if signature is not None:
        proofs.append(_verify_signature(signature, body, expected.secrets))
    elif policy is SignaturePolicy.REQUIRED or expected.authentication_type is AuthenticationType.NONE:
        raise NotAuthentic("signature-missing")
    match expected.authentication_type:
        case AuthenticationType.BASIC:
            proofs.append(_verify_basic(headers.get("Authorization"), expected.credentials))
        case AuthenticationType.CUSTOM:
            proofs.append(_verify_custom(headers.get(expected.credentials.custom_key), expected.credentials))
        case AuthenticationType.NONE:
            pass
    return "+".join(proofs)


def _verify_signature(signature: str, body: bytes, secrets: tuple[str, ...]) -> str:
    given = signature.strip().lower().encode("latin-1", "replace")
    for position, secret in enumerate(secrets):
        if hmac.compare_digest(given, sign(secret, body).encode()):
            return "signature" if position == 0 else "signature-by-previous-secret"
    raise NotAuthentic("signature-wrong")


def _verify_basic(authorization: str | None, credentials: Credentials) -> str:
    if authorization is None:
        raise NotAuthentic("basic-missing")
    scheme, _, encoded = authorization.partition(" ")
    try:
        given = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise NotAuthentic("basic-malformed") from None
    wanted = f"{credentials.basic_username}:{credentials.basic_password}".encode()
    if scheme.lower() != "basic" or not hmac.compare_digest(given, wanted):
        raise NotAuthentic("basic-wrong")
    return "basic"


def _verify_custom(value: str | None, credentials: Credentials) -> str:
    if value is None:
        raise NotAuthentic("custom-missing")
    # WSGI hands out header bytes as Latin-1; compare what was on the wire
    if not hmac.compare_digest(value.encode("latin-1", "replace"), credentials.custom_value.encode()):
        raise NotAuthentic("custom-wrong")
    return "custom"

"""Tokens of webhooks with ``authentication_type`` ``oauth``: issued here to OpenCard, and brought back with deliveries.

A token is a JWT for one webhook alone, signed with a key that comes from that webhook's OAuth client secret. Nothing
about it is stored: replacing the secret ends its tokens, and no other webhook's token fits.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, InvalidClaimError, JoseError
from joserfc.jwk import OctKey
from joserfc.util import json_b64encode

from receiver.errors import NotAuthentic

if TYPE_CHECKING:
    from datetime import datetime

TOKEN_LIFETIME: Final = timedelta(minutes=15)
"""How long a token is good. It is short, because a token cannot be called back."""
CLOCK_SKEW: Final = timedelta(minutes=1)
"""By how much the clock of the machine that issued a token may be ahead of the one that verifies it."""
ISSUER: Final = "opencard-receiver"
ALGORITHM: Final = "HS256"
KEY_LABEL: Final = b"opencard-receiver: signing OAuth access tokens of a webhook, version 1"
"""Makes this key differ from any other that may be derived from the same secret."""

_HEADER: Final = {"alg": ALGORITHM, "typ": "JWT"}
_HEADER_ON_THE_WIRE: Final = json_b64encode(_HEADER).decode()
_JWT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.ASCII)


class _Claims(jwt.JWTClaimsRegistry):
    """Expiry to the second, and clocks of two machines that need not agree on when a token was issued."""

    def validate_iat(self, value: object) -> None:
        if not isinstance(value, int) or value > self.now + CLOCK_SKEW.total_seconds():
            raise InvalidClaimError("iat")


def issue_token(*, webhook_id: int, client_id: str, client_secret: str, now: datetime) -> str:
    """Return a token for deliveries on this webhook, good from *now* (aware) for ``TOKEN_LIFETIME``.

    Raises ``ValueError`` for an empty *client_secret*: anybody could sign with the key that comes from it.
    """
    issued_at = int(now.timestamp())
    claims = {
        "iss": ISSUER,
        "aud": _audience(webhook_id),
        "sub": client_id,
        "iat": issued_at,
        "exp": issued_at + int(TOKEN_LIFETIME.total_seconds()),
    }
    return jwt.encode(_HEADER, claims, _key(client_secret), [ALGORITHM], default_type=None)


def verify_token(token: str, *, webhook_id: int, client_id: str, client_secret: str, now: datetime) -> None:
    """Check that *token* was issued for this webhook and client, and has not expired at *now* (aware).

    Raises ``NotAuthentic`` and nothing else: ``oauth-malformed``, ``oauth-wrong``, or ``oauth-expired`` for one that
    was right.
    """
    if not _JWT.fullmatch(token):
        raise NotAuthentic("oauth-malformed")
    # Every token issued here has this very header, so none that a stranger wrote is ever interpreted: not its
    # algorithm, not its key, not its extensions.
    if token.partition(".")[0] != _HEADER_ON_THE_WIRE or not client_secret:
        raise NotAuthentic("oauth-wrong")
    claims = _Claims(
        now=int(now.timestamp()),
        leeway=0,
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": _audience(webhook_id)},
        sub={"essential": True, "value": client_id},
        iat={"essential": True},
        exp={"essential": True},
    )
    try:
        claims.validate(jwt.decode(token, _key(client_secret), [ALGORITHM]).claims)
    except ExpiredTokenError:
        raise NotAuthentic("oauth-expired") from None
    except JoseError:
        raise NotAuthentic("oauth-wrong") from None


def _audience(webhook_id: int) -> str:
    return f"webhook:{webhook_id}"


def _key(client_secret: str) -> OctKey:
    if not client_secret:
        raise ValueError("an empty OAuth client secret signs no tokens")
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=KEY_LABEL).derive(client_secret.encode())
    return OctKey.import_key(derived)

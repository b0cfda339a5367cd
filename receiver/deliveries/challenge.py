"""The challenge: OpenCard asks whether the endpoint knows the webhook's secret.

The answer is the same function, under the same key, as a delivery's signature. Signing whatever is asked would sign
forged deliveries for anybody, so only letters and digits are signed, 64 at most, and no delivery of that shape is
accepted by its signature.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

from receiver.errors import MalformedRequest

SIGNABLE: Final = re.compile(rb"[A-Za-z0-9]{1,64}")


def sign(secret: str, message: bytes) -> str:
    """Return ``hex(HMAC-SHA256(secret, message))``, as OpenCard signs deliveries and expects challenges answered."""
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def is_signable(message: bytes) -> bool:
    """Return whether *message* is signed for anybody who sends it as a challenge."""
    return SIGNABLE.fullmatch(message) is not None


def answer_challenge(challenge: str | None, secret: str) -> str:
    """Return the value of ``X-Verify-Token``.

    Raises ``MalformedRequest`` when there is no challenge, or when it is one that must not be signed.
    """
    if challenge is None:
        raise MalformedRequest("this address takes POST; a GET needs ?challenge=", reason="no-challenge")
    message = challenge.encode("utf-8", "replace")
    if not is_signable(message):
        raise MalformedRequest("a challenge is 1 to 64 letters and digits", reason="unsignable-challenge")
    return sign(secret, message)

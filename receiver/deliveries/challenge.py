"""The challenge: OpenCard asks whether the endpoint knows the webhook's secret.

The answer is computed like a delivery's signature, with the same key. If any challenge were signed, an attacker could
get forged deliveries signed. So only 1 to 64 letters and digits are signed, and a delivery with such a body is refused.
"""

from __future__ import annotations

import hmac
import re
from typing import Final

from receiver.errors import MalformedRequest

SIGNABLE: Final = re.compile(rb"[A-Za-z0-9]{1,64}")


def sign(secret: str, message: bytes) -> str:
    """Return ``hex(HMAC-SHA256(secret, message))``, as OpenCard signs deliveries and expects challenges answered."""
    return hmac.digest(secret.encode(), message, "sha256").hex()


def is_signable(message: bytes) -> bool:
    """Return whether *message* would be signed for any sender of a challenge."""
    return SIGNABLE.fullmatch(message) is not None


def answer_challenge(challenge: str | None, secret: str) -> str:
    """Return the value of ``X-Verify-Token``.

    Raises ``MalformedRequest`` when there is no challenge, or when it must not be signed.
    """
    if challenge is None:
        raise MalformedRequest("this address takes POST; a GET needs ?challenge=", reason="no-challenge")
    message = challenge.encode("utf-8", "replace")
    if not is_signable(message):
        raise MalformedRequest("a challenge is 1 to 64 letters and digits", reason="unsignable-challenge")
    return sign(secret, message)

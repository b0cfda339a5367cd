"""The signature of deliveries and challenges, as OpenCard computes it.

Written apart from the receiver's own: the two must agree because of the contract, not because of shared code.
"""

from __future__ import annotations

import hashlib
import hmac


def sign(secret: str, message: bytes) -> str:
    """Return the hexadecimal HMAC-SHA256 of *message* under the webhook's *secret* (contract, sections 4 and 5)."""
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()

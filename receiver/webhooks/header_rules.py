"""What may be a header's name or value, or a credential: one rule, wherever one is entered. Pure.

What does not arrive as it was entered makes every delivery 401, so it is refused at entry.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

CREDENTIALS: Final = frozenset({"authorization", "proxy-authorization", "cookie"})
KEPT: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "host",
        "traceparent",
        "transfer-encoding",
        "user-agent",
        "via",
        "x-data-signature",
        "x-event",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-request-id",
        "x-version",
    }
)
"""Headers whose values cannot be secret; they are stored with each delivery."""
NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^`|~-]+", re.ASCII)
"""Names of headers that arrive: gunicorn and many proxies drop those with an underscore."""
RESERVED: Final = (
    KEPT
    | CREDENTIALS
    | {"connection", "expect", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"}
    | {"forwarded", "x-forwarded-host", "x-forwarded-port", "x-real-ip"}
)
"""Headers that a delivery has already, that proxies set or remove, or whose values are kept and shown."""
MAX_BYTES: Final = 4096
"""Of a value or a name; gunicorn refuses requests with headers of more than twice that."""


def name_problem(name: str) -> str | None:
    """Return why no header may have this name; ``None`` when it may."""
    if not NAME.fullmatch(name) or len(name) > MAX_BYTES:
        return "not a header that arrives: use letters, digits and hyphens, no underscore"
    if name.lower() in RESERVED:
        return "every delivery has this header already, or proxies change it: use another name"
    return None


def value_problem(value: str) -> str | None:
    """Return why this may not be a header's value or a credential; ``None`` when it may. Never repeats the value."""
    if any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in value):
        return "its value has control characters, or is no text"
    if value != value.strip():
        return "its value begins or ends with white space, which is lost on the way: remove it"
    if len(value.encode()) > MAX_BYTES:
        return f"its value is longer than {MAX_BYTES} bytes"
    return None


def credential_problem(kind: str, value: str) -> str | None:
    """Return why this may not be a credential; *kind* as ``Credentials`` calls it. ``None`` when it may."""
    if kind == "custom_key":
        return name_problem(value)
    if kind == "basic_username" and ":" in value:
        return "a user name of basic authentication has no colon"
    return value_problem(value)

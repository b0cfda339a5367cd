"""The URLs that OpenCard calls."""

from __future__ import annotations

import re
from typing import Final

ENDPOINT_PATH: Final = "/hooks/opencard/"
TOKEN_PATH: Final = "/hooks/oauth/token"  # noqa: S105 - an address
ENDPOINT_KEY: Final = re.compile(r"[A-Za-z0-9_-]{32,128}", re.ASCII)


def endpoint_url(public_url: str, endpoint_key: str) -> str:
    """Return the address that OpenCard delivers to."""
    return f"{public_url}{ENDPOINT_PATH}{endpoint_key}"


def token_url(public_url: str) -> str:
    """Return the address that OpenCard gets tokens from, for ``oauth_access_token_url``."""
    return f"{public_url}{TOKEN_PATH}"

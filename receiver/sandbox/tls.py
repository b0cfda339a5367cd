"""The certificates that OpenCard trusts when it calls a webhook over HTTPS."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    import ssl


@cache
def tls_context() -> ssl.SSLContext:
    """Return the context of all clients; loading it takes longer than most that they are made for."""
    return httpx.create_ssl_context(trust_env=False)

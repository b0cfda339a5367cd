"""Which certificate authorities HTTPS clients trust: of ``SSL_CERT_FILE`` or ``SSL_CERT_DIR``, otherwise certifi's."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    import ssl


@cache
def tls_context() -> ssl.SSLContext:
    """Return the context of all clients of this process; loading it takes longer than most requests."""
    return httpx.create_ssl_context()

"""Which certificate authorities HTTPS clients trust: of ``SSL_CERT_FILE`` or ``SSL_CERT_DIR``, otherwise certifi's."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

import httpx

from receiver.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl


@cache
def tls_context() -> ssl.SSLContext:
    """Return the context of all clients of this process; loading it takes longer than most requests.

    Raises ``ConfigurationError`` when the file has no certificates or cannot be read.
    """
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # an ssl.SSLError as well
        raise ConfigurationError(
            [f"SSL_CERT_FILE={os.environ.get('SSL_CERT_FILE')}: certificates cannot be read from it: {error.strerror}"]
        ) from None

"""Which certificate authorities HTTPS clients trust."""

from __future__ import annotations

from typing import TYPE_CHECKING

import certifi
import pytest

from receiver.errors import ConfigurationError
from receiver.tls import tls_context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _read_again() -> Iterator[None]:
    """The variable is read in each test, and not kept for others."""
    tls_context.cache_clear()
    yield
    tls_context.cache_clear()


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "no certificate"])
def test_a_wrong_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None) -> None:
    file = tmp_path / "Authority of ACME.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(ConfigurationError, match=f"SSL_CERT_FILE={file}: certificates cannot be read from it"):
        tls_context()


def test_authorities_are_those_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, found, _ = certifi.contents().partition("-----END CERTIFICATE-----\n")
    (tmp_path / "one.pem").write_text(first + found)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "one.pem"))
    assert len(tls_context().get_ca_certs()) == 1
    assert tls_context() is tls_context()

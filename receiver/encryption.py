"""Secrets at rest: MultiFernet under ``ENCRYPTION_KEYS``, the newest key first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from receiver.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Encryption:
    """Encrypts under the newest key, decrypts under any of them."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def encrypt(self, text: str) -> bytes:
        """Return *text*, encrypted, as it is stored in a ``bytea`` column."""
        return self._fernet.encrypt(text.encode())

    def decrypt(self, stored: bytes) -> str:
        """Return the text behind *stored*.

        Raises ``ConfigurationError`` when no key fits: a key was removed before everything was encrypted anew.
        """
        try:
            return self._fernet.decrypt(stored).decode()
        except InvalidToken:
            raise ConfigurationError(
                ["ENCRYPTION_KEYS is wrong: no key in it decrypts what is stored; add the key that was in use before"]
            ) from None

    def __repr__(self) -> str:
        return "Encryption(***)"

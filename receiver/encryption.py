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
        fernets = [Fernet(key) for key in keys]
        self._newest = fernets[0]
        self._fernet = MultiFernet(fernets)

    def encrypt(self, text: str) -> bytes:
        """Return *text*, encrypted, as it is stored in a ``bytea`` column."""
        return self._fernet.encrypt(text.encode())

    def decrypt(self, stored: bytes) -> str:
        """Return the text behind *stored*.

        Raises ``ConfigurationError`` when no key fits: a key was removed before everything was encrypted again.
        """
        try:
            return self._fernet.decrypt(stored).decode()
        except InvalidToken:
            raise _no_key_fits() from None

    def renew(self, stored: bytes) -> bytes:
        """Return *stored* as it is under the newest key, for the same text.

        Raises ``ConfigurationError`` when no key fits.
        """
        try:
            return self._fernet.rotate(stored)
        except InvalidToken:
            raise _no_key_fits() from None

    def is_newest(self, stored: bytes) -> bool:
        """Return whether *stored* is under the newest key."""
        try:
            self._newest.decrypt(stored)
        except InvalidToken:
            return False
        return True

    def __repr__(self) -> str:
        return "Encryption(***)"


def _no_key_fits() -> ConfigurationError:
    return ConfigurationError(
        ["ENCRYPTION_KEYS is wrong: no key in it decrypts what is stored; add the key that was in use before"]
    )

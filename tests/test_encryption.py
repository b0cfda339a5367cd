from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from receiver.encryption import Encryption
from receiver.errors import ConfigurationError

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()

texts = st.text(st.characters(codec="utf-8"), max_size=200)


@given(text=texts)
def test_encrypted_text_is_decrypted(text: str) -> None:
    encryption = Encryption([NEW])
    assert encryption.decrypt(encryption.encrypt(text)) == text


@given(text=texts)
def test_newest_key_encrypts_and_older_keys_decrypt(text: str) -> None:
    rotating = Encryption([NEW, OLD])
    assert rotating.decrypt(Encryption([OLD]).encrypt(text)) == text
    assert Encryption([NEW]).decrypt(rotating.encrypt(text)) == text


def test_same_text_is_stored_differently_each_time() -> None:
    encryption = Encryption([NEW])
    assert encryption.encrypt("secret") != encryption.encrypt("secret")


def test_undecryptable_value_names_the_variable_to_fix() -> None:
    stored = Encryption([OLD]).encrypt("secret")
    with pytest.raises(ConfigurationError, match=r"^ENCRYPTION_KEYS is wrong") as wrong:
        Encryption([NEW]).decrypt(stored)
    assert NEW not in str(wrong.value)
    assert "secret" not in str(wrong.value)


@given(stored=st.binary(max_size=200))
def test_unencrypted_value_is_not_decrypted(stored: bytes) -> None:
    with pytest.raises(ConfigurationError):
        Encryption([NEW]).decrypt(stored)


def test_changed_bytes_are_noticed() -> None:
    stored = bytearray(Encryption([NEW]).encrypt("secret"))
    stored[20] ^= 1
    with pytest.raises(ConfigurationError):
        Encryption([NEW]).decrypt(bytes(stored))


def test_the_keys_do_not_show() -> None:
    shown = repr(Encryption([NEW, OLD]))
    assert NEW not in shown
    assert OLD not in shown


@given(text=texts)
def test_renewed_text_needs_only_the_newest_key(text: str) -> None:
    rotating = Encryption([NEW, OLD])
    old = Encryption([OLD]).encrypt(text)
    assert not rotating.is_newest(old)
    renewed = rotating.renew(old)
    assert rotating.is_newest(renewed)
    assert Encryption([NEW]).decrypt(renewed) == text


def test_text_that_no_key_decrypts_is_not_renewed() -> None:
    stored = Encryption([OLD]).encrypt("secret")
    assert not Encryption([NEW]).is_newest(stored)
    with pytest.raises(ConfigurationError, match=r"^ENCRYPTION_KEYS is wrong"):
        Encryption([NEW]).renew(stored)

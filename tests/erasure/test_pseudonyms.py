"""The pseudonym of an erased card holder cannot be found by trying references."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from receiver.erasure.pseudonyms import Pseudonyms

keys = st.binary(min_size=32, max_size=32)
texts = st.text(max_size=20)


@given(keys, texts, texts, st.binary(max_size=40))
def test_the_same_key_gives_the_same_pseudonym(key: bytes, organization: str, reference: str, plain: bytes) -> None:
    one, other = Pseudonyms(key), Pseudonyms(key)
    assert one.of(organization, reference) == other.of(organization, reference)
    assert one.fingerprint(plain) == other.fingerprint(plain)


@given(st.tuples(keys, keys).filter(lambda pair: pair[0] != pair[1]), texts, texts, st.binary(max_size=40))
def test_pseudonym_cannot_be_derived_without_the_key(
    pair: tuple[bytes, bytes], organization: str, reference: str, plain: bytes
) -> None:
    one, other = map(Pseudonyms, pair)
    assert one.of(organization, reference) != other.of(organization, reference)
    assert one.fingerprint(plain) != other.fingerprint(plain)


@given(keys, st.lists(st.tuples(texts, texts), min_size=2, max_size=2, unique=True))
def test_two_persons_never_share_a_pseudonym(key: bytes, persons: list[tuple[str, str]]) -> None:
    pseudonyms = Pseudonyms(key)
    assert len({pseudonyms.of(*person) for person in persons}) == 2

"""What is almost UTF-8 is repaired, everything else is left alone."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.json_text import repaired

ANY_TEXT = st.text(st.characters(codec=None) | st.characters(min_codepoint=0xD800, max_codepoint=0xDFFF))


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (b'\xef\xbb\xbf"a"', "a"),
        (rb'"\ud800"', "\ufffd"),
        (rb'"\uDC00x"', "\ufffdx"),
        (rb'"\ud800\u0041"', "\ufffdA"),
        (rb'"\ud83d\ude00"', "😀"),
        (rb'"\ud800\ud83d\ude00"', "\ufffd😀"),
        (rb'"\\ud800"', r"\ud800"),
        (b'"\xed\xa0\x80"', "\ufffd"),
        (b'"\xed\xa0\xbd\xed\xb8\x80"', "😀"),
    ],
)
def test_marks_and_lone_surrogates_are_repaired(text: bytes, meaning: str) -> None:
    assert msgspec.json.decode(repaired(text)) == meaning


@pytest.mark.parametrize("text", [b'"caf\xe9"', b"\xff\xfe", b"", b"{", '{"å€😀": "\\u00e5"}'.encode()])
def test_everything_else_is_left_alone(text: bytes) -> None:
    assert repaired(text) == text


@given(value=ANY_TEXT, escaped=st.booleans())
def test_any_text_can_be_read_after_repair(value: str, escaped: bool) -> None:  # noqa: FBT001
    text = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    whole = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert msgspec.json.decode(repaired(text)) == whole

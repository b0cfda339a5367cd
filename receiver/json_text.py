"""JSON texts that are almost UTF-8: a byte-order mark and lone surrogates, which strict decoders refuse. Pure."""

from __future__ import annotations

import codecs
import re
from typing import Final

_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", re.DOTALL
)
"""A pair of surrogates, or any other escape."""
_LONE: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_REPLACEMENT: Final = rb"\ufffd"


def repaired(text: bytes) -> bytes:
    """Return *text* without a byte-order mark, and with U+FFFD for each lone surrogate, whether escaped or encoded.

    Encoded pairs of surrogates become the characters that they encode. Text that is not UTF-8 for another reason is
    returned unchanged.
    """
    text = text.removeprefix(codecs.BOM_UTF8)
    try:
        units = text.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass")
    except UnicodeDecodeError:
        return text
    text = units.decode("utf-16", "replace").encode()
    return _ESCAPE.sub(lambda escape: _REPLACEMENT if _LONE.fullmatch(escape[0]) else escape[0], text)

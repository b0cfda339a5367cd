"""How CSV writes a cell, and what keeps a spreadsheet from taking it for a formula. Pure.

A merchant may be called ``=HYPERLINK(…)``. A spreadsheet runs that, so a text that begins like a formula gets a quote
in front, and so does one that begins with such a quote already: a program that reads the file removes one quote
to get the original text (``unquoted``). Numbers get no quote: ``-12.00`` is an amount.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_FORMULA: Final = re.compile(r"'*[=+\-@\t\r\n]")
_NEEDS_QUOTES: Final = re.compile(r'[",;\r\n]|^$|^\s|\s$')


def line(cells: Iterable[str | None], separator: str = ",") -> str:
    """Return a line of CSV (RFC 4180). Null is an empty cell, an empty text is ``""``.

    (Python's own writer distinguishes the two only from 3.12 on.)
    """
    return separator.join(map(cell, cells)) + "\r\n"


def cell(words: str | None) -> str:
    """Return one cell of CSV."""
    if words is None:
        return ""
    return '"' + words.replace('"', '""') + '"' if _NEEDS_QUOTES.search(words) else words


def quoted(words: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{words}" if _FORMULA.match(words) else words


def unquoted(words: str) -> str:
    """Return the text that ``quoted`` was given."""
    return words[1:] if words.startswith("'") and _FORMULA.match(words) else words

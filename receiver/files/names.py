"""Names that people can read and that any file system takes, whatever a merchant's name contains. Pure."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import date

LONGEST_PART: Final = 80
"""Bytes of UTF-8; three parts, a date and a suffix stay below the 255 that file systems take."""
_UNSAFE: Final = re.compile(r"[^\w.-]+")
_RESERVED: Final = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
"""What Windows takes for devices."""


def receipt_name(day: date | None, merchant: str | None, transaction_id: str, sha256: str, suffix: str) -> str:
    """Return the name of a receipt's file: when, where, which purchase, and a mark that distinguishes its receipts."""
    parts = (
        str(day or "undated"),
        readable(merchant or "") or "unknown",
        unique(transaction_id),
        sha256[:8],
    )
    return f"{'_'.join(parts)}.{suffix}"


def readable(words: str) -> str:
    """Return *words* as part of a name, without whatever a file system could take amiss; possibly empty."""
    kept = _UNSAFE.sub("-", unicodedata.normalize("NFC", words)).replace("..", ".")
    return kept.encode()[:LONGEST_PART].decode(errors="ignore").strip("-._")


def unique(words: str) -> str:
    """Return *words* as part of a name; what had to be changed gets a mark, so that different words stay different."""
    kept = readable(words)
    if kept and kept == words and not _RESERVED.fullmatch(words):
        return kept
    return f"{kept}-{hashlib.sha256(words.encode()).hexdigest()[:8]}".lstrip("-")

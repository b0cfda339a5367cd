"""The type of a file, from its bytes, and whether it is the announced one. Pure.

Receipts have one of a few types; a file of any other type is not stored. The bytes decide. The type that payload and
response announce counts for texts only: a text is accepted where a text was announced, and HTML where HTML was; where
another type was announced, a text is an error page. A page that asks for a password is never stored.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from receiver.errors import DownloadError
from receiver.opencard.failures import HTML, media_type

if TYPE_CHECKING:
    from collections.abc import Iterable

PDF_WITHIN: Final = 1024
"""A PDF may have something before its header; readers look so far."""
SIGNATURES: Final[tuple[tuple[str, re.Pattern[bytes]], ...]] = (
    ("pdf", re.compile(rb".{0,%d}?%%PDF-" % (PDF_WITHIN - 5), re.DOTALL)),
    ("png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("jpg", re.compile(rb"\xff\xd8\xff")),
    ("gif", re.compile(rb"GIF8[79]a")),
    ("webp", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ("heic", re.compile(rb"....ftyp(?:hei[cmsx]|hev[cmsx]|mif1|msf1)", re.DOTALL)),
    ("tif", re.compile(rb"II\*\0|MM\0\*")),
)
"""Suffix → how such a file begins."""
TEXTS: Final = frozenset({"html", "xml", "json", "txt"})
_BEFORE: Final = rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)*"
_HTML: Final = re.compile(
    _BEFORE + rb"(?:<\?xml.*?\?>\s*)?<(?:!doctype\s+html|html|head|body|table|div)\b", re.IGNORECASE | re.DOTALL
)
_XML: Final = re.compile(_BEFORE + rb"<[?!\w]", re.DOTALL)
_JSON: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*[\[{]")
_WIDE: Final = (b"\xff\xfe", b"\xfe\xff")
"""How a text of UTF-16 begins."""
_NO_TEXT: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_PASSWORD: Final = re.compile(rb"<input\b[^>]*\btype\s*=\s*[\"']?password\b", re.IGNORECASE)
XML: Final = frozenset({"text/xml", "application/xml"})
_SAYS_NOTHING: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})


def kind_of(head: bytes) -> str | None:
    """Return what a file that begins with *head* is, as the suffix of its name; ``None`` for what is not kept."""
    for suffix, begins in SIGNATURES:
        if begins.match(head):
            return suffix
    if head.startswith(_WIDE):
        return "txt"
    if not head or _NO_TEXT.search(head):
        return None
    for suffix, pattern in (("html", _HTML), ("xml", _XML), ("json", _JSON)):
        if pattern.match(head):
            return suffix
    return "txt"


def accept(head: bytes, *, announced: Iterable[str | None]) -> str:
    """Return the suffix of a file that begins with *head*.

    *announced*: what was said of its type, the event's word before the answer's; the first that says anything counts.
    Raises ``DownloadError``: the right file may be there the next time.
    """
    if not head:
        raise DownloadError("the file is empty")
    announced_type = next((word for word in map(media_type, announced) if word not in _SAYS_NOTHING), "")
    kind = kind_of(head)
    if kind is None:
        raise DownloadError(
            f"the file is of a kind that is not kept{f'; announced was {announced_type}' if announced_type else ''}"
        )
    if kind in TEXTS and not _is_text(announced_type):
        raise DownloadError(f"a text ({kind}) came where {announced_type or 'no text'} was announced")
    if kind == "html" and announced_type not in HTML | XML:
        raise DownloadError(
            f"an HTML page arrived where {announced_type} was announced: OpenCard refuses a download that way"
        )
    if kind == "html" and _PASSWORD.search(head):
        raise DownloadError("a login page arrived instead of the file")
    return kind


def _is_text(announced_type: str) -> bool:
    return announced_type.startswith("text/") or announced_type.endswith(("json", "xml"))

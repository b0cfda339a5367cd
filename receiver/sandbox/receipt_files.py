"""The files of receipts and signed TPAs: what is in each, and its URL. Pure: all follows from a file's name.

**Open** in the contract, and so a guess: where a TPA's document is. It is next to the receipts, its URL never expires,
and a token that may read TPAs opens it.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import zlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from datetime import datetime

PATH: Final = "/files/receipts/"
"""Their path at OpenCard's own host."""
TPA_PATH: Final = "/files/tpas/"
"""Where the documents of signed TPAs are."""
RECEIPTS_LIVE: Final = timedelta(days=7)
"""How long the URLs of receipts work, by the clock."""
MEDIA_TYPES: Final = {"pdf": "application/pdf", "png": "image/png", "html": "text/html"}
"""Suffix → media type."""
_SIGNING_KEY: Final = b"the sandbox signs the URLs of its files with this"


@dataclass(frozen=True, slots=True)
class FilesAt:
    """Where a story's receipts can be downloaded, and until when."""

    base_url: str
    expires_at: datetime
    """Aware; the same for all."""

    def signed_fields(self, url: str) -> dict[str, object]:
        """Return the fields of a receipt whose payload had *url*."""
        return {
            "url": signed_url(self.base_url, name_in(url), self.expires_at),
            "expiration_time": f"{self.expires_at:%Y-%m-%d %H:%M:%S}",
        }

    def tpa_url(self, tpa_id: str) -> str:
        """Return the URL of the document of a signed TPA."""
        return f"{self.base_url}{TPA_PATH}{tpa_id}.pdf"


def signed_url(base_url: str, name: str, expires_at: datetime) -> str:
    """Return the URL of the file *name*, which says itself until when it works."""
    expires = int(expires_at.timestamp())
    return f"{base_url}{PATH}{name}?expires={expires}&signature={signature(name, str(expires))}"


def signature(name: str, expires: str) -> str:
    """Return what proves that a URL was made by this OpenCard."""
    return hmac.new(_SIGNING_KEY, f"{name} {expires}".encode(), hashlib.sha256).hexdigest()


def name_in(url: str) -> str:
    """Return the file's name in its URL."""
    return urlsplit(url).path.rpartition("/")[2]


def receipt_file(name: str) -> bytes:
    """Return the file *name*: another one for each name, and of the kind that its suffix says. Raises ``KeyError``."""
    number, _, suffix = name.rpartition(".")
    return {"pdf": _pdf, "png": _png, "html": _html}[suffix](f"Receipt {number}")


def tpa_document(name: str) -> bytes:
    """Return the signed document *name*. Raises ``KeyError`` for what is no PDF."""
    number, _, suffix = name.rpartition(".")
    return {"pdf": _pdf}[suffix](f"TPA {number}")


def _html(words: str) -> bytes:
    return f"<!doctype html>\n<html><head><title>{words}</title></head><body><h1>{words}</h1></body></html>\n".encode()


def _png(words: str) -> bytes:
    """Return one grey pixel, with *words* in a text chunk."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
        (b"tEXt", b"Title\0" + words.encode("latin-1")),
        (b"IDAT", zlib.compress(b"\0\x80")),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, content) for kind, content in parts)


def _pdf(words: str) -> bytes:
    """Return a page with *words* on it."""
    drawing = f"BT /F1 18 Tf 40 40 Td ({words}) Tj ET".encode("latin-1")
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 480 99] /Contents 4 0 R /Resources <</Font <</F1 5 0 R>>>> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawing), drawing),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    )
    written, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(written))
        written += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    ending = (
        b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
        + b"trailer\n<< /Size %d /Root 1 0 R >>\n" % (len(objects) + 1)
        + b"startxref\n%d\n%%%%EOF\n" % len(written)
    )
    return written + ending

"""The kind of a file follows from its bytes; the announced type only distinguishes receipts from error pages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import DownloadError
from receiver.files.kinds import TEXTS, accept, kind_of
from receiver.sandbox.receipt_files import receipt_file

BEGINNINGS = {
    "pdf": [receipt_file("1.pdf"), b"%PDF-1.7\n", b"\xef\xbb\xbf\n%PDF-1.4", b" " * 1019 + b"%PDF-"],
    "png": [receipt_file("1.png")],
    "jpg": [b"\xff\xd8\xff\xe0\0\x10JFIF", b"\xff\xd8\xff\xe1..Exif"],
    "gif": [b"GIF87a....", b"GIF89a...."],
    "webp": [b"RIFF\0\n\0\0WEBPVP8 "],
    "heic": [b"\0\0\0\x18ftypheic", b"\0\0\0\x18ftypmif1"],
    "tif": [b"II*\0\x08", b"MM\0*\0"],
    "html": [
        receipt_file("1.html"),
        b"<html>",
        b"\xef\xbb\xbf \n<!-- kassa 4 -->\n<!DOCTYPE  html>",
        b"<?xml version='1.0'?>\n<html xmlns='http://www.w3.org/1999/xhtml'>",
        b"<TABLE><tr>",
    ],
    "xml": [b"<?xml version='1.0'?><Invoice>", b"<svg xmlns='x'>", b"\n<Receipt>"],
    "json": [b'{"total": 1}', b"  [1]", b"\xef\xbb\xbf{}"],
    "txt": [
        "Kvitto: 12,50 kr åäö".encode(),
        "Kvitto åäö".encode("latin-1"),
        "Kvitto".encode("utf-16"),
        b"\x1b@Total\r\n\f",
    ],
}
FOREIGN = [
    b"MZ\x90\0\x03",
    b"\x7fELF\x02",
    b"PK\x03\x04",
    b"\0",
    b"Kvitto\0",
    b"RIFF\0\0\0\0WAVE",
    b"\0\0\0\x18ftypisom",
    b" " * 1020 + b"%PDF-\0",
]
EACH = [(kind, head) for kind, heads in BEGINNINGS.items() for head in heads]


@pytest.mark.parametrize(("kind", "head"), EACH)
def test_each_kind_of_receipt_is_known_by_its_beginning(kind: str, head: bytes) -> None:
    assert kind_of(head) == kind


@pytest.mark.parametrize("head", FOREIGN)
@pytest.mark.parametrize("announced", ["application/pdf", "text/plain", None])
def test_other_content_is_refused_whatever_its_announced_type(head: bytes, announced: str | None) -> None:
    with pytest.raises(DownloadError, match="of a kind that is not kept"):
        accept(head, announced=(announced, announced))


@pytest.mark.parametrize(("kind", "head"), [each for each in EACH if each[0] not in TEXTS])
@pytest.mark.parametrize(
    "announced", ["application/pdf", "image/png", "text/html", "application/octet-stream", "", None]
)
def test_a_picture_or_a_pdf_is_taken_whatever_was_announced(kind: str, head: bytes, announced: str | None) -> None:
    assert accept(head, announced=(announced, "text/html; charset=utf-8")) == kind


@pytest.mark.parametrize(("kind", "head"), [each for each in EACH if each[0] in TEXTS])
def test_text_is_accepted_only_where_one_was_announced(kind: str, head: bytes) -> None:
    if kind != "html":
        assert accept(head, announced=("text/plain", None)) == kind
    assert accept(head, announced=("Text/HTML; charset=utf-8", "application/pdf")) == kind
    assert accept(head, announced=(None, "application/xhtml+xml")) == kind
    assert accept(head, announced=("application/octet-stream", "application/xml")) == kind
    for announced in (("application/pdf", "text/html"), ("image/png", "text/plain"), (None, None), ("", "image/gif")):
        with pytest.raises(DownloadError, match=r"a text \(.*\) came where .* was announced"):
            accept(head, announced=announced)


@pytest.mark.parametrize("announced", ["text/plain", "application/json"])
def test_html_is_refused_where_another_text_was_announced(announced: str) -> None:
    with pytest.raises(DownloadError, match="an HTML page arrived where"):
        accept(b"<!doctype html><p>Sign in</p>", announced=(announced, "text/html"))


@pytest.mark.parametrize(
    "field",
    [b'<input type="password">', b"<INPUT id=p name='p' Type = 'password'/>", b"<input type=password required>"],
)
def test_a_login_page_is_refused_though_html_was_announced(field: bytes) -> None:
    page = b"<!DOCTYPE html><html><head>" + b"<style>p {}</style>" * 1000 + b"</head><form>" + field + b"</form></html>"
    with pytest.raises(DownloadError, match="a login page arrived"):
        accept(page, announced=("text/html", "text/html"))


def test_an_empty_file_is_no_receipt() -> None:
    with pytest.raises(DownloadError, match="the file is empty"):
        accept(b"", announced=("text/plain",))


@given(st.binary(max_size=4096))
def test_any_bytes_are_of_one_kind_or_of_none(head: bytes) -> None:
    assert kind_of(head) in {None, *BEGINNINGS}

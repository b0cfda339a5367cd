"""Requests that no honest client sends, byte by byte against gunicorn: lengths in doubt, huge heads, broken lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.security.conftest import genuine, request, statuses
from tests.support.factories import body, snapshot

if TYPE_CHECKING:
    from tests.conftest import Acme
    from tests.security.conftest import WebUnderAttack

EVENT = "card.transaction.authorized"
CONTENT = body(snapshot("authorized"))


def chunked(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)


CONFLICTS = {
    "a length and chunks": {"Content-Length": "5", "Transfer-Encoding": "chunked"},
    "chunks and a length": {"Transfer-Encoding": "chunked", "Content-Length": "5"},
    "a length with a sign": {"Content-Length": "+5"},
    "a length below nothing": {"Content-Length": "-1"},
    "a length in words": {"Content-Length": "five"},
    "a length with an underscore": {"Content-Length": "1_0"},
    "a length in hexadecimal": {"Content-Length": "0x5"},
    "two lengths in one": {"Content-Length": "5, 6"},
    "chunks that are not the last coding": {"Transfer-Encoding": "chunked, identity"},
    "chunks twice": {"Transfer-Encoding": "chunked, chunked"},
    "a coding that nobody knows": {"Transfer-Encoding": "xchunked"},
    "a coding behind a tabulator": {"Transfer-Encoding": "\tchunked\x0b"},
    "a header with a space before its colon": {"Content-Length ": "5"},
    "a name with an underscore for a length": {"Content_Length": "5", "Content-Length": "x"},
}


@pytest.mark.parametrize("headers", CONFLICTS.values(), ids=CONFLICTS.keys())
def test_ambiguous_length_smuggles_no_other_request(acme: Acme, web: WebUnderAttack, headers: dict[str, str]) -> None:
    """The hidden one is genuine, so were it seen, it would be stored."""
    hidden = genuine(acme, CONTENT)
    outer = request(acme.path, {"Content-Type": "application/json", "X-Event": EVENT, **headers}, b"0\r\n\r\n" + hidden)
    answers = statuses(web.send(outer))
    assert len(answers) <= 1
    assert set(answers) <= {400, 401, 411, 413}
    assert acme.statuses() == []


@pytest.mark.parametrize("coding", ["gzip, chunked", "xchunked", "identity", "c"])
def test_unknown_transfer_coding_is_answered_400(acme: Acme, web: WebUnderAttack, coding: str) -> None:
    headers = {**acme.registration.headers(EVENT, CONTENT), "Transfer-Encoding": coding}
    assert statuses(web.send(request(acme.path, headers, CONTENT)))[:1] == [400]
    assert acme.statuses() == []


def test_two_different_lengths_are_refused(acme: Acme, web: WebUnderAttack) -> None:
    one = genuine(acme, CONTENT)
    two = one.replace(b"Content-Length:", b"Content-Length: 5\r\nContent-Length:", 1)
    assert statuses(web.send(two)) == [400]
    assert acme.statuses() == []


@pytest.mark.parametrize(
    "head",
    [
        b"POST %s HTTP/1.1\nHost: receiver\nContent-Length: 0\n\n",
        b"POST %s HTTP/1.1\r\nHost: receiver\r\nX-Event: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
        b"POST %s HTTP/1.1\r\nHost: receiver\r\nX-Event: a\rb\r\nContent-Length: 0\r\n\r\n",
        b"POST %s HTTP/1.1\r\nHost: receiver\r\nX-\0Event: a\r\nContent-Length: 0\r\n\r\n",
        b"POST %s HTTP/9.9\r\nHost: receiver\r\n\r\n",
        b"POST %s\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET " + b"/" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"\r\n" * 1000,
        b"\0" * 10_000,
    ],
)
def test_heads_that_are_none_are_refused_and_the_next_is_taken(acme: Acme, web: WebUnderAttack, head: bytes) -> None:
    content = head % acme.path.encode() if b"%s" in head else head
    assert set(statuses(web.send(content))) <= {400, 401, 404, 405, 414, 431, 505}
    assert acme.statuses() == []
    assert statuses(web.send(genuine(acme, CONTENT))) == [200]


HUGE = {
    "one header of a megabyte": {"X-Huge": "x" * 1024 * 1024},
    "10,000 headers": {f"X-{number}": "x" for number in range(10_000)},
    "a signature of a megabyte": {"X-Data-Signature": "0" * 1024 * 1024},
    "credentials of a megabyte": {"Authorization": "Basic " + "QQ==" * 256 * 1024},
    "an event of a megabyte": {"X-Event": "e" * 1024 * 1024},
}


@pytest.mark.parametrize("headers", HUGE.values(), ids=HUGE.keys())
def test_huge_heads_are_refused_and_the_next_is_taken(acme: Acme, web: WebUnderAttack, headers: dict[str, str]) -> None:
    answers = statuses(web.send(request(acme.path, {"Content-Type": "application/json", **headers}, CONTENT)))
    assert set(answers) <= {400, 431}, answers
    assert acme.statuses() == []
    assert statuses(web.send(genuine(acme, CONTENT))) == [200]


def test_a_compressed_body_is_not_unpacked(acme: Acme, web: WebUnderAttack) -> None:
    """The received bytes are stored as they are; they are not decompressed here."""
    assert statuses(web.send(genuine(acme, CONTENT, **{"Content-Encoding": "gzip"}))) == [200]
    assert acme.value("SELECT body FROM receiver.deliveries") == CONTENT


def test_chunks_with_extensions_and_trailers_smuggle_nothing(acme: Acme, web: WebUnderAttack) -> None:
    headers = {**acme.registration.headers(EVENT, CONTENT), "Transfer-Encoding": "chunked"}
    size = b"%x" % len(CONTENT)
    with_extension = request(acme.path, headers, chunked(CONTENT).replace(size, size + b";a=b", 1))
    with_trailer = request(acme.path, headers, chunked(CONTENT)[:-2] + b"X-Event: tpa.signed\r\n\r\n")
    assert set(statuses(web.send(with_extension))) <= {200, 400}
    assert set(statuses(web.send(with_trailer))) <= {200, 400}
    assert {row["event"] for row in acme.rows("SELECT event FROM receiver.deliveries")} <= {EVENT}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "OPTIONS", "get", "P\u00d6ST"])
def test_no_other_method_stores_anything(acme: Acme, web: WebUnderAttack, method: str) -> None:
    headers = acme.registration.headers(EVENT, CONTENT)
    assert set(statuses(web.send(request(acme.path, headers, CONTENT, method=method)))) <= {200, 400, 405}
    assert acme.statuses() == []

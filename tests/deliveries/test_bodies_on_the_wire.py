"""Bodies as gunicorn hands them out: announced, chunked, too long, broken off."""

from __future__ import annotations

import json
import socket
from contextlib import closing, suppress
from dataclasses import dataclass
from http.client import HTTPResponse
from io import BytesIO
from typing import TYPE_CHECKING, NoReturn

import pytest

from receiver.sandbox.embedded import free_port
from receiver.sandbox.processes import ProcfileProcesses, local_environment, wait_until_ready
from receiver.webhooks.credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Acme, Organizations

LIMIT = 1000
ENOUGH_TIME = 10.0
WITHOUT_SIGNATURE = {"X-Data-Signature"}
BASIC = Credentials(basic_username="opencard", basic_password="the-password")


@dataclass
class RawAnswer:
    status: int
    body: object


@dataclass
class Wire:
    """Speaks HTTP byte by byte to a web process of its own."""

    port: int

    def send(self, head: list[str], content: bytes) -> RawAnswer:
        """Send a request, say that nothing more will come, and return the answer."""
        with closing(socket.create_connection(("127.0.0.1", self.port), timeout=ENOUGH_TIME)) as connection:
            connection.sendall("\r\n".join([*head, "Host: receiver", "Connection: close", "", ""]).encode("latin-1"))
            with suppress(OSError):  # it may have answered and hung up by now; the answer can be read all the same
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
            response = HTTPResponse(connection)
            response.begin()
            return RawAnswer(response.status, json.loads(response.read()))


@pytest.fixture(scope="module")
def wire(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    port = free_port()
    given = local_environment(
        database_url=environment["DATABASE_URL"],
        redis_url=environment["REDIS_URL"],
        port=port,
        encryption_key=environment["ENCRYPTION_KEYS"],
    )
    given |= {"WEB_CONCURRENCY": "1", "MAX_BODY_BYTES": str(LIMIT)}
    with ProcfileProcesses(given, tmp_path_factory.mktemp("web")) as processes:
        processes.start("web")
        wait_until_ready(given["PUBLIC_URL"], processes)
        yield Wire(port)


@pytest.fixture
def acme(organizations: Organizations) -> Acme:
    """Its deliveries are proven by credentials alone, so that only the receiver can notice a body that is cut off."""
    return organizations.adopt("acme", BASIC)


def head(acme: Acme, *more: str) -> list[str]:
    headers = acme.registration.headers("tpa.signed", b"")
    kept = [f"{name}: {value}" for name, value in headers.items() if name not in WITHOUT_SIGNATURE]
    return [f"POST {acme.path} HTTP/1.1", *kept, *more]


def chunks(content: bytes, *, size: int = 100) -> bytes:
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


def bodies(acme: Acme) -> list[bytes]:
    return [row["body"] for row in acme.rows("SELECT body FROM receiver.deliveries ORDER BY id")]


CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize("length", [0, 1, LIMIT - 1, LIMIT])
def test_announced_and_chunked_bodies_are_taken_up_to_the_limit(acme: Acme, wire: Wire, length: int) -> None:
    content = b"x" * length
    assert wire.send(head(acme, f"Content-Length: {length}"), content) == RawAnswer(200, {})
    assert wire.send(head(acme, CHUNKED), chunks(content) + b"0\r\n\r\n") == RawAnswer(200, {})
    assert bodies(acme) == [content, content]


@pytest.mark.parametrize("length", [LIMIT + 1, 50 * LIMIT])
def test_bodies_beyond_the_limit_are_refused_also_chunked(acme: Acme, wire: Wire, length: int) -> None:
    content = b"x" * length
    assert wire.send(head(acme, f"Content-Length: {length}"), b"").status == 413
    assert wire.send(head(acme, CHUNKED), chunks(content, size=LIMIT) + b"0\r\n\r\n").status == 413
    assert bodies(acme) == []


@pytest.mark.parametrize("sent", [b"", b"x" * 99], ids=["nothing", "all but one byte"])
def test_a_body_that_ends_before_its_content_length_is_refused(acme: Acme, wire: Wire, sent: bytes) -> None:
    answer = wire.send(head(acme, "Content-Length: 100"), sent)
    assert answer == RawAnswer(400, {"error": "the body ended too early"})
    assert bodies(acme) == []


@pytest.mark.parametrize("sent", [chunks(b"x" * 150), b"64\r\nxxx", b""], ids=["no last chunk", "in a chunk", "empty"])
def test_a_chunked_body_that_is_broken_off_is_refused(acme: Acme, wire: Wire, sent: bytes) -> None:
    assert wire.send(head(acme, CHUNKED), sent).status == 400
    assert bodies(acme) == []


@pytest.mark.parametrize(
    "sent",
    [b"zz\r\nxxx\r\n0\r\n\r\n", b"3\r\nxxxx\r\n0\r\n\r\n", b"3\r\nxxx\r\n0\r\n"],
    ids=["no length", "wrong length", "no end"],
)
def test_chunks_that_cannot_be_read_are_refused(acme: Acme, wire: Wire, sent: bytes) -> None:
    assert wire.send(head(acme, CHUNKED), sent) == RawAnswer(400, {"error": "the chunks of the body cannot be read"})
    assert bodies(acme) == []


def test_non_ascii_credentials_are_refused_like_wrong_ones(acme: Acme, wire: Wire) -> None:
    wrong = [line for line in head(acme, "Content-Length: 2") if not line.startswith("Authorization")]
    assert wire.send([*wrong, "Authorization: Basic \u00e9\u00ff"], b"{}").status == 401
    assert wire.send([*head(acme, "Content-Length: 2"), "X-Data-Signature: \u00e9\u00ff"], b"{}").status == 401
    assert bodies(acme) == []


class NeverRead(BytesIO):
    """A body that must not be read."""

    def read(self, _size: int | None = -1, /) -> NoReturn:
        raise AssertionError("the body was read")

    def readinto(self, _buffer: object, /) -> NoReturn:
        raise AssertionError("the body was read")


def test_too_large_content_length_is_refused_without_reading(acme: Acme) -> None:
    response = acme.deliver(
        "tpa.signed",
        b"",
        environ_overrides={"wsgi.input": NeverRead(), "CONTENT_LENGTH": str(1024 * 1024 + 1)},
    )
    assert response.status_code == 413
    assert acme.statuses() == []


def test_an_unknown_endpoint_reads_no_body(acme: Acme) -> None:
    response = acme.client.post(
        "/hooks/opencard/" + "k" * 43, environ_overrides={"wsgi.input": NeverRead(), "CONTENT_LENGTH": "100"}
    )
    assert response.status_code == 404

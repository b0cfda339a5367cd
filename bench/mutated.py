"""``python -m bench.mutated``: send mutated requests to a real web process; none may be answered 5xx.

Seed and number decide each request, except the endpoint's key and the secrets.
"""

from __future__ import annotations

import random
import socket
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import click

from bench import common
from receiver.cli.output import counted, print_rows, progress_bar
from receiver.progress import Progress
from receiver.sandbox.local import ORGANIZATIONS, local_servers
from receiver.sandbox.processes import ProcfileProcesses, wait_until_ready
from receiver.sandbox.story import make_story

if TYPE_CHECKING:
    from collections.abc import Sequence

    from receiver.sandbox.registration import Registration
    from receiver.sandbox.story_events import StoryEvent

CONNECTIONS: Final = 16
SECONDS: Final = 30.0
"""Within which each request has to be answered, or its connection ended."""
MAX_SHOWN: Final = 10
NO_PROGRESS: Final = Progress()
MAX_MUTATIONS: Final = 6
PIECES: Final = (
    *(b"\0", b"\r\n", b"\r\n\r\n", b"\n", b" ", b"\t", b":", b"%00", b"%2e%2e/", b"?challenge=a", b"//", b"#", b"\xff"),
    *(b"GET", b"PUT", b"HEAD", b"OPTIONS", b"TRACE", b"CONNECT", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9.9"),
    *(
        b"Content-Length: 0\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 99999999999\r\n",
        b"Content-Length: 1\r\n",
    ),
    *(
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Expect: 100-continue\r\n",
        b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    ),
    *(b"Content-Encoding: gzip\r\n", b"Content-Type: text/plain\r\n", b"X-Event: card.frozen\r\n", b"X-Version: 2\r\n"),
    *(
        b"X-Event: \xe9\xff\r\n",
        b"X-Request-ID: a\r\n",
        b"Authorization: Basic ====\r\n",
        b"Authorization: Bearer a.b.c\r\n",
    ),
    *(b"Host: a, b\r\n", b"X-Forwarded-For: ,,\r\n", b"X-Forwarded-Host: \r\n", b"X-Forwarded-Proto: \xff\r\n"),
    *(
        b"Cookie: session=.\r\n",
        b"Range: bytes=0-\r\n",
        b"ffffffffffffffff\r\n",
        b"0\r\n\r\n",
        b"{",
        b"}",
        b'"',
        b"\\u0000",
    ),
    *(b"\\ud800", b"null", b"1e999", b"-0", b"[" * 2000, b"A" * 9000, b"9" * 5000, b"\xed\xa0\x80", b"\xef\xbb\xbf"),
)


@dataclass
class Found:
    """What the web process answered."""

    statuses: Counter[str] = field(default_factory=Counter)
    """Status, ``ended`` without an answer, or ``hung`` → how many requests."""
    wrong: list[bytes] = field(default_factory=list)
    """The requests that were answered 5xx, or hung."""


def mutated(sent: Sequence[StoryEvent], registration: Registration, seed: int, number: int) -> bytes:
    """Return a request: in half of them the body is mutated before it is signed, in half the whole request after."""
    rng = random.Random(f"{seed}:{number}")  # noqa: S311 - to be repeated
    one = rng.choice(sent)
    event, body = one.event, one.payload
    if rng.random() < 0.5:
        return request(registration, event, _mutate(rng, body))
    whole = request(registration, event, body, challenge=rng.random() < 0.1)
    return _mutate(rng, whole)


def request(registration: Registration, event: str, body: bytes, *, challenge: bool = False) -> bytes:
    """Return what OpenCard would send."""
    path = urlsplit(registration.url).path
    if challenge:
        asked = f"GET {path}?challenge=abcdefghij0123456789 HTTP/1.1"
        return f"{asked}\r\nHost: receiver\r\nX-Event: challenge\r\n\r\n".encode()
    headers = {"Host": "receiver", "Content-Length": str(len(body)), **registration.headers(event, body)}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _mutate(rng: random.Random, content: bytes) -> bytes:
    for _ in range(rng.randint(1, MAX_MUTATIONS)):
        # a request is mostly body, and what decides is in its head
        at = rng.randrange(min(len(content), rng.choice((100, 600, len(content)))) + 1) if content else 0
        length = rng.choice((1, 1, 2, 8, 64))
        before, cut, after = content[:at], content[at : at + length], content[at + length :]
        match rng.randrange(6):
            case 0:
                cut = bytes(byte ^ (1 << rng.randrange(8)) for byte in cut)
            case 1:
                cut = b""
            case 2:
                cut += cut
            case 3:
                cut = rng.choice(PIECES) + cut
            case 4:
                end = before.rfind(b"\n") + 1  # a separate line
                before, cut = before[:end], rng.choice(PIECES) + before[end:] + cut
            case _:
                cut, after = (cut, b"") if rng.random() < 0.2 else (rng.randbytes(length), after)
        content = before + cut + after
    return content


def send(port: int, content: bytes, source: str) -> list[str]:
    """Send *content* over a separate connection, and return the status of each answer; see ``Found``."""
    answer = bytearray()
    try:
        with closing(socket.create_connection(("127.0.0.1", port), timeout=SECONDS, source_address=(source, 0))) as way:
            try:
                way.sendall(content)
                way.shutdown(socket.SHUT_WR)
                while received := way.recv(65536):
                    answer += received
            except TimeoutError:
                return ["hung"]
            except OSError:
                pass  # it hung up while we were still talking: what was answered by then counts
    except OSError:
        return ["no connection"]
    lines = bytes(answer).split(b"\r\n")
    return [line[9:12].decode("latin-1") for line in lines if line.startswith(b"HTTP/1.")] or ["ended"]


def send_all(
    port: int, registration: Registration, *, number: int, seed: int, progress: Progress = NO_PROGRESS
) -> Found:
    """Send so many mutated requests to the web process on *port*."""
    sent = make_story(seed=seed, organizations=ORGANIZATIONS[:1], purchases=100).events
    progress.total(number)
    found = Found()

    def one(count: int) -> tuple[bytes, list[str]]:
        content = mutated(sent, registration, seed, count)
        source = f"127.0.{1 + count // 250 % 250}.{1 + count % 250}"  # else the ports of one address run out
        return content, send(port, content, source)

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        for content, statuses in threads.map(one, range(number)):
            found.statuses.update(statuses)
            if any(status.startswith("5") or status in {"hung", "no connection"} for status in statuses):
                found.wrong.append(content)
            progress.advance()
    return found


@click.command()
@click.option("--number", type=click.IntRange(min=1), default=200_000, show_default=True, help="How many requests.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed repeats the run.")
def main(number: int, seed: int) -> None:
    """Send mutated requests to a web process as the Procfile runs it; exit 0 if none was answered 5xx or hung."""
    with (
        local_servers("mutated") as servers,
        ProcfileProcesses(servers.environment, servers.folder / "logs") as processes,
    ):
        registration = common.register(servers)
        processes.start("web")
        wait_until_ready(servers.settings.public_url, processes)
        with progress_bar() as progress:
            found = send_all(servers.settings.port, registration, number=number, seed=seed, progress=progress)
        rows = [{"answer": answer, "requests": times} for answer, times in sorted(found.statuses.items())]
        print_rows(rows, {"answer": "answer", "requests": "requests"}, empty="nothing was sent")
        for each in found.wrong[:MAX_SHOWN]:
            click.echo(f"wrong: {each[:2000]!r}")
    click.echo(f"{counted(len(found.wrong), 'request')} of {number} answered 5xx or not at all (seed {seed})")
    sys.exit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()

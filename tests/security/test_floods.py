"""Garbage faster than it can be answered: nothing of it is stored, it holds no memory, genuine ones get through."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from tests.security.conftest import MEBIBYTE, genuine, request, statuses
from tests.support.factories import body, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Acme
    from tests.security.conftest import WebUnderAttack

pytestmark = pytest.mark.long

CONNECTIONS = 16
REQUESTS = 600
"""That each attacker sends."""
PER_CONNECTION = 50
GROWTH = 128 * MEBIBYTE
EVENT = "card.transaction.authorized"


def garbage(acme: Acme) -> list[bytes]:
    """Return the requests of an attacker who knows the URL and nothing else."""
    headers = {"Content-Type": "application/json", "X-Event": EVENT, "X-Data-Signature": "0" * 64}
    return [
        request(acme.path, headers, b"{}"),
        request(acme.path, headers, b"x" * 10_000),
        request("/hooks/opencard/" + "k" * 43, headers, b"{}"),
        request("/hooks/oauth/token", {"Content-Type": "application/x-www-form-urlencoded"}, b"grant_type=x"),
        request("/ops/../../etc/passwd", {}, method="GET"),
        request("/metrics?" + "a" * 1000, {}, method="GET"),
    ]


def flood(web: WebUnderAttack, requests: list[bytes], answered: list[int]) -> None:
    """Send one request after the other as fast as they are answered, on one connection as long as it is left open."""
    pending = iter(requests * REQUESTS)
    for _ in range(0, REQUESTS, PER_CONNECTION):
        with suppress(ConnectionError), closing(web.connect()) as connection:
            for content in islice(pending, PER_CONNECTION):
                connection.sendall(content)
                answer = connection.recv(65536)
                if not answer:
                    break  # it may hang up
                answered += statuses(answer)


def deliveries(acme: Acme) -> Iterator[bytes]:
    number = 0
    while True:
        number += 1
        yield genuine(acme, body(snapshot("authorized", transaction=f"transaction-{number}")), Connection="close")


def test_a_flood_of_garbage_keeps_no_genuine_delivery_out(acme: Acme, web: WebUnderAttack) -> None:
    assert statuses(web.send(genuine(acme, body(snapshot("authorized"))))) == [200]
    before = web.memory()
    answered: list[int] = []
    attackers = [
        threading.Thread(target=flood, args=(web, garbage(acme), answered), name=f"attacker-{number}")
        for number in range(CONNECTIONS)
    ]
    for attacker in attackers:
        attacker.start()
    taken = 1
    sent = deliveries(acme)
    while any(attacker.is_alive() for attacker in attackers):
        assert statuses(web.send(next(sent))) == [200]
        taken += 1
    for attacker in attackers:
        attacker.join()
    assert len(answered) > CONNECTIONS * REQUESTS / 10, "the flood did not get through at all"
    assert not {status for status in answered if status >= 500}
    assert acme.value("SELECT count(*) FROM receiver.deliveries") == taken
    assert web.memory() < before + GROWTH


def test_parallel_large_bodies_are_bounded_by_the_limit(acme: Acme, web: WebUnderAttack) -> None:
    """Each connection may have one body of at most a mebibyte in memory, and a process has few at a time."""
    before = web.memory()
    wrong = request(acme.path, {"Content-Type": "application/json", "X-Event": EVENT}, b"x" * MEBIBYTE)
    chunked = request(
        acme.path,
        {"Content-Type": "application/json", "X-Event": EVENT, "Transfer-Encoding": "chunked"},
        b"".join(b"100000\r\n" + b"x" * MEBIBYTE + b"\r\n" for _ in range(8)),
    )

    with ThreadPoolExecutor(CONNECTIONS) as senders:
        answers = list(senders.map(web.send, [wrong, chunked] * 4 * CONNECTIONS))
    assert {status for answer in answers for status in statuses(answer)} <= {400, 401, 413}
    assert web.memory() < before + GROWTH
    assert acme.statuses() == []

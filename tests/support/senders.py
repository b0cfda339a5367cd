"""A steady stream of signed deliveries to a proxy, and how each was answered."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from receiver.sandbox.embedded import LOOPBACK
from tests.support.factories import body, card_holder
from tests.support.web_process import EVENT, SECONDS

if TYPE_CHECKING:
    from contextlib import ExitStack

    from receiver.sandbox.registration import Registration

KEPT = 100
"""Deliveries over a connection that is kept."""


def post(connection: HTTPConnection, registration: Registration, reference_id: str) -> None:
    """Send a delivery; its answer is still to be read."""
    content = body(card_holder(reference_id))
    path = urlsplit(registration.url).path
    connection.request("POST", path, content, registration.headers(EVENT, content))


class Senders:
    """Deliver until the block ends, half of them over connections that they keep; each card holder once."""

    def __init__(self, registration: Registration, port: int, stack: ExitStack, *, number: int = 8) -> None:
        self.answers: Counter[int | str] = Counter()
        self.sent: set[str] = set()
        self._registration = registration
        self._port = port
        self._ended = threading.Event()
        threads = [threading.Thread(target=self._send, args=(sender,)) for sender in range(number)]
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        stack.callback(self._ended.set)

    def _send(self, sender: int) -> None:
        count = 0
        while not self._ended.is_set():
            with closing(HTTPConnection(LOOPBACK, self._port, timeout=SECONDS)) as connection:
                for _ in range(KEPT if sender % 2 else 1):
                    count += 1
                    reference_id = f"employee-{sender}-{count}"
                    self.sent.add(reference_id)
                    try:
                        post(connection, self._registration, reference_id)
                        response = connection.getresponse()
                        response.read()
                    except (OSError, HTTPException) as error:
                        self.answers[type(error).__name__] += 1
                        break
                    self.answers[response.status] += 1
                    if self._ended.is_set():
                        return

"""What the tests of ``receiver webhooks test`` have in common: OpenCard and the receiver over real HTTP."""

from __future__ import annotations

import threading
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import httpx
from sqlalchemy import text

from receiver.encryption import Encryption
from receiver.opencard.auth import Access
from receiver.ops.send_test import SendTest, SendTestTimeouts
from receiver.processing.drain import drain
from receiver.tls import tls_context
from tests.support.factories import body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

    from receiver.ops.sent_test import Report
    from receiver.sandbox.provider import ProviderWebhook
    from tests.support.world import World

EVENT = "card.transaction.cleared"
QUICK = SendTestTimeouts(timeout=30, poll=0.01)
BRIEF = SendTestTimeouts(timeout=0.2, poll=0.01)


class Moment(httpx.BaseTransport):
    """The network to OpenCard, on which something happens when a test is asked for.

    *happen* gets what asks OpenCard, and returns the answer to give.
    """

    def __init__(self, happen: Callable[[Callable[[], httpx.Response]], httpx.Response]) -> None:
        self._happen = happen
        self._network = httpx.HTTPTransport(verify=tls_context())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        def ask() -> httpx.Response:
            response = self._network.handle_request(request)
            response.read()
            return response

        return self._happen(ask) if "/test/" in request.url.path else ask()

    def close(self) -> None:
        self._network.close()


@contextmanager
def processing(engine: Engine) -> Iterator[None]:
    """Process what arrives, as a worker does."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.02):
            drain(engine)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        ended.set()
        worker.join()


def deliver(world: World, webhook: ProviderWebhook, event: str, payload: object) -> None:
    """Deliver to *webhook*, as OpenCard does."""
    registration = webhook.registration(world.provider.state.organizations()[0])
    content = body(payload)
    headers = registration.headers(event, content)
    assert (
        httpx.post(
            registration.url, content=content, headers=headers, verify=tls_context(), trust_env=False
        ).status_code
        == 200
    )


def send(
    world: World,
    event: str = EVENT,
    timeouts: SendTestTimeouts = QUICK,
    *,
    happen: Callable[[Callable[[], httpx.Response]], httpx.Response] | None = None,
    public_url: str | None = None,
    worker: bool = True,
) -> Report:
    """Have a test of *event* sent, with a *worker* that processes what arrives."""
    access = Access(world.api_url, str(world.client.account_id), world.client.id, world.client.secret)
    sending = SendTest(
        world.engine,
        Encryption(world.settings.encryption_keys),
        access,
        public_url or world.public_url,
        transport=None if happen is None else Moment(happen),
    )
    with processing(world.engine) if worker else nullcontext():
        return sending.run(world.stored(), event, timeouts)


def rows(world: World, query: str) -> list[Any]:
    with world.engine.connect() as connection:
        return list(connection.execute(text(query)).all())


def outcomes(world: World) -> list[tuple[str, str | None]]:
    return [tuple(row) for row in rows(world, "SELECT status, error FROM receiver.deliveries ORDER BY id")]


def statuses(world: World) -> list[str]:
    return [status for status, _ in outcomes(world)]


def feed(world: World) -> list[str]:
    return [row.type for row in rows(world, "SELECT type FROM ems.events ORDER BY position")]


def requests(world: World) -> int:
    return len(world.provider.requests.all(path="/test/"))

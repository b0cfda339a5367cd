"""Serves the provider until it is stopped, and sends a stream of purchases to webhooks as they are registered."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Final

from receiver.sandbox.breakage import purchases_to_break
from receiver.sandbox.faults import Faults
from receiver.sandbox.provider.delivery import deliver_story, ready_webhooks, reference_ids
from receiver.sandbox.provider.server import serving
from receiver.sandbox.receipt_files import RECEIPTS_LIVE, FilesAt
from receiver.sandbox.story import Story, make_story

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.sandbox.provider.provider import Provider
    from receiver.sandbox.provider.resources import ProviderWebhook
    from receiver.sandbox.tally import DeliveryTally

POLL_SECONDS: Final = 0.1
"""How often newly registered webhooks are looked for."""


@dataclass(frozen=True, slots=True)
class Stream:
    """The stream of events that is sent to registered webhooks."""

    purchases: int = 100
    """In each story, in all; zero sends nothing at all."""
    seed: int = 1
    repeat: bool = False
    """Send story after story, each of the next seed; otherwise every webhook gets one."""
    faults: Faults = field(default_factory=Faults)
    compression: float | None = None
    """Virtual seconds in a real one; ``None`` is as fast as possible."""
    connections: int = 8
    cleared_first: int = 0
    """How many cleared purchases of the first organization are delivered at once, before the stream."""


def numbered(organizations: int) -> list[str]:
    """Return the references of this number of *organizations*: ``org-001`` and so on."""
    return [f"org-{number:03}" for number in range(1, organizations + 1)]


async def serve_until_stopped(
    provider: Provider, stream: Stream, *, port: int, started: Callable[[str], None], tally: DeliveryTally
) -> None:
    """Serve *provider* on *port* and deliver *stream*, until Ctrl+C or SIGTERM.

    *started* is called with the base URL once both are known. Raises ``OperationRefused`` when the port is taken.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    with serving(provider, port=port) as url:
        started(url)
        sending = asyncio.create_task(send_stream(provider, stream, url=url, tally=tally))
        sending.add_done_callback(lambda task: stopped.set() if not task.cancelled() and task.exception() else None)
        await stopped.wait()
        sending.cancel()
        [failure] = await asyncio.gather(sending, return_exceptions=True)
        if isinstance(failure, Exception):
            raise failure


async def send_stream(provider: Provider, stream: Stream, *, url: str, tally: DeliveryTally) -> None:
    """Deliver story after story to the webhooks that are ready when it begins; waits while there are none.

    Receipts can be downloaded at *url*, where the provider is served. Only cancelling ends it, unless there is nothing
    to make_story.
    """
    if not stream.purchases:
        return
    if stream.cleared_first:
        await _deliver_cleared(provider, stream.cleared_first, tally)
    sent: set[int] = set()
    for seed in count(stream.seed):
        webhooks = await _ready(provider, but=set() if stream.repeat else sent)
        files = FilesAt(url, provider.now() + RECEIPTS_LIVE)
        story = make_story(
            seed=seed, organizations=reference_ids(provider, webhooks), purchases=stream.purchases, files=files
        )
        await deliver_story(
            provider,
            story,
            webhooks=webhooks,
            faults=stream.faults,
            seed=seed,
            connections=stream.connections,
            compression=stream.compression,
            tally=tally,
        )
        sent |= {webhook.id for webhook in webhooks}


async def _deliver_cleared(provider: Provider, number: int, tally: DeliveryTally) -> None:
    """Deliver cleared purchases to the first organization, once it has a webhook."""
    organization = provider.state.organizations()[0].reference_id
    seen: set[int] = set()
    while organization not in reference_ids(provider, webhooks := await _ready(provider, but=seen)):
        seen |= {webhook.id for webhook in webhooks}
    await deliver_story(provider, Story(tuple(purchases_to_break(organization, number))), tally=tally)


async def _ready(provider: Provider, *, but: set[int]) -> list[ProviderWebhook]:
    while True:
        webhooks = [webhook for webhook in ready_webhooks(provider) if webhook.id not in but]
        if webhooks:
            return webhooks
        await asyncio.sleep(POLL_SECONDS)

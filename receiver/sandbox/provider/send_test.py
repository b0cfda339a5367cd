"""Test deliveries: a payload of the wanted event, sent to one webhook once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Final

from receiver.sandbox.faults import Sending
from receiver.sandbox.provider.events import FLAG_OF
from receiver.sandbox.provider.refusals import against_the_rules
from receiver.sandbox.sender import RetryLimits, deliver_all
from receiver.sandbox.story import make_story
from receiver.sandbox.story_events import StoryEvent, read, write

if TYPE_CHECKING:
    from receiver.sandbox.provider.provider import Provider
    from receiver.sandbox.provider.resources import ProviderOrganization, ProviderWebhook
    from receiver.sandbox.tally import DeliveryAttempt

ONCE: Final = RetryLimits(attempts=1, seconds=None)
PURCHASES: Final = 20


def send_test(provider: Provider, organization: ProviderOrganization, webhook: ProviderWebhook, event: str) -> None:
    """Send a test payload of *event* to *webhook*, whatever its flags: in the background, or before this returns.

    It is one attempt, written into the delivery log. Raises ``Refused`` (422) for an unknown event.
    """
    if event not in FLAG_OF:
        raise against_the_rules(f"There is no event {event}.")
    sent = example(event, organization, seed=webhook.id)

    def send() -> None:
        asyncio.run(_send(provider, organization, webhook, sent))

    if provider.behaviour.tests_before_answering:
        send()
    else:
        provider.in_background(send)


async def _send(
    provider: Provider, organization: ProviderOrganization, webhook: ProviderWebhook, sent: StoryEvent
) -> None:
    def record(attempt: DeliveryAttempt) -> None:
        provider.state.log_attempt(webhook.id, attempt.event, attempt.status, attempt.at, attempt.body)

    await deliver_all(
        [Sending(sent, timedelta())],
        [webhook.registration(organization)],
        give_up_after=ONCE,
        bearers=provider.bearers,
        record=record,
    )


def example(event: str, organization: ProviderOrganization, *, seed: int) -> StoryEvent:
    """Return *event* as in a story of *organization*. Raises ``KeyError`` when *event* is unknown."""
    if event == "invoice.created":
        return StoryEvent(organization.reference_id, event, _invoice(organization, seed), timedelta())
    source = {"card.transaction.environmental_impact": "environmental.impact.aland_index"}.get(event, event)
    if source not in FLAG_OF:
        raise KeyError(event)
    for number in count(seed):
        story = make_story(seed=number, organizations=[organization.reference_id], purchases=PURCHASES)
        for sent in story.events:
            if sent.event == source:
                return replace(sent, event=event, payload=_of(organization, sent))
    raise AssertionError  # count has no end


def _of(organization: ProviderOrganization, sent: StoryEvent) -> bytes:
    """Return the payload with the organization number that the provider knows, where it has one."""
    fields = read(sent.payload)
    return write(
        {**fields, "organization_number": organization.buyer_party} if "organization_number" in fields else fields
    )


def _invoice(organization: ProviderOrganization, seed: int) -> bytes:
    return write(
        {
            "id": f"invoice-{organization.id}-{seed}",
            "organization_number": organization.buyer_party,
            "invoice_number": f"{seed:08}",
            "no_of_transactions": 12,
            "invoice_amount": 4321.5,
            "invoice_currency": "SEK",
            "invoice_date": "2026-01-31",
            "due_date": "2026-02-28",
            "organization": {"reference_id": organization.reference_id},
        }
    )

"""Delivers a story to what is registered: to each webhook what it wants, and every attempt into its log."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from receiver.sandbox.faults import Faults, Sending, schedule
from receiver.sandbox.provider.refusals import Refused
from receiver.sandbox.sender import deliver_all
from receiver.sandbox.story import Story
from receiver.sandbox.tally import DeliveryAttempt, DeliveryTally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from receiver.sandbox.provider.provider import Provider
    from receiver.sandbox.provider.resources import ProviderOrganization, ProviderWebhook
    from receiver.sandbox.registration import Registration
    from receiver.sandbox.story_events import StoryEvent

NO_FAULTS: Final = Faults()


@dataclass(frozen=True, slots=True)
class Delivered:
    """The result of delivering a story."""

    tally: DeliveryTally
    expected: Mapping[int, tuple[StoryEvent, ...]]
    """Webhook id → the events that were for it, in true order, each once."""
    missed: Mapping[int, tuple[StoryEvent, ...]]
    """Webhook id → those of them that no attempt brought to the receiver: only the log has them."""

    def story(self) -> Story:
        """Return the story that was sent to the receiver: what any webhook wants, each event once."""
        sent = {event: None for events in self.expected.values() for event in events}
        return Story(tuple(sorted(sent, key=lambda event: event.at)))


def ready_webhooks(provider: Provider) -> list[ProviderWebhook]:
    """Return the webhooks that take deliveries now: active and enabled."""
    return [webhook for webhook in provider.state.webhooks() if _is_ready(webhook)]


def reference_ids(provider: Provider, webhooks: Iterable[ProviderWebhook]) -> list[str]:
    """Return the EMS's ids of the organizations of *webhooks*, each once: those that a story needs."""
    return list(dict.fromkeys(_owner(provider, webhook).reference_id for webhook in webhooks))


def events_for(provider: Provider, webhook: ProviderWebhook, sent: Iterable[StoryEvent]) -> tuple[StoryEvent, ...]:
    """Return those of *sent* that are for *webhook*: of its organization, flagged, and of its groups."""
    owner = _owner(provider, webhook)
    return tuple(
        each
        for each in sent
        if each.organization_reference_id == owner.reference_id and webhook.wants(each.event, owner)
    )


async def deliver_story(
    provider: Provider,
    story: Story,
    *,
    webhooks: Sequence[ProviderWebhook] | None = None,
    faults: Faults = NO_FAULTS,
    seed: int = 0,
    tally: DeliveryTally | None = None,
    **options: Any,  # noqa: ANN401 - those of deliver_all
) -> Delivered:
    """Deliver *story* to *webhooks* (to all that are ready, unless given), with *faults* by *seed*.

    Each webhook is looked up again before each attempt: a new secret or URL applies at once, and one that is removed,
    disabled or inactive meanwhile is sent nothing more. *options* are those of ``deliver_all``.
    """
    chosen = ready_webhooks(provider) if webhooks is None else webhooks
    expected = {webhook.id: events_for(provider, webhook, story.events) for webhook in chosen}
    taken: dict[int, set[StoryEvent]] = {webhook.id: set() for webhook in chosen}
    tally = DeliveryTally() if tally is None else tally
    async with asyncio.TaskGroup() as tasks:
        for side_by_side in _one_of_each_organization(provider, chosen):
            ids = {organization: webhook.id for organization, webhook in side_by_side.items()}
            events = {sent for number in ids.values() for sent in expected[number]}
            sendings = schedule([sent for sent in story.events if sent in events], faults, seed)
            tasks.create_task(
                deliver_all(
                    sendings,
                    [webhook.registration(_owner(provider, webhook)) for webhook in side_by_side.values()],
                    current=_current(provider, ids),
                    record=_into_the_log(provider, ids),
                    on_taken=_into(taken, ids),
                    bearers=provider.bearers,
                    tally=tally,
                    **options,
                )
            )
    missed = {
        number: tuple(sent for sent in events if sent not in taken[number]) for number, events in expected.items()
    }
    return Delivered(tally, expected, missed)


def _is_ready(webhook: ProviderWebhook) -> bool:
    return webhook.active and webhook.enabled


def _owner(provider: Provider, webhook: ProviderWebhook) -> ProviderOrganization:
    return provider.state.organization(webhook.organization_id)


def _one_of_each_organization(
    provider: Provider, webhooks: Iterable[ProviderWebhook]
) -> Iterator[dict[str, ProviderWebhook]]:
    """Yield the webhooks in dictionaries by organization, because an organization may have several."""
    left = list(webhooks)
    while left:
        firsts: dict[str, ProviderWebhook] = {}
        for webhook in left:
            firsts.setdefault(_owner(provider, webhook).reference_id, webhook)
        taken = {webhook.id for webhook in firsts.values()}
        left = [webhook for webhook in left if webhook.id not in taken]
        yield firsts


def _current(provider: Provider, ids: Mapping[str, int]) -> Callable[[Registration], Registration | None]:
    def current(registration: Registration) -> Registration | None:
        try:
            webhook = provider.state.webhook(ids[registration.organization_reference_id])
            return webhook.registration(_owner(provider, webhook)) if _is_ready(webhook) else None
        except Refused:  # it was deleted
            return None

    return current


def _into_the_log(provider: Provider, ids: Mapping[str, int]) -> Callable[[DeliveryAttempt], None]:
    def record(attempt: DeliveryAttempt) -> None:
        number = ids[attempt.organization_reference_id]
        at = attempt.at + provider.behaviour.clock_ahead
        provider.state.log_attempt(number, attempt.event, attempt.status, at, attempt.body)

    return record


def _into(taken: Mapping[int, set[StoryEvent]], ids: Mapping[str, int]) -> Callable[[Sending], None]:
    def note(sending: Sending) -> None:
        taken[ids[sending.sent.organization_reference_id]].add(sending.sent)

    return note

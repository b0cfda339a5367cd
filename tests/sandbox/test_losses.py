"""Events that never reach the receiver, and their entries in the delivery log: over real HTTP."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from receiver.sandbox.faults import Faults
from receiver.sandbox.provider import deliver_story
from receiver.sandbox.sender import RetryLimits
from receiver.sandbox.story import Story, make_story
from receiver.sandbox.story_events import read
from receiver.sandbox.tally import MonotonicClock
from tests.support.provider_ends import Receiver, ServedProvider, opencard, receiver, webhooks_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.sandbox.provider import Delivered
    from receiver.sandbox.story_events import StoryEvent

UNTIL_TAKEN = RetryLimits(attempts=None, seconds=None, first_pause=0, longest_pause=0)
STORY = make_story(seed=5, organizations=["acme"], purchases=30)
EVERYTHING = Faults(duplicates=0.2, disorder=0.3, lost_answers=0.2, bursts=0.2, lost=0.2, outage=48)


@pytest.fixture
def party() -> Iterator[ServedProvider]:
    with opencard(per_page=500) as party:
        yield party


@pytest.fixture
def ems() -> Iterator[Receiver]:
    with receiver() as ems:
        yield ems


def deliver(party: ServedProvider, ems: Receiver, faults: Faults, *, seed: int = 1, story: Story = STORY) -> Delivered:
    acme = party.provider.state.add_organization("acme")
    party.register(acme, ems.url)
    return asyncio.run(deliver_story(party.provider, story, faults=faults, seed=seed, give_up_after=UNTIL_TAKEN))


def log(party: ServedProvider) -> list[Any]:
    """Return the log of the only webhook, the oldest attempt first."""
    [webhook] = party.provider.state.webhooks()
    acme = party.provider.state.organization(webhook.organization_id)
    return party.all_pages(f"{webhooks_of(acme)}/{webhook.id}/events")[::-1]


def missed(delivered: Delivered) -> tuple[StoryEvent, ...]:
    [missed] = delivered.missed.values()
    return missed


def identity(event: str, payload: object) -> tuple[str, str]:
    return event, json.dumps(payload, sort_keys=True, default=str)


def as_sent(sent: StoryEvent) -> tuple[str, str]:
    return identity(sent.event, json.loads(sent.payload))


def test_lost_event_is_tried_three_times_and_never_arrives(party: ServedProvider, ems: Receiver) -> None:
    delivered = deliver(party, ems, Faults(lost=0.2))
    lost = Counter(map(as_sent, missed(delivered)))
    assert 0 < lost.total() < len(STORY.events) / 2
    assert Counter(identity(one.event, one.fields) for one in ems.arrived) == Counter(map(as_sent, STORY.events)) - lost
    unanswered = [identity(item["event"], item["payload"]) for item in log(party) if item["status"] is None]
    assert Counter(unanswered) == Counter({sent: 3 * times for sent, times in lost.items()})
    tally = delivered.tally
    assert (tally.lost, tally.given_up, tally.given_up_unexpectedly) == (lost.total(), lost.total(), 0)
    assert (tally.unanswered, tally.accepted) == (3 * lost.total(), len(STORY.events) - lost.total())


def test_outage_answers_503_and_gives_up_due_events(party: ServedProvider, ems: Receiver) -> None:
    delivered = deliver(party, ems, Faults(outage=72))
    fallen = missed(delivered)
    assert fallen
    by_time = [sent.at for sent in STORY.events]
    assert len(fallen) == sum(fallen[0].at <= at <= fallen[-1].at for at in by_time)
    refused = Counter(identity(item["event"], item["payload"]) for item in log(party) if item["status"] == 503)
    assert refused == Counter({sent: 3 * times for sent, times in Counter(map(as_sent, fallen)).items()})
    assert len(ems.arrived) == len(STORY.events) - len(fallen)
    tally = delivered.tally
    assert (tally.in_outage, tally.given_up, tally.refused) == (len(fallen), len(fallen), 3 * len(fallen))


def test_missed_events_are_those_without_accepted_attempt(party: ServedProvider, ems: Receiver) -> None:
    taken: list[tuple[str, str]] = []

    def answer(one: Any) -> int:
        if len(ems.arrived) % 5 == 0:
            return 500
        taken.append(identity(one.event, one.fields))
        return 200

    ems.answer = answer
    delivered = deliver(party, ems, EVERYTHING)
    # a card holder's two equal events cannot be distinguished by what arrived
    distinguishable = [sent for sent in STORY.events if not sent.card_holder]
    assert {as_sent(sent) for sent in distinguishable} - set(taken) == {
        as_sent(sent) for sent in missed(delivered) if not sent.card_holder
    }
    assert delivered.tally.lost > 0
    assert delivered.tally.in_outage > 0
    assert delivered.tally.given_up == delivered.tally.lost + delivered.tally.in_outage


def test_log_has_the_true_order_including_lost_events(party: ServedProvider, ems: Receiver) -> None:
    deliver(party, ems, EVERYTHING)
    items = sorted(log(party), key=lambda item: datetime.fromisoformat(item["created_at"]))
    in_the_log: dict[tuple[str, str], list[str]] = defaultdict(list)
    for item in items:
        if item["event"].startswith("card_holder."):
            life = in_the_log[item["payload"]["card_holder"]["reference_id"], "acme"]
            if life[-1:] != [item["event"]]:
                life.append(item["event"])
    expected: dict[tuple[str, str], list[str]] = defaultdict(list)
    for sent in STORY.events:
        if sent.card_holder:
            expected[read(sent.payload)["card_holder"]["reference_id"], "acme"].append(sent.event)
    assert in_the_log == expected
    assert any(item["status"] in {None, 503} for item in items if item["event"].startswith("card_holder."))


def test_no_two_attempts_of_a_webhook_begin_at_the_same_moment(party: ServedProvider, ems: Receiver) -> None:
    deliver(party, ems, EVERYTHING)
    times = [item["created_at"] for item in log(party)]
    assert len(set(times)) == len(times)


def test_moments_increase_even_when_the_clock_stops() -> None:
    moments = MonotonicClock()
    assert all(earlier < later for earlier, later in pairwise(moments.next() for _ in range(10_000)))


def test_lost_event_does_not_delay_later_ones(party: ServedProvider, ems: Receiver) -> None:
    delivered = deliver(party, ems, Faults(lost=0.5), seed=3)
    lost = {sent.card_holder for sent in missed(delivered) if sent.event == "card_holder.created"}
    assert lost
    identified = {one.fields["card_holder"]["reference_id"] for one in ems.arrived if one.event.endswith("identified")}
    assert {holder[1] for holder in lost if holder} & identified


def test_the_same_seed_misses_the_same_events_over_http(party: ServedProvider, ems: Receiver) -> None:
    first = missed(deliver(party, ems, EVERYTHING))
    with opencard() as again, receiver() as elsewhere:
        assert missed(deliver(again, elsewhere, EVERYTHING)) == first
    with opencard() as another, receiver() as elsewhere:
        assert missed(deliver(another, elsewhere, EVERYTHING, seed=2)) != first


def test_log_has_everything_when_all_events_are_lost(party: ServedProvider, ems: Receiver) -> None:
    delivered = deliver(party, ems, Faults(lost=1))
    assert ems.arrived == []
    assert missed(delivered) == STORY.events
    assert {identity(item["event"], item["payload"]) for item in log(party)} == set(map(as_sent, STORY.events))

"""Deliveries to what was registered: flags, groups, headers, authentication, tests, and the delivery log."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import threading
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from receiver.sandbox.faults import Faults
from receiver.sandbox.provider import deliver_story, events_for, ready_webhooks, reference_ids
from receiver.sandbox.provider.events import FLAG_OF
from receiver.sandbox.provider.run import Stream, send_stream
from receiver.sandbox.sender import RetryLimits
from receiver.sandbox.story import Story, make_story
from receiver.sandbox.tally import DeliveryTally
from tests.support.provider_ends import SECRET, Receiver, ServedProvider, opencard, receiver, webhooks_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.sandbox.provider import Delivered, ProviderOrganization

NOWHERE = "http://127.0.0.1:1/hook"
AT_ONCE = RetryLimits(attempts=5, seconds=None, first_pause=0, longest_pause=0)


@pytest.fixture
def party() -> Iterator[ServedProvider]:
    with opencard() as party:
        yield party


@pytest.fixture
def acme(party: ServedProvider) -> ProviderOrganization:
    return party.provider.state.add_organization("acme", buyer_party="5561234567")


@pytest.fixture
def ems() -> Iterator[Receiver]:
    with receiver() as ems:
        yield ems


def story_of(party: ServedProvider, *, purchases: int = 5, seed: int = 1) -> Story:
    references = reference_ids(party.provider, ready_webhooks(party.provider))
    return make_story(seed=seed, organizations=references, purchases=purchases)


def deliver(party: ServedProvider, story: Story | None = None, **options: Any) -> Delivered:
    story = story_of(party) if story is None else story
    return asyncio.run(deliver_story(party.provider, story, **{"give_up_after": AT_ONCE, **options}))


def log_of(party: ServedProvider, organization: ProviderOrganization, webhook: dict[str, Any]) -> list[Any]:
    return party.all_pages(f"{webhooks_of(organization)}/{webhook['id']}/events")


def test_webhook_with_all_flags_gets_the_whole_signed_story(
    party: ServedProvider, acme: ProviderOrganization, ems: Receiver
) -> None:
    made = party.register(acme, ems.url)
    story = story_of(party)
    delivered = deliver(party, story)
    assert Counter(one.body for one in ems.arrived) == Counter(sent.payload for sent in story.events)
    assert delivered.expected == {made["id"]: story.events}
    assert delivered.story() == story
    for one in ems.arrived:
        assert one.headers["X-Data-Signature"] == hmac.new(SECRET.encode(), one.body, hashlib.sha256).hexdigest()


def test_only_flagged_events_are_delivered(party: ServedProvider, acme: ProviderOrganization, ems: Receiver) -> None:
    made = party.register(acme, ems.url, card_transaction_authorized=False, aland_index=False)
    story = story_of(party, purchases=40)
    delivered = deliver(party, story)
    left_out = {"card.transaction.authorized", "environmental.impact.aland_index"}
    assert left_out < {sent.event for sent in story.events}
    expected = [sent for sent in story.events if sent.event not in left_out]
    assert Counter(ems.events()) == Counter(sent.event for sent in expected)
    assert list(delivered.expected[made["id"]]) == expected


def test_groups_filter_transactions_by_buyer_party(
    party: ServedProvider, acme: ProviderOrganization, ems: Receiver
) -> None:
    made = party.register(acme, ems.url)
    [group] = [party.post(f"{webhooks_of(acme)}/{made['id']}/groups", {"buyer_party": "5569999999"})]
    deliver(party)
    events = set(ems.events())
    assert events
    assert not any(event.startswith("card.transaction.") for event in events)
    party.provider.state.add_group(made["id"], acme.buyer_party)
    party.provider.state.remove_group(made["id"], group["id"])
    deliver(party)
    assert "card.transaction.cleared" in ems.events()


@pytest.mark.parametrize("change", [{"enabled": False}, {"active": False}])
def test_inactive_or_disabled_webhook_gets_nothing(
    party: ServedProvider, acme: ProviderOrganization, ems: Receiver, change: dict[str, bool]
) -> None:
    made = party.register(acme, ems.url)
    story = story_of(party)
    party.provider.state.change_webhook(made["id"], **change)
    assert ready_webhooks(party.provider) == []
    assert deliver(party, story).expected == {}
    assert ems.arrived == []


def test_removed_webhook_gets_nothing_more(party: ServedProvider, acme: ProviderOrganization, ems: Receiver) -> None:
    made = party.register(acme, ems.url)

    def remove(_: object) -> int:
        if len(ems.arrived) == 3:
            party.provider.state.remove_webhook(made["id"])
        return 200

    ems.answer = remove
    delivered = deliver(party, connections=1)
    assert len(ems.arrived) == 3
    assert delivered.tally.given_up == len(delivered.expected[made["id"]]) - 3


def test_changed_secret_signs_the_following_deliveries(
    party: ServedProvider, acme: ProviderOrganization, ems: Receiver
) -> None:
    made = party.register(acme, ems.url)

    def change(_: object) -> int:
        if len(ems.arrived) == 3:
            party.provider.state.change_webhook(made["id"], secret="new")
        return 200

    ems.answer = change
    deliver(party, connections=1)
    for secret, arrived in ((SECRET, ems.arrived[:3]), ("new", ems.arrived[3:])):
        assert arrived
        for one in arrived:
            assert one.headers["X-Data-Signature"] == hmac.new(secret.encode(), one.body, hashlib.sha256).hexdigest()


def test_each_webhook_gets_its_own_events(party: ServedProvider, acme: ProviderOrganization, ems: Receiver) -> None:
    globex = party.provider.state.add_organization("globex")
    with receiver() as second, receiver() as third:
        party.register(acme, ems.url)
        party.register(acme, second.url, tpa_signed=False)
        party.register(globex, third.url)
        story = story_of(party)
        delivered = deliver(party, story)
        of_acme = [sent.event for sent in story.events if sent.organization_reference_id == "acme"]
        assert Counter(ems.events()) == Counter(of_acme)
        assert Counter(second.events()) == Counter(event for event in of_acme if event != "tpa.signed")
        assert len(third.arrived) == len(story.events) - len(of_acme)
        assert delivered.tally.accepted == len(ems.arrived) + len(second.arrived) + len(third.arrived)
        assert delivered.story() == story


def test_stream_finds_new_webhooks_between_stories(
    party: ServedProvider, acme: ProviderOrganization, ems: Receiver
) -> None:
    globex = party.provider.state.add_organization("globex")

    async def scenario(second: Receiver) -> None:
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def register_the_other(_: object) -> int:
            if "globex" not in reference_ids(party.provider, ready_webhooks(party.provider)):
                flags = frozenset({"tpa_signed"})
                party.provider.state.add_webhook(globex.id, second.url, secret=SECRET, active=True, flags=flags)
            return 200

        def end(_: object) -> int:
            loop.call_soon_threadsafe(sent.set)
            return 200

        ems.answer, second.answer = register_the_other, end
        stream = asyncio.create_task(
            send_stream(party.provider, Stream(purchases=1, repeat=True), url=NOWHERE, tally=DeliveryTally())
        )
        await asyncio.to_thread(party.register, acme, ems.url)
        await sent.wait()
        stream.cancel()

    with receiver() as second:
        asyncio.run(scenario(second))
        assert second.events()[0] == "tpa.signed"
    assert Counter(ems.events())["tpa.signed"] >= 1


def test_expected_events_are_known_without_delivering(party: ServedProvider, acme: ProviderOrganization) -> None:
    webhook = party.provider.state.add_webhook(acme.id, NOWHERE, flags=frozenset({"tpa_signed"}))
    story = make_story(seed=1, organizations=["acme", "globex"], purchases=5)
    [sent] = events_for(party.provider, webhook, story.events)
    assert (sent.event, sent.organization_reference_id) == ("tpa.signed", "acme")


def test_custom_headers_are_added_to_contract_headers(
    party: ServedProvider, acme: ProviderOrganization, ems: Receiver
) -> None:
    made = party.register(acme, ems.url, authentication_type="basic", basic_username="u", basic_password="p")
    for key, value in (("X-Route", "blue"), ("authorization", "stolen"), ("x-event", "other")):
        party.post(f"{webhooks_of(acme)}/{made['id']}/headers", {"key": key, "value": value})
    deliver(party)
    for one in ems.arrived:
        assert one.headers["X-Route"] == "blue"
        assert one.headers["Authorization"] == "Basic dTpw"
        assert one.event in FLAG_OF


def oauth(ems: Receiver) -> dict[str, str]:
    return {
        "authentication_type": "oauth",
        "oauth_access_token_url": ems.token_url,
        "oauth_client_id": "opencard",
        "oauth_client_secret": "o-s",
    }


def bearers(ems: Receiver) -> list[str]:
    return [one.headers["Authorization"] for one in ems.arrived]


def test_oauth_token_is_fetched_once_for_all_deliveries(
    party: ServedProvider, acme: ProviderOrganization, ems: Receiver
) -> None:
    party.register(acme, ems.url, **oauth(ems))
    deliver(party)
    deliver(party, story_of(party, seed=2))
    assert set(bearers(ems)) == {"Bearer token-1"}
    assert ems.tokens_asked == [{"grant_type": "client_credentials", "client_id": "opencard", "client_secret": "o-s"}]


def test_an_expired_oauth_token_is_fetched_again(
    party: ServedProvider, acme: ProviderOrganization, ems: Receiver
) -> None:
    ems.token_life = 0
    party.register(acme, ems.url, **oauth(ems))
    deliver(party, connections=1)
    assert len(set(bearers(ems))) == len(ems.arrived)


def test_after_401_the_retry_carries_a_new_oauth_token(
    party: ServedProvider, acme: ProviderOrganization, ems: Receiver
) -> None:
    ems.answer = lambda one: 401 if one.headers["Authorization"] == "Bearer token-1" else 200
    made = party.register(acme, ems.url, **oauth(ems))
    delivered = deliver(party, connections=1)
    assert delivered.tally.given_up == 0
    assert set(bearers(ems)) == {"Bearer token-1", "Bearer token-2"}
    assert len(ems.tokens_asked) == 2
    assert log_of(party, acme, made)[-1]["status"] == 401


def test_refused_oauth_token_is_fetched_at_most_twice(
    party: ServedProvider, acme: ProviderOrganization, ems: Receiver
) -> None:
    ems.answer = lambda _: 401
    party.register(acme, ems.url, **oauth(ems))
    delivered = deliver(party)
    assert delivered.tally.accepted == 0
    assert len(ems.tokens_asked) == 2


def test_missing_oauth_token_is_logged_as_no_answer(
    party: ServedProvider, acme: ProviderOrganization, ems: Receiver
) -> None:
    made = party.register(acme, ems.url, **{**oauth(ems), "oauth_access_token_url": NOWHERE})
    deliver(party)
    assert ems.arrived == []
    assert {item["status"] for item in log_of(party, acme, made)} == {None}


def test_the_log_holds_every_attempt_the_newest_first(
    party: ServedProvider, acme: ProviderOrganization, ems: Receiver
) -> None:
    ems.answer = lambda _: 503 if len(ems.arrived) % 3 == 0 else 200
    made = party.register(acme, ems.url)
    story = story_of(party)
    limits = RetryLimits(attempts=None, seconds=None, first_pause=0, longest_pause=0)
    delivered = deliver(party, story, faults=Faults(duplicates=0.2, lost_answers=0.2), seed=1, give_up_after=limits)
    items = log_of(party, acme, made)
    assert len(items) == delivered.tally.sent == len(ems.arrived)
    statuses = Counter(item["status"] for item in items)
    assert (statuses[200], statuses[503]) == (delivered.tally.accepted, delivered.tally.refused)
    assert statuses[None] == delivered.tally.lost_answers > 0
    assert [item["id"] for item in items] == sorted((item["id"] for item in items), reverse=True)
    assert {item["event"] for item in items} == {sent.event for sent in story.events}
    assert all(datetime.fromisoformat(item["created_at"]).tzinfo for item in items)
    assert "duration_ms" in items[0]  # an unknown field
    in_the_log = Counter((item["event"], json.dumps(item["payload"], sort_keys=True)) for item in items)
    assert in_the_log == Counter((one.event, json.dumps(one.fields, sort_keys=True)) for one in ems.arrived)


@pytest.mark.parametrize("event", FLAG_OF)
def test_test_delivery_of_any_event_is_valid_and_logged(
    party: ServedProvider, acme: ProviderOrganization, ems: Receiver, event: str
) -> None:
    party.provider.behaviour.tests_before_answering = True
    made = party.register(acme, ems.url)
    party.post(f"{webhooks_of(acme)}/{made['id']}/test/{event}", status=200)
    [one] = ems.arrived
    assert one.event == event
    assert one.fields["organization"]["reference_id"] == "acme"
    assert one.headers["X-Data-Signature"] == hmac.new(SECRET.encode(), one.body, hashlib.sha256).hexdigest()
    [item] = log_of(party, acme, made)
    assert (item["event"], item["status"], item["payload"]) == (event, 200, one.fields)


def test_test_delivery_follows_the_answer_by_default(
    party: ServedProvider, acme: ProviderOrganization, ems: Receiver
) -> None:
    may_answer = threading.Event()
    made = party.register(acme, ems.url)
    ems.answer = lambda _: 200 if may_answer.wait(20) else 500
    party.post(f"{webhooks_of(acme)}/{made['id']}/test/tpa.signed", status=200)
    assert log_of(party, acme, made) == []
    may_answer.set()
    party.provider.wait_for_tests()
    assert [item["status"] for item in log_of(party, acme, made)] == [200]


def test_an_unknown_event_cannot_be_tested(party: ServedProvider, acme: ProviderOrganization, ems: Receiver) -> None:
    made = party.register(acme, ems.url)
    party.post(f"{webhooks_of(acme)}/{made['id']}/test/moon.landed", status=422)


@pytest.mark.parametrize("change", ["enabled", "active"])
def test_a_webhook_that_gets_no_deliveries_cannot_be_tested(
    party: ServedProvider, acme: ProviderOrganization, ems: Receiver, change: str
) -> None:
    made = party.register(acme, ems.url)
    party.provider.state.change_webhook(made["id"], **{change: False})
    party.post(f"{webhooks_of(acme)}/{made['id']}/test/tpa.signed", status=422)
    assert ems.arrived == []


def test_test_delivery_without_receiver_is_tried_once(
    party: ServedProvider, acme: ProviderOrganization, ems: Receiver
) -> None:
    party.provider.behaviour.tests_before_answering = True
    made = party.register(acme, ems.url)
    party.provider.state.change_webhook(made["id"], url=NOWHERE)
    party.post(f"{webhooks_of(acme)}/{made['id']}/test/tpa.signed", status=200)
    assert [item["status"] for item in log_of(party, acme, made)] == [None]

"""``receiver webhooks test``: what arrives is shown, and nothing of it is booked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import msgspec
import pytest

from receiver.events.awaited_tests import resolve
from receiver.events.catalogue import EVENT_FLAGS
from receiver.processing.drain import drain
from receiver.ops.send_test import Patience
from receiver.sandbox.provider.send_test import example
from tests.factories import card_holder, sample, snapshot
from tests.ops.sending import EVENT, deliver, feed, rows, send, statuses

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.world import World


@pytest.fixture(autouse=True)
def _registered(world: World) -> None:
    """Acme's webhook is registered and active."""
    assert world.bootstrap().failures == []
    world.provider.requests.clear()


@pytest.mark.parametrize("event", EVENT_FLAGS)
def test_what_arrived_is_shown_as_understood_and_never_reaches_the_ems(world: World, event: str) -> None:
    report = send(world, event)
    assert drain(world.engine)
    assert report.error is None
    assert report.delivery is not None
    assert report.understood is not None
    assert (report.delivery.event, report.delivery.status) == (event, "ignored")
    assert report.delivery.verification == "signature+basic"
    assert (report.understood.event, report.understood.organization_reference_id) == (event, "acme")
    assert report.body == rows(world, "SELECT body FROM receiver.deliveries")[0].body
    assert (statuses(world), feed(world)) == (["ignored"], [])
    assert rows(world, "SELECT 1 FROM ems.card_holders") == rows(world, "SELECT 1 FROM ems.transactions") == []


def test_its_token_can_write_webhooks_and_nothing_else(world: World) -> None:
    send(world)
    assert {each.scopes for each in world.provider.requests.all(path="/api/")} == {frozenset({"webhooks-write"})}
    webhook = world.registered()
    of_organization = f"/api/v1/application/accounts/1/organizations/{webhook.organization_id}"
    assert world.writes() == [f"POST {of_organization}/webhooks/{webhook.id}/test/{EVENT}"]
    assert len(world.provider.requests.all(path="/api/")) == 1


def test_what_happens_meanwhile_is_processed_at_once(world: World) -> None:
    seen: list[list[str]] = []

    def happen(ask: Callable[[], httpx.Response]) -> httpx.Response:
        answer = ask()
        world.provider.wait_for_tests()
        deliver(world, "card_holder.created", card_holder())
        assert drain(world.engine)
        seen.append(statuses(world))
        return answer

    assert send(world, happen=happen).error is None
    assert seen == [["pending", "processed"]]
    assert (statuses(world), feed(world)) == (["ignored", "processed"], ["card_holder.created"])


def test_a_real_event_that_could_be_the_test_is_quarantined_with_it(world: World) -> None:
    def happen(ask: Callable[[], httpx.Response]) -> httpx.Response:
        answer = ask()
        world.provider.wait_for_tests()
        deliver(world, EVENT, snapshot("cleared"))
        return answer

    report = send(world, happen=happen)
    assert drain(world.engine)
    assert (report.delivery, report.understood, report.body) == (None, None, None)
    ids = [row.id for row in rows(world, "SELECT id FROM receiver.deliveries ORDER BY id")]
    assert report.error is not None
    assert f"deliveries {ids[0]}, {ids[1]} arrived, and nothing tells which of them is the test" in report.error
    assert (statuses(world), feed(world)) == (["quarantined", "quarantined"], [])


def test_a_real_event_that_arrives_while_the_first_settles_is_seen(world: World) -> None:
    """With no time to settle, the one that came first would pass for the test."""

    def real_first(ask: Callable[[], httpx.Response]) -> httpx.Response:
        deliver(world, EVENT, snapshot("cleared"))
        return ask()

    report = send(world, happen=real_first, patience=Patience(timeout=20, settle=2, poll=0.01))
    assert drain(world.engine)
    assert report.delivery is None
    assert (statuses(world), feed(world)) == (["quarantined", "quarantined"], [])


def test_what_opencard_says_it_sends_tells_the_test_from_a_real_event(world: World) -> None:
    webhook = world.registered()
    payload = example(EVENT, world.provider.state.organizations()[0], seed=webhook.id).payload

    def happen(ask: Callable[[], httpx.Response]) -> httpx.Response:
        deliver(world, EVENT, snapshot("cleared"))
        ask()
        return httpx.Response(200, content=msgspec.json.encode({"message": "sent", "payload": msgspec.Raw(payload)}))

    report = send(world, happen=happen)
    assert drain(world.engine)
    assert report.body == payload
    assert (statuses(world), feed(world)) == (["processed", "ignored"], [EVENT])


def test_an_example_of_another_organization_is_the_test_and_is_understood(world: World) -> None:
    def happen(_ask: Callable[[], httpx.Response]) -> httpx.Response:
        deliver(world, EVENT, snapshot("cleared", transaction="real"))
        deliver(world, EVENT, snapshot("cleared", organization={"reference_id": "example-company"}))
        return httpx.Response(200, json={"message": "sent"})

    report = send(world, happen=happen)
    assert drain(world.engine)
    assert report.understood is not None
    assert report.understood.organization_reference_id == "example-company"
    assert (statuses(world), feed(world)) == (["processed", "ignored"], [EVENT])


def test_a_test_that_makes_no_sense_is_shown_with_field_and_reason(world: World) -> None:
    def happen(_ask: Callable[[], httpx.Response]) -> httpx.Response:
        deliver(world, EVENT, sample(EVENT, state="settled"))
        return httpx.Response(200)

    report = send(world, happen=happen)
    assert report.delivery is not None
    assert report.understood is None
    assert report.error is not None
    assert report.error.startswith("state: ")
    assert statuses(world) == ["ignored"]


def test_it_reports_what_a_worker_resolved_meanwhile(world: World) -> None:
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send, world, patience=Patience(timeout=60, settle=60, poll=0.01))
        while not (rows(world, "SELECT 1 FROM receiver.awaited_tests WHERE sent_at IS NOT NULL") and statuses(world)):
            assert not sending.done()
        (awaited,) = rows(world, "SELECT id FROM receiver.awaited_tests")
        assert resolve(world.engine, awaited.id)
        report = sending.result(timeout=30)
    assert report.delivery is not None
    assert report.understood is not None
    assert statuses(world) == ["ignored"]


def test_the_time_to_settle_is_a_share_of_the_time_to_wait() -> None:
    assert Patience.of(30).settle == Patience.of(300).settle == 3
    assert Patience.of(5).settle == 0.5

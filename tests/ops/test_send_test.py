"""``receiver webhooks test``: what arrives is shown, and nothing of it is applied."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from receiver.events.catalogue import EVENT_FLAGS
from receiver.sandbox.provider import ApiFault
from receiver.webhooks.credentials import AuthenticationType
from tests.support.factories import body, card_holder, sample, snapshot
from tests.support.sending import EVENT, QUICK, deliver, feed, outcomes, rows, send, statuses

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.world import World

TESTED = ("ignored", "test delivery")


@pytest.fixture(autouse=True)
def _registered(world: World) -> None:
    """Acme's webhook is registered and active."""
    assert world.bootstrap().failures == []
    world.provider.requests.clear()


def test_arrived_test_delivery_is_shown_and_never_applied(world: World) -> None:
    for number, event in enumerate(EVENT_FLAGS, start=1):
        report = send(world, event)
        assert report.error is None, event
        assert report.delivery is not None
        assert report.parsed is not None
        assert (report.delivery.event, report.delivery.status) == (event, "ignored")
        assert report.delivery.verification == "signature+basic"
        assert (report.parsed.event, report.parsed.organization_reference_id) == (event, "acme")
        assert report.body == rows(world, "SELECT body FROM receiver.deliveries ORDER BY id DESC LIMIT 1")[0].body
        assert (outcomes(world), feed(world)) == ([TESTED] * number, [])
    assert rows(world, "SELECT 1 FROM ems.card_holders") == rows(world, "SELECT 1 FROM ems.transactions") == []


def test_the_test_webhook_has_no_events_and_is_disabled_again(world: World) -> None:
    own = world.registered()
    enabled: list[bool] = []

    def happen(ask: Callable[[], httpx.Response]) -> httpx.Response:
        enabled.append(world.registered_test().enabled)
        return ask()

    report = send(world, happen=happen)
    test = world.registered_test()
    assert (test.flags, test.active, test.enabled, enabled) == (frozenset(), True, False, [True])
    assert test.organization_id == own.organization_id
    assert len({test.url, own.url, test.secret, own.secret, test.basic_password, own.basic_password}) == 6
    assert world.registered() == own
    assert report.webhook.test
    assert (report.webhook.id, report.webhook.opencard_webhook_id) == (world.store.tests()[0].id, test.id)


def test_the_second_test_uses_the_test_webhook_of_the_first(world: World) -> None:
    send(world)
    test = world.registered_test()
    world.provider.requests.clear()
    assert send(world, "card_holder.created").error is None
    path = f"/api/v1/application/accounts/1/organizations/{test.organization_id}/webhooks/{test.id}"
    assert world.writes() == [f"PUT {path}", f"POST {path}/test/card_holder.created", f"PUT {path}"]
    assert world.registered_test() == test
    assert outcomes(world) == [TESTED, TESTED]


def test_its_token_can_read_and_write_webhooks_and_nothing_else(world: World) -> None:
    send(world)
    scopes = {each.scopes for each in world.provider.requests.all(path="/api/")}
    assert scopes == {frozenset({"webhooks-read", "webhooks-write"})}


@pytest.mark.parametrize(
    ("configuration", "verification"),
    [
        ('authentication_type = "none"', "signature"),
        ('authentication_type = "custom"\ncustom_key = "X-Gateway"', "signature+custom"),
        ('authentication_type = "oauth"', "signature+oauth"),
    ],
)
def test_the_test_webhook_authenticates_as_the_own_one_does(
    world: World, configuration: str, verification: str
) -> None:
    send(world)
    assert world.bootstrap(configuration).failures == []
    report = send(world)
    assert report.delivery is not None
    assert report.delivery.verification == verification
    assert world.registered_test().authentication_type == world.registered().authentication_type
    assert world.registered_test().custom_key == world.registered().custom_key
    assert world.store.tests()[0].authentication_type is AuthenticationType(world.registered().authentication_type)


def test_a_real_event_meanwhile_is_processed_and_not_shown(world: World) -> None:
    def happen(ask: Callable[[], httpx.Response]) -> httpx.Response:
        deliver(world, world.registered(), EVENT, snapshot("cleared", transaction="real"))
        return ask()

    report = send(world, happen=happen)
    assert report.parsed is not None
    assert report.parsed.transaction_id != "real"
    assert (outcomes(world), feed(world)) == ([("processed", None), TESTED], [EVENT])


def test_a_real_purchase_at_the_test_endpoint_is_not_applied(world: World) -> None:
    send(world)
    purchase = snapshot("cleared", transaction="real")
    deliver(world, world.registered_test(), EVENT, purchase)
    deliver(world, world.registered(), EVENT, purchase)
    assert send(world).error is None
    assert outcomes(world) == [TESTED, TESTED, ("processed", None), TESTED]
    assert [row.id for row in rows(world, "SELECT id FROM ems.transactions")] == ["real"]


def test_a_late_delivery_of_before_is_not_shown_as_the_test(world: World) -> None:
    send(world)
    deliver(world, world.registered_test(), "card_holder.created", card_holder())
    report = send(world)
    assert report.delivery is not None
    assert report.delivery.event == EVENT
    assert report.delivery.id == rows(world, "SELECT max(id) FROM receiver.deliveries")[0][0]


def test_an_example_of_another_organization_is_parsed(world: World) -> None:
    def happen(_ask: Callable[[], httpx.Response]) -> httpx.Response:
        payload = snapshot("cleared", organization={"reference_id": "example-company"})
        deliver(world, world.registered_test(), EVENT, payload)
        return httpx.Response(200, json={"message": "sent"})

    report = send(world, happen=happen)
    assert report.parsed is not None
    assert report.parsed.organization_reference_id == "example-company"
    assert (outcomes(world), feed(world)) == ([TESTED], [])


@pytest.mark.parametrize(
    ("payload", "why"), [(sample(EVENT, state="settled"), "state: "), (b"{broken", "body: ")], ids=["state", "no JSON"]
)
def test_a_test_that_makes_no_sense_is_shown_with_its_reason(world: World, payload: object, why: str) -> None:
    def happen(_ask: Callable[[], httpx.Response]) -> httpx.Response:
        deliver(world, world.registered_test(), EVENT, payload)
        return httpx.Response(200)

    report = send(world, happen=happen)
    assert report.delivery is not None
    assert report.parsed is None
    assert report.error is not None
    assert report.error.startswith(why)
    assert report.body == body(payload)
    assert outcomes(world) == [TESTED]


def test_an_organization_without_billing_can_be_tested(world: World) -> None:
    organization = world.provider.state.organizations()[0]
    world.provider.state.change_organization(organization.id, billing_id=None)
    assert send(world, "receipt.fetched").error is None
    assert outcomes(world) == [TESTED]


def test_a_test_webhook_that_cannot_be_disabled_is_used_again(world: World) -> None:
    def happen(ask: Callable[[], httpx.Response]) -> httpx.Response:
        world.provider.faults.add(ApiFault.answers(422, method="PUT"))
        return ask()

    assert send(world, happen=happen).error is None
    assert world.registered_test().enabled
    assert send(world).error is None
    assert not world.registered_test().enabled
    assert len(world.provider.state.webhooks()) == 2


def test_a_public_url_that_changed_is_registered_again(world: World) -> None:
    send(world)
    world.provider.state.change_webhook(
        world.registered_test().id, url=f"https://old.example.com/hooks/opencard/{world.store.tests()[0].endpoint_key}"
    )
    assert send(world).error is None
    assert world.registered_test().url.startswith(world.public_url)
    assert len(world.provider.state.webhooks()) == 2


def test_a_test_webhook_that_is_not_active_is_challenged_again(world: World) -> None:
    send(world)
    before = world.registered_test()
    world.provider.state.change_webhook(before.id, active=False)
    assert send(world).error is None
    assert (world.registered_test().id, world.registered_test().active) == (before.id, True)
    assert world.registered_test().url != before.url


def test_deleted_test_webhook_is_created_again(world: World) -> None:
    send(world)
    before = world.registered_test()
    world.provider.state.remove_webhook(before.id)
    assert send(world, timeouts=QUICK).error is None
    assert world.registered_test().id != before.id
    assert len(world.store.tests()) == 1
    assert statuses(world) == ["ignored", "ignored"]


@pytest.mark.parametrize("kind", ["hang-up-before", "hang-up-after"])
def test_a_registration_that_was_cut_off_is_completed(world: World, kind: str) -> None:
    for _ in range(10):  # until the client gives up
        world.provider.faults.add(ApiFault(kind, path="/webhooks$"))  # type: ignore[arg-type]
    with pytest.raises(Exception, match="/webhooks"):
        send(world)
    world.provider.faults.clear()
    assert send(world).error is None
    assert len(world.store.tests()) == 1
    assert len(world.provider.state.webhooks()) == 2
    assert outcomes(world) == [TESTED]

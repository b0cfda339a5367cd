"""``receiver webhooks test`` where the test does not come, or nobody knows whether it was sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from receiver.errors import InvalidRequest, OperationRefused
from receiver.processing.drain import drain
from receiver.ops.send_test import Patience
from receiver.sandbox.provider import ApiFault
from tests.factories import snapshot
from tests.ops.sending import BRIEF, EVENT, deliver, feed, requests, send, statuses

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from tests.world import World


@pytest.fixture(autouse=True)
def _registered(world: World) -> None:
    """Acme's webhook is registered and active."""
    assert world.bootstrap().failures == []
    world.provider.requests.clear()


def test_where_nothing_arrives_and_our_end_answers_it_says_to_look_at_opencards(world: World, nowhere: str) -> None:
    webhook = world.registered()
    world.provider.state.change_webhook(webhook.id, url=f"{nowhere}/")
    report = send(world, patience=BRIEF)
    assert report.error is not None
    assert "no test delivery arrived within 0.2 s" in report.error
    assert "Our own end answers its challenge through PUBLIC_URL" in report.error
    assert "processed as a real event" in report.error
    assert world.stored().secret not in report.error


def test_where_nothing_arrives_and_our_end_fails_it_says_how(world: World, nowhere: str) -> None:
    webhook = world.registered()
    world.provider.state.change_webhook(webhook.id, url=f"{nowhere}/")
    report = send(world, patience=BRIEF, public_url=nowhere)
    assert report.error is not None
    address = rf"{nowhere}/hooks/\S+\?challenge=\w{{20}}"
    fails = rf"Our own end fails through PUBLIC_URL: the challenge GET {address} fails: no answer \(ConnectError\)"
    assert re.search(fails, report.error)


def test_a_refused_delivery_leaves_nothing_and_the_log_is_named(world: World) -> None:
    world.provider.state.change_webhook(world.registered().id, secret="another-secret")
    report = send(world, patience=BRIEF)
    assert report.error is not None
    assert "the log of the web process then names the reason" in report.error
    assert statuses(world) == []


def test_a_real_event_after_a_test_that_never_came_is_processed(world: World) -> None:
    world.provider.state.change_webhook(world.registered().id, secret="another-secret")
    send(world, patience=BRIEF)
    world.provider.state.change_webhook(world.registered().id, secret=world.stored().secret)
    deliver(world, EVENT, snapshot("cleared"))
    assert drain(world.engine)
    assert (statuses(world), feed(world)) == (["processed"], [EVENT])


@pytest.mark.parametrize(("kind", "left"), [("hang-up-after", ["quarantined"]), ("hang-up-before", [])])
def test_in_doubt_it_is_not_asked_for_again_and_what_comes_is_for_a_person(
    world: World, kind: Any, left: list[str]
) -> None:
    world.provider.faults.add(ApiFault(kind, path="/test/"))
    report = send(world, patience=Patience(timeout=2 if left else 0.2, settle=0, poll=0.01))
    assert drain(world.engine)
    assert requests(world) == 1
    assert report.error is not None
    assert "not repeated, for it may have been carried out" in report.error
    assert (statuses(world), feed(world)) == (left, [])


def test_where_opencard_refuses_what_was_held_is_released(world: World) -> None:
    def happen(ask: Callable[[], httpx.Response]) -> httpx.Response:
        deliver(world, EVENT, snapshot("cleared"))
        return ask()

    world.provider.faults.add(ApiFault.answers(422, path="/test/"))
    with pytest.raises(InvalidRequest):
        send(world, happen=happen)
    assert drain(world.engine)
    assert (statuses(world), feed(world)) == (["processed"], [EVENT])


def test_a_webhook_that_is_not_registered_is_refused_before_anything_is_asked(world: World) -> None:
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE receiver.webhooks SET opencard_webhook_id = NULL"))
    with pytest.raises(OperationRefused, match="receiver bootstrap registers it"):
        send(world)
    assert world.provider.requests.all() == []

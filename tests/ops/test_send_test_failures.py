"""``receiver webhooks test`` where the test does not arrive, or it is unknown whether it was sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from receiver.db import held_lock
from receiver.errors import InvalidRequest, OperationRefused
from receiver.locks import Lock, LockFamily, key_of
from receiver.ops.send_test import SendTestTimeouts
from receiver.sandbox.provider import ApiFault
from tests.support.sending import BRIEF, EVENT, feed, outcomes, requests, send, statuses

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from tests.support.world import World

    Happen = Callable[[Callable[[], httpx.Response]], httpx.Response]


@pytest.fixture(autouse=True)
def _registered(world: World) -> None:
    """Acme's webhook is registered and active."""
    assert world.bootstrap().failures == []
    world.provider.requests.clear()


def changing(world: World, **changes: Any) -> Happen:
    """Return what changes the test webhook at OpenCard right before the test is asked for."""

    def happen(ask: Callable[[], httpx.Response]) -> httpx.Response:
        world.provider.state.change_webhook(world.registered_test().id, **changes)
        return ask()

    return happen


def test_missing_test_delivery_points_to_opencards_end(world: World, nowhere: str) -> None:
    report = send(world, timeouts=BRIEF, happen=changing(world, url=f"{nowhere}/"))
    assert report.error is not None
    assert "no test delivery arrived within 0.2 s" in report.error
    assert "The endpoint answers its challenge through PUBLIC_URL" in report.error
    assert world.store.tests()[0].secret not in report.error
    assert not world.registered_test().enabled


def test_failure_of_our_endpoint_is_reported_before_the_test(world: World, nowhere: str) -> None:
    address = rf"{nowhere}/hooks/\S+\?challenge=\w{{20}}"
    fails = rf"its endpoint fails: through PUBLIC_URL, the challenge GET {address} fails: no answer \(ConnectError\)"
    with pytest.raises(OperationRefused, match=fails):
        send(world, timeouts=BRIEF, public_url=nowhere)
    assert requests(world) == 0


def test_where_our_end_fails_meanwhile_it_says_how(world: World, nowhere: str) -> None:
    def happen(ask: Callable[[], httpx.Response]) -> httpx.Response:
        world.provider.state.change_webhook(world.registered_test().id, url=f"{nowhere}/")
        with world.engine.begin() as connection:
            connection.execute(text("UPDATE receiver.webhooks SET enabled = false WHERE test"))
        return ask()

    report = send(world, timeouts=BRIEF, happen=happen)
    assert report.error is not None
    assert re.search(
        r"The endpoint fails through PUBLIC_URL: the challenge \S+ \S+ fails: it answers 404", report.error
    )


def test_a_refused_delivery_leaves_nothing_and_the_log_is_named(world: World) -> None:
    report = send(world, timeouts=BRIEF, happen=changing(world, secret="another-secret"))
    assert report.error is not None
    assert "the log of the web process then names the reason" in report.error
    assert statuses(world) == []


@pytest.mark.parametrize(("kind", "arrives"), [("hang-up-after", True), ("hang-up-before", False)])
def test_unknown_outcome_is_not_repeated_and_arrival_is_shown(world: World, kind: Any, *, arrives: bool) -> None:
    world.provider.faults.add(ApiFault(kind, path="/test/"))
    report = send(world, timeouts=SendTestTimeouts(timeout=30 if arrives else 0.2, poll=0.01))
    assert requests(world) == 1
    assert (report.delivery is not None) is arrives
    assert (report.error is None) is arrives
    assert arrives or "not repeated, because it may have been carried out" in str(report.error)
    assert outcomes(world) == [("ignored", "test delivery")] * arrives
    assert feed(world) == []


def test_where_opencard_refuses_the_test_webhook_is_disabled(world: World) -> None:
    world.provider.faults.add(ApiFault.answers(422, path="/test/"))
    with pytest.raises(InvalidRequest):
        send(world)
    assert not world.registered_test().enabled
    assert send(world).error is None


def test_unregistered_webhook_is_refused_before_any_request(world: World) -> None:
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE receiver.webhooks SET opencard_webhook_id = NULL"))
    with pytest.raises(OperationRefused, match="receiver bootstrap registers it"):
        send(world)
    assert world.provider.requests.all() == []


def test_two_tests_of_an_organization_at_once_are_refused(world: World) -> None:
    with (
        held_lock(world.engine, key_of(LockFamily.TEST, "acme")),
        pytest.raises(OperationRefused, match="another test of organization acme is under way"),
    ):
        send(world)
    assert world.provider.requests.all() == []


def test_first_test_is_refused_during_bootstrap_later_ones_not(world: World) -> None:
    with held_lock(world.engine, Lock.BOOTSTRAP):
        with pytest.raises(OperationRefused, match="another command is changing webhooks"):
            send(world)
        assert world.store.tests() == []
    assert send(world).error is None
    with held_lock(world.engine, Lock.BOOTSTRAP):
        assert send(world, EVENT).error is None


def test_without_a_worker_what_arrived_is_shown_as_pending(world: World) -> None:
    report = send(world, timeouts=SendTestTimeouts(timeout=3, poll=0.01), worker=False)
    assert report.delivery is not None
    assert report.parsed is not None
    assert report.delivery.status == "pending"

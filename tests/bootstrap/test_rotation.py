"""A webhook's secret is rotated without a moment in which a delivery is refused."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import text

from receiver.bootstrap.concurrency import one_at_a_time
from receiver.errors import OperationRefused, ScopeNotGranted
from receiver.opencard.scopes import scopes_for
from receiver.sandbox.provider import ApiFault
from receiver.tls import tls_context
from tests.support.bootstrap_steps import DAY, rotate
from tests.support.factories import body, card_holder
from tests.support.killing import Killed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.bootstrap.rotation import RotationResult
    from receiver.sandbox.provider import ProviderWebhook
    from tests.support.world import World


def answer(world: World, webhook: ProviderWebhook) -> int:
    """Deliver as OpenCard does that knows *webhook* so, its custom headers aside; return the answer's status."""
    registration = webhook.registration(world.provider.state.organization(webhook.organization_id))
    content = body(card_holder(organization=registration.organization_reference_id))
    headers = registration.headers("card_holder.created", content)
    return httpx.post(
        registration.url, content=content, headers=headers, verify=tls_context(), trust_env=False
    ).status_code


def execute(world: World, statement: str) -> None:
    with world.engine.begin() as connection:
        connection.execute(text(statement))


def end_overlaps(world: World) -> None:
    execute(world, "UPDATE receiver.webhooks SET previous_secret_expires_at = now() - interval '1 second'")


def failure(result: RotationResult) -> str:
    assert result.rotated == []
    (failed,) = result.failures
    return failed.error


class InterruptingTransport(httpx.BaseTransport):
    """The network of a process that ends before or after OpenCard carries out what is asked with *method*."""

    def __init__(self, moment: str, method: str) -> None:
        self.moment, self.method = moment, method
        self._network = httpx.HTTPTransport(verify=tls_context())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        matches = request.method == self.method and "/webhooks/" in request.url.path
        if matches and self.moment == "before":
            raise Killed
        response = self._network.handle_request(request)
        if matches:
            response.read()
            raise Killed
        return response

    def close(self) -> None:
        self._network.close()


@contextmanager
def cut_off(world: World, moment: str, method: str) -> Iterator[None]:
    world.transport = InterruptingTransport(moment, method)
    try:
        with pytest.raises(Killed):
            yield
    finally:
        world.transport = None


@pytest.fixture
def old(world: World) -> ProviderWebhook:
    """The webhook as OpenCard knew it before anything was rotated."""
    assert world.bootstrap().failures == []
    world.provider.requests.clear()
    return world.registered()


def test_old_secret_is_valid_only_during_the_overlap(world: World, old: ProviderWebhook) -> None:
    before = datetime.now(UTC)
    (rotated,) = rotate(world).rotated
    new = world.registered()
    assert new.secret != old.secret
    assert world.stored().secret == new.secret
    assert (answer(world, old), answer(world, new)) == (200, 200)
    assert rotated.previous_secret_expires_at is not None
    assert timedelta() <= rotated.previous_secret_expires_at - before - DAY < timedelta(minutes=1)
    end_overlaps(world)
    assert (answer(world, old), answer(world, new)) == (401, 200)


def test_rotation_changes_only_the_secret(world: World, old: ProviderWebhook) -> None:
    flags = frozenset({"card_transaction_cleared"})
    changed = world.provider.state.change_webhook(old.id, enabled=False, flags=flags)
    assert rotate(world).failures == []
    assert world.registered() == dataclasses.replace(changed, secret=world.stored().secret)


def test_rotation_keeps_the_url_of_another_public_url(world: World, old: ProviderWebhook) -> None:
    elsewhere = old.url.replace("127.0.0.1", "localhost")
    world.provider.state.change_webhook(old.id, url=elsewhere)
    assert rotate(world).failures == []
    assert (world.registered().url, world.registered().active) == (elsewhere, True)


def test_rotation_tokens_have_exactly_their_scope(world: World, old: ProviderWebhook) -> None:
    rotate(world)
    asked = [
        (each.method, each.path.rpartition("/")[2], each.scopes) for each in world.provider.requests.all(path="/api/")
    ]
    assert asked == [
        ("GET", str(old.id), frozenset({"webhooks-read"})),
        ("PUT", str(old.id), frozenset({"webhooks-write"})),
    ]
    assert scopes_for("webhooks rotate-secret") == {"webhooks-read", "webhooks-write"}


@pytest.mark.parametrize("missing", ["webhooks-read", "webhooks-write"])
def test_missing_scope_is_named_and_nothing_is_rotated(world: World, old: ProviderWebhook, missing: str) -> None:
    execute(world, "DELETE FROM receiver.oauth_tokens")
    world.provider.clients.set_scopes(world.client.id, {"webhooks-read", "webhooks-write"} - {missing})
    with pytest.raises(ScopeNotGranted, match=missing):
        rotate(world)
    assert world.stored().secret == old.secret
    assert world.stored().acknowledged


STEPS = [("before", "GET"), ("after", "GET"), ("before", "PUT"), ("after", "PUT")]


@pytest.mark.parametrize(("moment", "method"), STEPS, ids=str)
@pytest.mark.parametrize("completed_by", ["rotation", "bootstrap"])
def test_interrupted_rotation_accepts_deliveries_and_completes(
    world: World, old: ProviderWebhook, moment: str, method: str, completed_by: str
) -> None:
    with cut_off(world, moment, method):
        rotate(world)
    pending = world.stored()
    assert answer(world, old) == answer(world, world.registered()) == 200
    assert answer(world, dataclasses.replace(old, secret=pending.secret)) == 200

    if completed_by == "rotation":
        (rotated,) = rotate(world).rotated
        assert rotated.previous_secret_expires_at is not None
    else:
        assert world.bootstrap().failures == []
    new = world.registered()
    assert new.secret == world.stored().secret
    assert world.stored().acknowledged
    if method == "PUT":
        assert new.secret == pending.secret  # no third one is made
        assert world.stored().previous_secret_is_good(datetime.now(UTC))
    end_overlaps(world)
    assert answer(world, new) == 200
    assert answer(world, old) == (200 if new.secret == old.secret else 401)


def test_lost_answer_is_requested_again(world: World, old: ProviderWebhook) -> None:
    world.provider.faults.add(ApiFault("hang-up-after", path="/webhooks/", method="PUT"))
    assert rotate(world).failures == []
    assert world.registered().secret == world.stored().secret != old.secret


def test_refused_rotation_keeps_both_secrets_valid(world: World, old: ProviderWebhook) -> None:
    world.provider.faults.add(ApiFault.answers(422, path="/webhooks/", method="PUT", times=9))
    assert "OpenCard answers 422" in failure(rotate(world))
    pending = world.stored().secret
    assert (answer(world, old), answer(world, dataclasses.replace(old, secret=pending))) == (200, 200)
    world.provider.faults.clear()
    assert rotate(world).failures == []
    assert world.registered().secret == pending


def test_no_second_rotation_during_the_overlap(world: World, old: ProviderWebhook) -> None:
    (first,) = rotate(world).rotated
    new = world.registered()
    world.provider.requests.clear()
    said = failure(rotate(world))
    assert f"good until {first.previous_secret_expires_at:%Y-%m-%d %H:%M:%S} UTC" in said
    assert "--overlap 0" in said
    assert world.writes() == []
    assert (answer(world, old), answer(world, new)) == (200, 200)
    end_overlaps(world)
    assert rotate(world).failures == []
    assert (answer(world, new), answer(world, world.registered())) == (200, 200)


def test_zero_overlap_ends_all_previous_secrets(world: World, old: ProviderWebhook) -> None:
    rotate(world)
    leaked = world.registered()
    assert rotate(world, overlap=timedelta()).failures == []
    assert (answer(world, old), answer(world, leaked), answer(world, world.registered())) == (401, 401, 200)


def test_zero_overlap_completes_an_interrupted_rotation(world: World, old: ProviderWebhook) -> None:
    with cut_off(world, "after", "PUT"):
        rotate(world)
    assert rotate(world, overlap=timedelta()).failures == []
    assert (answer(world, old), answer(world, world.registered())) == (401, 200)


def test_unacknowledged_credentials_are_not_a_pending_secret(world: World, old: ProviderWebhook) -> None:
    execute(world, "UPDATE receiver.webhooks SET acknowledged_at = NULL")
    assert rotate(world).failures == []
    assert world.registered().secret == world.stored().secret != old.secret
    assert answer(world, old) == 200


def test_one_failed_rotation_stops_no_other(world: World) -> None:
    world.add_organizations("globex", "initech", "umbrella")
    assert world.bootstrap().failures == []
    owner = {each.id: each.reference_id for each in world.provider.state.organizations()}
    by_owner = {owner[webhook.organization_id]: webhook for webhook in world.provider.state.webhooks()}
    gone, unknown = by_owner["globex"], by_owner["initech"]
    world.provider.state.remove_webhook(gone.id)
    execute(world, f"UPDATE receiver.webhooks SET opencard_webhook_id = NULL WHERE opencard_webhook_id = {unknown.id}")  # noqa: S608
    result = rotate(world)
    assert sorted(each.organization_reference_id for each in result.rotated) == ["acme", "umbrella"]
    said = {each.organization_reference_id: each.error for each in result.failures}
    assert said.keys() == {"globex", "initech"}
    assert "receiver bootstrap" in said["initech"]
    assert "404" in said["globex"]
    for webhook in world.store.all():
        assert webhook.acknowledged, "nothing is left pending by what was known before"


def test_webhook_with_a_foreign_url_is_not_rotated(world: World, old: ProviderWebhook) -> None:
    world.provider.state.change_webhook(old.id, url="https://other.example.com/hooks/opencard/" + "x" * 43)
    assert "not this service's" in failure(rotate(world))
    assert world.registered().secret == world.stored().secret == old.secret


def test_concurrent_rotation_is_refused(world: World, old: ProviderWebhook) -> None:
    world.provider.faults.add(ApiFault("slow", path="/webhooks/", method="PUT", seconds=0.3))

    def attempt(_number: int) -> Any:
        try:
            return rotate(world).failures
        except OperationRefused as refused:
            return str(refused)

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(attempt, range(2)))
    assert sum(outcome == [] for outcome in outcomes) == 1, outcomes
    assert world.registered().secret == world.stored().secret != old.secret
    assert answer(world, old) == 200


def test_rotation_is_refused_during_another_command(world: World, old: ProviderWebhook) -> None:
    with one_at_a_time(world.engine), pytest.raises(OperationRefused, match="another command"):
        rotate(world)
    assert world.stored().secret == old.secret


def test_no_secret_is_returned_or_logged(world: World, old: ProviderWebhook, capfd: pytest.CaptureFixture[str]) -> None:
    world.provider.faults.add(ApiFault.answers(400, path="/webhooks/", method="PUT"))
    described = [repr(rotate(world)), repr(rotate(world))]
    output = capfd.readouterr()
    for secret in (old.secret, world.stored().secret, world.client.secret, str(old.basic_password)):
        for words in (*described, output.out, output.err):
            assert secret not in words

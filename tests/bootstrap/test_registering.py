"""What bootstrap registers, against a local OpenCard over real HTTP."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
import pytest
from sqlalchemy import text

from receiver.bootstrap.concurrency import one_at_a_time
from receiver.errors import AccessDenied, ApiUnavailable, ClientRefused, OperationRefused, ScopeNotGranted
from receiver.sandbox.provider import ApiFault, deliver_story
from receiver.sandbox.story import make_story
from receiver.tls import tls_context
from receiver.webhooks.addresses import endpoint_url, token_url
from tests.support.bootstrap_steps import FLAGS, deliver

if TYPE_CHECKING:
    from tests.support.world import World

EVERYTHING = """
groups = ["5561234567"]
[headers]
X-Environment = "test"
"""


def test_each_organization_gets_one_active_basic_webhook(world: World) -> None:
    world.add_organizations("globex", "initech", "umbrella", "hooli")
    result = world.bootstrap()
    assert (result.organizations, result.failures, result.drift) == (5, [], False)
    webhooks = world.provider.state.webhooks()
    owners = {world.provider.state.organization(webhook.organization_id).reference_id for webhook in webhooks}
    assert (len(webhooks), owners) == (5, {"acme", "globex", "initech", "umbrella", "hooli"})
    for webhook in webhooks:
        assert (webhook.active, webhook.enabled, webhook.authentication_type) == (True, True, "basic")
        assert webhook.flags == FLAGS
        assert webhook.basic_username
        assert len(webhook.basic_password or "") >= 32
    assert len({webhook.basic_password for webhook in webhooks}) == 5
    assert len({webhook.secret for webhook in webhooks}) == 5


def test_stored_webhook_equals_the_registered_one(world: World) -> None:
    world.bootstrap()
    stored, registered = world.stored(), world.registered()
    organization = world.provider.state.organization(registered.organization_id)
    assert stored.opencard_webhook_id == registered.id
    assert (stored.organization_id, stored.organization_reference_id) == (organization.id, "acme")
    assert endpoint_url(world.public_url, stored.endpoint_key) == registered.url
    assert (stored.secret, stored.credentials.basic_password) == (registered.secret, registered.basic_password)
    assert (stored.active, stored.acknowledged) == (True, True)


@pytest.mark.parametrize("kind", ["none", "basic", "custom", "oauth"])
def test_deliveries_are_accepted_with_any_authentication(world: World, kind: str) -> None:
    result = world.bootstrap(f'authentication_type = "{kind}"')
    assert result.failures == []
    webhook = world.registered()
    assert webhook.authentication_type == kind
    assert webhook.oauth_access_token_url == (token_url(world.public_url) if kind == "oauth" else None)
    tally = asyncio.run(deliver_story(world.provider, make_story(seed=1, organizations=["acme"], purchases=3))).tally
    assert tally.accepted == tally.sent > 0


def test_second_run_writes_nothing(world: World) -> None:
    world.bootstrap(EVERYTHING)
    world.provider.requests.clear()
    before = world.database()
    result = world.bootstrap(EVERYTHING)
    assert (result.changes, result.failures, result.drift) == ([], [], False)
    assert world.writes() == []
    assert world.database() == before


@pytest.mark.parametrize("prune", [False, True])
def test_dry_run_lists_the_changes_and_writes_nothing(world: World, *, prune: bool) -> None:
    before = world.database()
    result = world.bootstrap(EVERYTHING, write=False, prune=prune)
    assert [change.action for _, change in result.changes] == ["create", "add-header", "add-group"]
    assert result.drift
    assert (world.writes(), world.database()) == ([], before)


def test_headers_and_groups_may_come_from_the_environment(world: World) -> None:
    result = world.bootstrap(
        'groups = ["5561234567", "5567654321"]\n[headers]\nX-Token = { env = "GATEWAY_TOKEN" }\nX-Plain = "a b"',
        {"GATEWAY_TOKEN": "the-gateway-token"},
    )
    assert result.failures == []
    webhook = world.registered()
    assert {header.key: header.value for header in webhook.headers} == {
        "X-Token": "the-gateway-token",
        "X-Plain": "a b",
    }
    assert [group.buyer_party for group in webhook.groups] == ["5561234567", "5567654321"]
    assert dict(world.stored().headers) == {"x-token": "the-gateway-token", "x-plain": "a b"}


def test_organization_can_override_defaults_or_be_left_out(world: World) -> None:
    world.add_organizations("globex", "initech")
    result = world.bootstrap("""
        events = ["card.transaction.cleared"]
        [headers]
        X-Who = "everybody"
        X-Shared = "yes"
        [[organizations]]
        reference_id = "globex"
        events = "all"
        authentication_type = "custom"
        custom_key = "X-Proof"
        [organizations.headers]
        x-who = "globex"
        [[organizations]]
        reference_id = "initech"
        skip = true
    """)
    assert (result.failures, result.left_out) == ([], 1)
    by_owner = {
        world.provider.state.organization(webhook.organization_id).reference_id: webhook
        for webhook in world.provider.state.webhooks()
    }
    assert set(by_owner) == {"acme", "globex"}
    assert by_owner["acme"].flags == {"card_transaction_cleared"}
    assert by_owner["globex"].flags == FLAGS
    assert by_owner["globex"].custom_key == "X-Proof"
    assert {header.key: header.value for header in by_owner["globex"].headers} == {"X-Shared": "yes", "x-who": "globex"}


def test_only_the_given_organizations_are_processed(world: World) -> None:
    world.add_organizations("globex", "initech")
    result = world.bootstrap(only=("globex",))
    assert result.organizations == 1
    assert world.stored().organization_reference_id == "globex"


def test_unknown_organization_is_reported_with_suggestion(world: World) -> None:
    with pytest.raises(OperationRefused, match="no organization 'acmee'; the nearest is acme"):
        world.bootstrap(only=("acmee",))
    result = world.bootstrap('[[organizations]]\nreference_id = "acmee"\nskip = true')
    assert [failure.organization_reference_id for failure in result.failures] == ["acmee"]
    assert "the nearest is acme" in result.failures[0].error
    assert world.registered().active  # the others are registered all the same


def test_webhooks_of_others_are_never_changed(world: World) -> None:
    (organization,) = world.provider.state.organizations()
    theirs = world.provider.state.add_webhook(organization.id, "https://other.example/hooks/opencard/" + "k" * 43)
    world.provider.state.add_header(theirs.id, "X-Theirs", "1")
    before = world.provider.state.webhook(theirs.id)
    result = world.bootstrap(EVERYTHING, prune=True)
    assert result.failures == []
    assert world.provider.state.webhook(theirs.id) == before
    assert len(world.provider.state.webhooks()) == 2
    assert [path for path in world.writes() if str(theirs.id) in path] == []


def test_our_webhook_without_a_stored_secret_gets_a_new_one(world: World) -> None:
    world.bootstrap()
    lost = world.registered()
    with world.engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE receiver.webhooks CASCADE")
    result = world.bootstrap()
    assert [change.action for _, change in result.changes] == ["update"]
    found = world.registered()
    assert (found.id, found.active) == (lost.id, True)
    assert found.secret != lost.secret
    assert world.stored().secret == found.secret
    assert deliver(world) == 200


def test_deleted_webhook_is_created_with_its_old_secret(world: World) -> None:
    world.bootstrap()
    before = world.stored()
    world.provider.state.remove_webhook(world.registered().id)
    world.bootstrap()
    assert world.registered().id != before.opencard_webhook_id
    assert (world.stored().id, world.stored().secret) == (before.id, world.registered().secret)
    assert deliver(world) == 200


class ForgetfulList(httpx.BaseTransport):
    """The network to an API whose list of webhooks is empty, though each can be asked for."""

    def __init__(self) -> None:
        self._network = httpx.HTTPTransport(verify=tls_context())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET" and request.url.path.endswith("/webhooks"):
            return httpx.Response(200, json={"data": [], "last_page": 1, "total": 0})
        return self._network.handle_request(request)

    def close(self) -> None:
        self._network.close()


def test_webhook_missing_in_a_list_is_requested_by_its_id(world: World) -> None:
    world.bootstrap()
    world.transport = ForgetfulList()
    assert world.bootstrap().changes == []
    assert len(world.provider.state.webhooks()) == 1


def test_duplicate_webhook_under_one_url_is_disabled(world: World) -> None:
    world.bootstrap()
    first = world.registered()
    second = world.provider.state.add_webhook(
        first.organization_id, first.url, secret=first.secret, active=True, flags=first.flags
    )
    result = world.bootstrap()
    assert [(change.action, change.opencard_webhook_id) for _, change in result.changes] == [("disable", second.id)]
    assert world.provider.state.webhook(first.id).enabled
    assert not world.provider.state.webhook(second.id).enabled
    assert world.bootstrap().changes == []


def test_known_webhook_wins_over_duplicate_even_if_disabled(world: World) -> None:
    world.bootstrap()
    known = world.registered()
    world.provider.state.change_webhook(known.id, enabled=False)
    other = world.provider.state.add_webhook(
        known.organization_id, known.url, secret=known.secret, active=True, flags=known.flags
    )
    assert world.bootstrap().failures == []
    assert world.provider.state.webhook(known.id).enabled
    assert not world.provider.state.webhook(other.id).enabled
    assert world.stored().opencard_webhook_id == known.id
    assert world.bootstrap().changes == []


def test_unstored_webhook_that_delivers_is_adopted(world: World) -> None:
    (organization,) = world.provider.state.organizations()
    url = f"{world.public_url}/hooks/opencard/"
    off = world.provider.state.add_webhook(organization.id, url + "a" * 43, active=True, enabled=False)
    inactive = world.provider.state.add_webhook(organization.id, url + "b" * 43)
    delivers = world.provider.state.add_webhook(organization.id, url + "c" * 43, active=True)
    assert world.bootstrap().failures == []
    assert world.stored().opencard_webhook_id == delivers.id
    enabled = {webhook.id: webhook.enabled for webhook in world.provider.state.webhooks()}
    assert enabled == {off.id: False, inactive.id: False, delivers.id: True}


def test_webhook_recreated_under_our_url_gets_our_secret(world: World) -> None:
    world.bootstrap()
    known = world.registered()
    world.provider.state.remove_webhook(known.id)
    other = world.provider.state.add_webhook(
        known.organization_id,
        known.url,
        active=True,
        flags=known.flags,
        authentication_type="basic",
        basic_username=known.basic_username,
        basic_password=known.basic_password,
    )
    assert deliver(world) == 401
    assert [change.action for _, change in world.bootstrap().changes] == ["update"]
    assert world.stored().opencard_webhook_id == other.id
    assert deliver(world) == 200


def test_adopted_webhooks_are_not_changed(world: World) -> None:
    world.bootstrap()
    first = world.stored()
    second = world.store.add(
        organization_id=first.organization_id,
        organization_reference_id="acme",
        authentication_type=first.authentication_type,
        given={},
    )
    adopted = world.provider.state.add_webhook(
        first.organization_id, endpoint_url(world.public_url, second.endpoint_key), active=True
    )
    world.store.acknowledge(second, opencard_webhook_id=adopted.id, overlap=timedelta())
    assert world.bootstrap(prune=True).changes == []
    assert world.provider.state.webhook(adopted.id) == adopted


def test_failure_of_one_organization_stops_no_other(world: World) -> None:
    world.add_organizations("globex", "initech")
    (globex,) = (each for each in world.provider.state.organizations() if each.reference_id == "globex")
    world.provider.faults.add(
        ApiFault.answers(422, method="POST", path=f"/organizations/{globex.id}/webhooks$", times=9)
    )
    result = world.bootstrap()
    (failure,) = result.failures
    assert failure.organization_reference_id == "globex"
    assert (
        f"POST /api/v1/application/accounts/1/organizations/{globex.id}/webhooks (scope webhooks-write, account 1"
        in failure.error
    )
    assert result.drift
    assert len(world.provider.state.webhooks()) == 2
    world.provider.faults.clear()
    again = world.bootstrap()
    assert (again.failures, len(world.provider.state.webhooks())) == ([], 3)


def test_ambiguous_organizations_are_conflicts(world: World) -> None:
    world.add_organizations("globex", "globex")
    result = world.bootstrap()
    assert [failure.organization_reference_id for failure in result.failures] == ["globex", "globex"]
    assert "2 organizations have the reference_id 'globex'" in result.failures[0].error
    assert world.stored().organization_reference_id == "acme"


def test_renamed_organization_is_a_conflict(world: World) -> None:
    world.bootstrap()
    (organization,) = world.provider.state.organizations()
    world.provider.state.remove_organization(organization.id)
    renamed = world.provider.state.add_organization("acme-2")
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE receiver.webhooks SET organization_id = :id"), {"id": renamed.id})
    (failure,) = world.bootstrap().failures
    assert "managed for 'acme'" in failure.error
    assert world.provider.state.webhooks() == []


@pytest.mark.parametrize("missing", ["organizations-read", "webhooks-read", "webhooks-write", "webhook-headers-write"])
def test_missing_scope_is_reported_once_before_any_write(world: World, missing: str) -> None:
    scopes = tuple(scope for scope in world.client.scopes if scope != missing)
    world.provider.clients.set_scopes(world.client.id, scopes)
    with pytest.raises(ScopeNotGranted, match=rf"does not have the scope {missing}, which .*bootstrap.* needs?;"):
        world.bootstrap(EVERYTHING)
    assert world.writes() == []


def test_missing_scope_is_named_after_a_refused_call(world: World) -> None:
    world.provider.behaviour.grants_silently = True
    scopes = tuple(scope for scope in world.client.scopes if scope != "webhooks-write")
    world.provider.clients.set_scopes(world.client.id, scopes)
    (failure,) = world.bootstrap().failures
    assert "scope webhooks-write" in failure.error


def test_wrong_account_is_named(world: World) -> None:
    world.client = type(world.client)(
        id=world.client.id, account_id=99, name="", scopes=world.client.scopes, secret=world.client.secret
    )
    with pytest.raises(AccessDenied, match=r"account 99.*OPENCARD_ACCOUNT_ID"):
        world.bootstrap()


def test_wrong_client_secret_is_reported_without_its_value(world: World) -> None:
    world.client = type(world.client)(
        id=world.client.id, account_id=1, name="", scopes=world.client.scopes, secret="not-the-secret"
    )
    with pytest.raises(ClientRefused, match="OPENCARD_CLIENT_SECRET") as refused:
        world.bootstrap()
    assert "not-the-secret" not in str(refused.value)


def test_unreachable_api_is_one_error(world: World) -> None:
    world.api_url = "http://127.0.0.1:1"
    with pytest.raises(ApiUnavailable, match="check OPENCARD_API_URL"):
        world.bootstrap()


def test_concurrent_runs_register_once(world: World) -> None:
    with (
        one_at_a_time(world.engine),
        pytest.raises(OperationRefused, match="another command is changing webhooks"),
    ):
        world.bootstrap()
    assert world.bootstrap(write=False).drift  # reading needs no turn
    assert world.bootstrap().failures == []

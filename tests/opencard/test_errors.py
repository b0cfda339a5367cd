"""Each error of the API (contract, section 2) is a type of its own whose text says what was asked, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.wrappers import Response

from receiver.errors import (
    AccessDenied,
    ApiUnavailable,
    ClientRefused,
    Conflict,
    InvalidRequest,
    OpenCardError,
    OutcomeUnknown,
    ResourceMissing,
    ScopeNotGranted,
    TokenRefused,
    UnreadableAnswer,
)
from receiver.opencard import routes
from receiver.opencard.auth import Access
from receiver.opencard.client import OpenCard
from receiver.opencard.failures import MASK, mask_secrets
from receiver.opencard.tokens import MemoryTokens
from receiver.opencard.webhooks import RegisteredWebhook, Webhooks
from receiver.sandbox.provider import ApiFault
from tests.opencard.conftest import SECRET, ApiWorld, as_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Request

    Answering = Callable[..., Access]

ROWS = [
    (400, InvalidRequest, "correct what it names"),
    (401, TokenRefused, "OPENCARD_API_URL and OPENCARD_CLIENT_ID"),
    (403, AccessDenied, "receiver clients set-scopes"),
    (404, ResourceMissing, "check OPENCARD_ACCOUNT_ID and the ids"),
    (409, Conflict, "it may exist already"),
    (422, InvalidRequest, "correct what it names"),
    (418, InvalidRequest, "correct what it names"),
    (429, ApiUnavailable, "try again later"),
    (500, ApiUnavailable, "try again later"),
    (503, ApiUnavailable, "try again later"),
    (302, UnreadableAnswer, "check that OPENCARD_API_URL is OpenCard's API"),
]


@pytest.mark.parametrize(("status", "kind", "way_out"), ROWS)
def test_each_status_is_an_error_with_request_and_remedy(
    world: ApiWorld, status: int, kind: type[OpenCardError], way_out: str
) -> None:
    world.provider.faults.add(ApiFault.answers(status, path="/api/", times=99))
    with pytest.raises(OpenCardError) as failed:
        Webhooks(world.api("webhooks-read")).get(world.organization.id, 7)
    assert type(failed.value) is kind
    text = str(failed.value)
    assert f"GET /api/v1/application/accounts/1/organizations/{world.organization.id}/webhooks/7" in text
    assert "scope webhooks-read" in text
    assert f"account 1, organization {world.organization.id}" in text
    assert f"OpenCard answers {status}" in text
    assert way_out in text
    assert "\n" not in text


def test_error_contains_the_text_of_the_answer(world: ApiWorld) -> None:
    with pytest.raises(InvalidRequest, match=r"422 .*\(The url must be HTTPS and reachable\.\)"):
        Webhooks(world.api("webhooks-write")).create(world.organization.id, {"url": "http://hooks.example.com"})


def test_foreign_account_is_named(world: ApiWorld) -> None:
    other = Access(world.url, "2", world.client.id, SECRET)
    with pytest.raises(AccessDenied, match=r"account 2\).*403.*the account \(OPENCARD_ACCOUNT_ID\)"):
        Webhooks(world.api("organizations-read", access=other)).organizations()


def test_organization_of_another_account_is_named(world: ApiWorld) -> None:
    foreign = world.provider.state.add_organization("foreign", account_id=2)
    with pytest.raises(AccessDenied, match=rf"account 1, organization {foreign.id}\).*403"):
        Webhooks(world.api("webhooks-read")).of(foreign.id)


@pytest.mark.parametrize("wrong", ["secret", "client"])
def test_wrong_client_or_secret_names_the_variables(world: ApiWorld, wrong: str) -> None:
    access = Access(
        world.url,
        "1",
        "somebody" if wrong == "client" else "ems",
        "another-secret" if wrong == "secret" else SECRET,
    )
    with pytest.raises(ClientRefused, match="OPENCARD_CLIENT_ID and OPENCARD_CLIENT_SECRET") as refused:
        Webhooks(world.api("organizations-read", access=access)).organizations()
    assert access.client_id in str(refused.value)
    assert access.client_secret not in str(refused.value)
    assert world.asked() == 0


def test_missing_scope_is_named_with_the_commands(world: ApiWorld) -> None:
    world.provider.clients.set_scopes("ems", ["organizations-read", "webhooks-read"])
    scopes = ("organizations-read", "webhooks-read", "webhooks-write", "webhook-headers-delete")
    with pytest.raises(ScopeNotGranted) as refused:
        Webhooks(world.api(*scopes)).organizations()
    assert "does not have the scope webhook-headers-delete webhooks-write," in str(refused.value)
    assert "bootstrap" in str(refused.value)
    assert "receiver clients set-scopes" in str(refused.value)
    assert world.asked() == 0


def test_silently_missing_scope_is_named_by_the_first_call(world: ApiWorld) -> None:
    world.provider.behaviour.grants_silently = True
    world.provider.clients.set_scopes("ems", ["organizations-read"])
    webhooks = Webhooks(world.api("organizations-read", "webhooks-read"))
    assert len(webhooks.organizations()) == 1
    with pytest.raises(AccessDenied, match=r"scope webhooks-read.*Invalid scope.*receiver clients set-scopes"):
        webhooks.of(world.organization.id)


def test_token_with_fewer_scopes_is_not_used(answering: Answering) -> None:
    asked: list[Request] = []

    def note(request: Request) -> Response:
        asked.append(request)
        return as_json({}, 404)

    token = as_json({"access_token": "t", "expires_in": 60, "scope": "organizations-read"})
    with (
        OpenCard(answering(note, token), ["organizations-read", "webhooks-read"], MemoryTokens()) as api,
        pytest.raises(ScopeNotGranted, match="does not have the scope webhooks-read,"),
    ):
        Webhooks(api).organizations()
    assert asked == []


SENT = {
    "url": "https://hooks.example.com/1",
    "secret": "the webhook  secret",
    "basic_password": 'pass"word',
    "custom_value": "värde/100%",
    "oauth_client_secret": "oauth-secret",
}


def test_secrets_repeated_by_opencard_are_masked_in_errors(answering: Answering) -> None:
    def repeat(request: Request) -> Response:
        said = request.get_data(as_text=True) + request.headers["Authorization"] + SENT["secret"] + SECRET
        return as_json({"error": said, "message": str(request.get_json())}, 422)

    with OpenCard(answering(repeat), ["webhooks-write"], MemoryTokens()) as api:
        with pytest.raises(InvalidRequest) as refused:
            Webhooks(api).create(7, SENT)
        text = str(refused.value) + repr(refused.value) + repr(refused.value.__context__)
        for secret in (*(value for name, value in SENT.items() if name != "url"), "the-token", SECRET):
            assert secret not in text
            assert " ".join(secret.split()) not in text
        assert MASK in text
        assert SENT["url"] in text
        with pytest.raises(InvalidRequest) as refused:
            Webhooks(api).add_header(7, 8, key="X-Key", value="the-header-value")
        assert "the-header-value" not in str(refused.value)


def test_client_secret_repeated_by_opencard_is_masked(answering: Answering) -> None:
    refusal = as_json({"error": "invalid_client", "message": f"{SECRET} is wrong"}, 401)
    with (
        OpenCard(answering(lambda _: as_json({}), refusal), ["organizations-read"], MemoryTokens()) as api,
        pytest.raises(ClientRefused) as refused,
    ):
        Webhooks(api).organizations()
    assert "invalid_client" in str(refused.value)
    assert SECRET not in str(refused.value)


@given(secret=st.text(min_size=4), before=st.text(max_size=5), after=st.text(max_size=5))
def test_masked_text_contains_no_secret(secret: str, before: str, after: str) -> None:
    said = mask_secrets(f"{before}{secret}{after}", [secret])
    assert MASK in said
    assert said.count(secret) <= f"{before}{MASK}{after}".count(secret)


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>Bad gateway</html>", b"[1]", b'{"error": {"code": 7}}', b"\xff\xfe", b'{"error": "' + b"x" * 9999],
)
def test_error_without_a_text_is_reported_and_short(answering: Answering, content: bytes) -> None:
    with OpenCard(answering(lambda _: Response(content, 404)), ["webhooks-read"], MemoryTokens()) as api:
        with pytest.raises(ResourceMissing, match="OpenCard answers 404 Not Found") as missing:
            Webhooks(api).get(7, 8)
        assert len(str(missing.value)) < 500


def test_post_with_unknown_outcome_is_reported_as_such(world: ApiWorld) -> None:
    world.provider.faults.add(ApiFault.answers(500, path="/test/"))
    with pytest.raises(OutcomeUnknown, match=r"POST .*/test/tpa.signed.*it may have been carried out"):
        Webhooks(world.api("webhooks-write")).send_test(world.organization.id, world.add_webhook(), "tpa.signed")


def test_ids_are_escaped_in_the_path(world: ApiWorld) -> None:
    with pytest.raises(ResourceMissing):
        world.api("webhooks-read").call(
            routes.GET_WEBHOOK, RegisteredWebhook, organization=world.organization.id, webhook="../../../x?page=1"
        )
    (asked,) = world.provider.requests.all(path="/api/")
    assert asked.query == {}

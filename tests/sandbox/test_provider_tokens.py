"""Tokens, scopes and whose account it is: what the provider checks before anything else."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from receiver.sandbox.provider import RECOMMENDED, SCOPES
from receiver.sandbox.provider.routes import ROUTES
from receiver.sandbox.provider.scopes import SCOPE_OF
from tests.support.provider_ends import opencard

ORGANIZATIONS = "/accounts/1/organizations"


def test_a_client_gets_a_bearer_token_for_a_year() -> None:
    with opencard() as party:
        answer = party.ask_for_token("organizations-read")
    assert answer.status_code == 200
    token = answer.json()
    assert (token["token_type"], token["expires_in"]) == ("Bearer", 31_536_000)
    assert len(token["access_token"]) >= 32


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_secret": None}, 401, "invalid_client"),
        ({"client_id": "another"}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": None}, 400, "unsupported_grant_type"),
        ({"scope": "webhooks-write"}, 400, "invalid_scope"),
        ({"scope": "no-such-scope"}, 400, "invalid_scope"),
    ],
)
def test_a_token_is_refused_in_the_words_of_oauth(changes: dict[str, str | None], status: int, error: str) -> None:
    with opencard(scopes=["organizations-read"]) as party:
        answer = party.ask_for_token("organizations-read", **changes)
    assert (answer.status_code, answer.json()) == (status, {"error": error})


def test_the_token_endpoint_takes_forms_only() -> None:
    with opencard() as party:
        answer = party.http.post("/oauth/token", json={"grant_type": "client_credentials"})
    assert (answer.status_code, answer.json()) == (400, {"error": "invalid_request"})


def test_scopes_that_a_client_lacks_can_be_left_out_silently() -> None:
    with opencard(scopes=["organizations-read"], grants_silently=True) as party:
        token = party.token("organizations-read", "webhooks-read")
        organization = party.provider.state.add_organization("acme")
        assert party.call("GET", ORGANIZATIONS, token=token).status_code == 200
        assert party.call("GET", f"{ORGANIZATIONS}/{organization.id}/webhooks", token=token).status_code == 403


def test_token_expires_by_the_providers_clock() -> None:
    time = datetime(2026, 1, 12, tzinfo=UTC)
    with opencard(now=lambda: time, expires_in=60) as party:
        time += timedelta(seconds=59)
        assert party.call("GET", ORGANIZATIONS).status_code == 200
        time += timedelta(seconds=1)
        assert party.call("GET", ORGANIZATIONS).status_code == 401


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer unknown", "Basic ZW1zOng="])
def test_a_call_without_a_good_token_is_answered_401(header: str | None) -> None:
    with opencard() as party:
        del party.http.headers["Authorization"]
        headers = {} if header is None else {"Authorization": header}
        answer = party.http.get("/api/v1/application/accounts/1/organizations", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]


def test_revoked_tokens_and_rotated_secrets_end_at_once() -> None:
    with opencard() as party:
        party.provider.clients.revoke_tokens(party.client.id)
        assert party.call("GET", ORGANIZATIONS).status_code == 401
        new = party.provider.clients.rotate_secret(party.client.id)
        assert party.ask_for_token("webhooks-read").status_code == 401
        assert party.ask_for_token("webhooks-read", client_secret=new).status_code == 200


def test_every_route_has_a_known_scope() -> None:
    assert ROUTES.keys() == SCOPE_OF.keys()
    assert set(SCOPE_OF.values()) | set(RECOMMENDED) <= set(SCOPES)
    assert len(SCOPES) == 43
    assert not any(scope.startswith(("webhook-headers", "webhook-groups")) for scope in RECOMMENDED)


@pytest.mark.parametrize(("method", "route"), SCOPE_OF, ids=" ".join)
def test_route_accepts_only_its_own_scope(method: str, route: str) -> None:
    with opencard() as party:
        organization = party.provider.state.add_organization("acme")
        webhook = party.provider.state.add_webhook(organization.id, "http://127.0.0.1:1/hook")
        places = {"account": 1, "organization": organization.id, "webhook": webhook.id, "event": "tpa.signed"}
        path = re.sub(r"<(?:int:)?(\w+)>", lambda name: str(places.get(name[1], 404404)), route)
        own = SCOPE_OF[method, route]
        others = party.token(*(scope for scope in SCOPES if scope != own))
        assert party.call(method, path, token=others).status_code == 403
        assert party.call(method, path, token=party.token(own)).status_code not in {401, 403}


def test_a_client_reaches_its_own_account_only() -> None:
    with opencard() as party:
        others = party.provider.state.add_organization("globex", account_id=2)
        assert party.call("GET", "/accounts/2/organizations").status_code == 403
        assert party.call("GET", f"/accounts/1/organizations/{others.id}/webhooks").status_code == 403
        assert party.get(ORGANIZATIONS)["total"] == 0


def test_unknown_path_is_answered_404() -> None:
    with opencard() as party:
        acme, globex = (party.provider.state.add_organization(name) for name in ("acme", "globex"))
        webhook = party.provider.state.add_webhook(acme.id, "http://127.0.0.1:1/hook")
        for path in (
            f"{ORGANIZATIONS}/999999/webhooks",
            f"{ORGANIZATIONS}/{acme.id}/webhooks/999999",
            f"{ORGANIZATIONS}/{globex.id}/webhooks/{webhook.id}",
            "/accounts/1/oauthclients/unknown",
            "/no/such/route",
        ):
            answer = party.call("GET", path)
            assert answer.status_code == 404, path
            assert answer.json()["error"]

"""Custom headers and groups of a webhook, and OAuth clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from receiver.sandbox.provider import SCOPES
from tests.support.provider_ends import ServedProvider, opencard, webhooks_of

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS = "/accounts/1/oauthclients"


@pytest.fixture
def party() -> Iterator[ServedProvider]:
    with opencard() as party:
        yield party


@pytest.fixture
def webhook(party: ServedProvider) -> str:
    """The path of a webhook."""
    acme = party.provider.state.add_organization("acme")
    return f"{webhooks_of(acme)}/{party.provider.state.add_webhook(acme.id, 'http://127.0.0.1:1/hook').id}"


def test_a_custom_header_is_added_listed_and_deleted(party: ServedProvider, webhook: str) -> None:
    made = party.post(f"{webhook}/headers", {"key": "X-Route", "value": "blue"})
    [listed] = party.get(f"{webhook}/headers")["data"]
    assert listed == made
    assert listed.items() > {"key": "X-Route", "value": "blue"}.items()
    assert party.call("DELETE", f"{webhook}/headers/{made['id']}").status_code == 204
    assert party.get(f"{webhook}/headers")["data"] == []
    assert party.call("DELETE", f"{webhook}/headers/{made['id']}").status_code == 404


def test_a_header_of_the_same_name_in_any_case_is_a_conflict(party: ServedProvider, webhook: str) -> None:
    party.post(f"{webhook}/headers", {"key": "X-Route", "value": "blue"})
    party.post(f"{webhook}/headers", {"key": "x-route", "value": "green"}, status=409)


def test_the_values_of_headers_can_be_hidden(party: ServedProvider, webhook: str) -> None:
    party.provider.behaviour.hides_header_values = True
    party.post(f"{webhook}/headers", {"key": "X-Route", "value": "blue"})
    assert "value" not in party.get(f"{webhook}/headers")["data"][0]


def test_a_group_is_added_listed_and_deleted_and_not_doubled(party: ServedProvider, webhook: str) -> None:
    made = party.post(f"{webhook}/groups", {"buyer_party": "5561234567"})
    party.post(f"{webhook}/groups", {"buyer_party": "5561234567"}, status=409)
    assert [group["buyer_party"] for group in party.get(f"{webhook}/groups")["data"]] == ["5561234567"]
    assert party.call("DELETE", f"{webhook}/groups/{made['id']}").status_code == 204
    assert party.call("DELETE", f"{webhook}/groups/{made['id']}").status_code == 404


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        ("headers", {"key": "X-Route"}),
        ("headers", {"key": 1, "value": "blue"}),
        ("groups", {"buyer_party": 5561234567}),
        ("groups", []),
    ],
)
def test_a_part_without_its_fields_is_malformed(party: ServedProvider, webhook: str, part: str, fields: object) -> None:
    party.post(f"{webhook}/{part}", fields, status=400)


def test_new_client_shows_its_secret_once_and_gets_tokens(party: ServedProvider) -> None:
    made = party.post(CLIENTS, {"name": "reconciler", "scopes": ["webhook-events-read"]})
    shown = party.get(f"{CLIENTS}/{made['id']}")
    assert shown.items() > {"name": "reconciler", "scopes": ["webhook-events-read"]}.items()
    assert "secret" not in shown
    assert not any("secret" in client for client in party.get(CLIENTS)["data"])
    asked = {"client_id": made["id"], "client_secret": made["secret"]}
    assert party.ask_for_token("webhook-events-read", **asked).status_code == 200
    assert party.ask_for_token("webhooks-read", **asked).json() == {"error": "invalid_scope"}


def test_a_clients_scopes_are_replaced(party: ServedProvider) -> None:
    made = party.post(CLIENTS, {"name": "ems", "scopes": []})
    path = f"{CLIENTS}/{made['id']}"
    assert party.put(path, {"scopes": ["webhooks-read"]})["scopes"] == ["webhooks-read"]
    assert party.get(path)["scopes"] == ["webhooks-read"]


@pytest.mark.parametrize(
    ("scopes", "status"), [(["webhooks-rule"], 422), ("webhooks-read", 400), ([1], 400), (None, 400)]
)
def test_unknown_and_malformed_scopes_are_rejected(party: ServedProvider, scopes: object, status: int) -> None:
    party.post(CLIENTS, {"name": "ems", "scopes": scopes}, status=status)
    party.put(f"{CLIENTS}/{party.client.id}", {"scopes": scopes}, status=status)
    assert set(party.get(f"{CLIENTS}/{party.client.id}")["scopes"]) == set(SCOPES)


def test_a_client_of_another_account_is_not_to_be_seen(party: ServedProvider) -> None:
    party.provider.clients.add("theirs", account_id=2)
    assert party.call("GET", f"{CLIENTS}/theirs").status_code == 404
    assert [client["id"] for client in party.get(CLIENTS)["data"]] == ["ems"]

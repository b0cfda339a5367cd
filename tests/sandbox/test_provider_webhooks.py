"""Webhooks: what is registered, what is refused, what is shown, and the challenge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.provider_ends import ALL_FLAGS, SECRET, Receiver, ServedProvider, opencard, receiver, webhooks_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.sandbox.provider import ProviderOrganization

NOWHERE = "http://127.0.0.1:1/hook"


@pytest.fixture
def party() -> Iterator[ServedProvider]:
    with opencard() as party:
        yield party


@pytest.fixture
def acme(party: ServedProvider) -> ProviderOrganization:
    return party.provider.state.add_organization("acme")


@pytest.fixture
def ems() -> Iterator[Receiver]:
    with receiver() as ems:
        yield ems


def test_new_webhook_is_challenged_before_the_answer(
    party: ServedProvider, acme: ProviderOrganization, ems: Receiver
) -> None:
    made = party.post(webhooks_of(acme), {"url": f"{ems.url}?key=1", "secret": SECRET, "tpa_signed": True})
    assert made["active"] is True
    [(question, headers)] = ems.questions
    assert (len(question), question.isascii(), question.isalnum()) == (20, True, True)
    assert headers["X-Event"] == "challenge"
    assert party.get(f"{webhooks_of(acme)}/{made['id']}")["active"] is True


def test_webhook_is_listed_while_it_is_challenged(
    party: ServedProvider, acme: ProviderOrganization, ems: Receiver
) -> None:
    listed: list[Any] = []
    ems.on_question = lambda: listed.extend(party.provider.state.webhooks_of(acme.id))
    party.register(acme, ems.url)
    [webhook] = listed
    assert webhook.active is False


def test_failed_challenge_leaves_the_webhook_inactive(
    party: ServedProvider, acme: ProviderOrganization, ems: Receiver
) -> None:
    assert party.register(acme, ems.url, secret="another")["active"] is False
    assert party.register(acme, NOWHERE)["active"] is False


def test_generated_secret_has_60_characters_and_is_shown_once(
    party: ServedProvider, acme: ProviderOrganization
) -> None:
    made = party.post(webhooks_of(acme), {"url": NOWHERE})
    assert len(made["secret"]) == 60
    assert "secret" not in party.get(f"{webhooks_of(acme)}/{made['id']}")
    assert "secret" not in party.get(webhooks_of(acme))["data"][0]


def test_secrets_and_credentials_are_hidden_by_default(party: ServedProvider, acme: ProviderOrganization) -> None:
    hidden = {"secret": SECRET, "basic_password": "p-w"}
    made = party.register(acme, NOWHERE, authentication_type="basic", basic_username="u", **hidden)
    path = f"{webhooks_of(acme)}/{made['id']}"
    assert not hidden.keys() & (made.keys() | party.get(path).keys())
    assert party.get(path)["basic_username"] == "u"
    party.provider.behaviour.echoes_secrets = True
    assert party.get(path).items() > hidden.items()


def test_webhook_has_all_flags_and_undocumented_fields(party: ServedProvider, acme: ProviderOrganization) -> None:
    made = party.post(webhooks_of(acme), {"url": NOWHERE, "receipt_fetched": True, "id": 1, "active": True})
    assert {flag for flag in ALL_FLAGS if made[flag] is True} == {"receipt_fetched"}
    assert (made["enabled"], made["authentication_type"], made["active"]) == (True, "none", False)
    assert (made["organization_id"], type(made["id"])) == (acme.id, int)
    assert made["id"] != 1
    assert "api_version" in made


def test_an_update_changes_the_given_fields_only(
    party: ServedProvider, acme: ProviderOrganization, ems: Receiver
) -> None:
    made = party.register(acme, ems.url)
    path = f"{webhooks_of(acme)}/{made['id']}"
    changed = party.put(path, {"enabled": False, "tpa_signed": False})
    assert changed == {**made, "enabled": False, "tpa_signed": False} == party.get(path)
    assert len(ems.questions) == 1  # the same URL is not challenged again


def test_changed_url_triggers_a_new_challenge(party: ServedProvider, acme: ProviderOrganization, ems: Receiver) -> None:
    made = party.register(acme, ems.url)
    path = f"{webhooks_of(acme)}/{made['id']}"
    assert party.put(path, {"url": NOWHERE})["active"] is False
    assert party.put(path, {"url": f"{ems.url}/new"})["active"] is True
    assert len(ems.questions) == 2
    ems.secret = "new secret"
    assert party.put(path, {"url": ems.url})["active"] is False
    assert party.put(path, {"url": f"{ems.url}/new", "secret": "new secret"})["active"] is True


@pytest.mark.parametrize(
    "fields",
    [
        {"url": 1},
        {"url": None},
        {"url": NOWHERE, "secret": 5},
        {"url": NOWHERE, "enabled": "yes"},
        {"url": NOWHERE, "tpa_signed": 1},
        {"url": NOWHERE, "basic_username": ["u"]},
        ["url"],
        None,
    ],
)
def test_a_wrong_type_is_malformed(party: ServedProvider, acme: ProviderOrganization, fields: object) -> None:
    assert party.post(webhooks_of(acme), fields, status=400)["error"]
    assert party.provider.state.webhooks() == []


def test_broken_json_is_malformed(party: ServedProvider, acme: ProviderOrganization) -> None:
    assert party.call("POST", webhooks_of(acme), content=b'{"url": ').status_code == 400


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"url": "http://ems.example/hook"},
        {"url": "ftp://127.0.0.1/hook"},
        {"url": "no url"},
        {"url": "https://"},
        {"url": NOWHERE, "secret": ""},
        {"url": NOWHERE, "authentication_type": "digest"},
        {"url": NOWHERE, "authentication_type": "basic"},
        {"url": NOWHERE, "authentication_type": "basic", "basic_username": "u"},
        {"url": NOWHERE, "authentication_type": "custom", "custom_key": "X-Key"},
        {"url": NOWHERE, "authentication_type": "oauth"},
    ],
)
def test_business_rules_are_answered_422(
    party: ServedProvider, acme: ProviderOrganization, fields: dict[str, Any]
) -> None:
    assert party.post(webhooks_of(acme), fields, status=422)["error"]
    assert party.provider.state.webhooks() == []


def test_update_is_checked_together_with_current_values(party: ServedProvider, acme: ProviderOrganization) -> None:
    made = party.register(acme, NOWHERE)
    path = f"{webhooks_of(acme)}/{made['id']}"
    party.put(path, {"authentication_type": "basic"}, status=422)
    party.put(path, {"basic_username": "u", "basic_password": "p"})
    assert party.put(path, {"authentication_type": "basic"})["authentication_type"] == "basic"
    party.put(path, {"basic_password": None}, status=422)


def test_the_dashboard_changes_what_the_api_shows(party: ServedProvider, acme: ProviderOrganization) -> None:
    made = party.register(acme, NOWHERE)
    path = f"{webhooks_of(acme)}/{made['id']}"
    state = party.provider.state
    state.change_webhook(made["id"], url="https://elsewhere.example/", active=True, enabled=False)
    state.switch_event(made["id"], "environmental.impact.deedster", on=False)
    shown = party.get(path)
    assert (shown["url"], shown["active"], shown["enabled"]) == ("https://elsewhere.example/", True, False)
    assert (shown["deedster"], shown["aland_index"]) == (False, True)
    state.remove_webhook(made["id"])
    assert party.call("GET", path).status_code == 404
    assert party.call("DELETE", path).status_code == 405


def test_unknown_flag_is_reported_to_the_dashboard() -> None:
    with opencard() as party:
        webhook = party.provider.state.add_webhook(party.provider.state.add_organization("acme").id, NOWHERE)
        with pytest.raises(ValueError, match=r"invoice\.created"):
            party.provider.state.switch_event(webhook.id, "invoice.created", on=True)


def test_no_repr_contains_a_secret(party: ServedProvider, acme: ProviderOrganization) -> None:
    party.register(
        acme,
        NOWHERE,
        authentication_type="custom",
        custom_key="X-Key",
        custom_value="c-v",
        oauth_client_secret="o-s",
        basic_password="p-w",
    )
    [webhook] = party.provider.state.webhooks()
    header = party.provider.state.add_header(webhook.id, "X-Route", "h-v")
    everything = repr([party.provider.state.webhooks(), header, party.client, party.provider.requests.all()])
    shown = [secret for secret in (SECRET, "c-v", "o-s", "p-w", "h-v", party.client.secret) if secret in everything]
    assert shown == []

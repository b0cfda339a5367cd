from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from receiver.settings import Settings, SignaturePolicy
from receiver.webhooks.credentials import Credentials
from tests.support.applications import receiver_with
from tests.support.factories import card_holder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conftest import Acme, Organizations

EVENT = "card_holder.created"
BASIC = Credentials(basic_username="opencard", basic_password="the-password")
CUSTOM = Credentials(custom_key="X-Webhook-Token", custom_value="the-token-\u00e5\u00e4\u00f6")
ON_THE_WIRE = CUSTOM.custom_value.encode().decode("latin-1")


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def answers(acme: Acme, *attempts: Mapping[str, str | None]) -> list[int]:
    """Return the status of each attempt to deliver with changed headers."""
    return [acme.deliver(EVENT, card_holder(), headers=dict(attempt)).status_code for attempt in attempts]


def verdicts(acme: Acme) -> list[str]:
    return [row["verification"] for row in acme.rows("SELECT verification FROM receiver.deliveries ORDER BY id")]


def test_basic_credentials_prove_signed_and_unsigned(organizations: Organizations) -> None:
    acme = organizations.adopt("acme", BASIC)
    assert answers(acme, {}, {"X-Data-Signature": None}) == [200, 200]
    assert verdicts(acme) == ["signature+basic", "basic"]


def test_wrong_basic_credentials_fail_despite_a_right_signature(organizations: Organizations) -> None:
    acme = organizations.adopt("acme", BASIC)
    attempts: list[str | None] = [
        None,
        "",
        "Basic",
        "Basic !!!",
        "Basic \u00ff\u00e9",
        basic("opencard:wrong"),
        basic("other:the-password"),
        basic("opencard:the-password") + "A",
        basic("opencard:the-password").replace("Basic", "Bearer"),
    ]
    assert answers(acme, *({"Authorization": attempt} for attempt in attempts)) == [401] * len(attempts)
    assert verdicts(acme) == []


def test_custom_header_proves_signed_and_unsigned(organizations: Organizations) -> None:
    acme = organizations.adopt("acme", CUSTOM)
    right = {"X-Webhook-Token": ON_THE_WIRE}
    lower_case = {"X-Webhook-Token": None, "x-webhook-token": ON_THE_WIRE}
    assert answers(acme, right, lower_case, {**right, "X-Data-Signature": None}) == [200, 200, 200]
    assert verdicts(acme) == ["signature+custom", "signature+custom", "custom"]


def test_wrong_custom_header_fails_despite_a_right_signature(organizations: Organizations) -> None:
    acme = organizations.adopt("acme", CUSTOM)
    attempts: list[str | None] = [None, "", "the-token", ON_THE_WIRE + "x", "\u00ff\u00fe"]
    assert answers(acme, *({"X-Webhook-Token": attempt} for attempt in attempts)) == [401] * len(attempts)
    assert verdicts(acme) == []


@pytest.mark.parametrize("credentials", [None, BASIC, CUSTOM], ids=["none", "basic", "custom"])
def test_a_wrong_signature_is_refused_whatever_else_is_right(
    organizations: Organizations, credentials: Credentials | None
) -> None:
    acme = organizations.adopt("acme", credentials)
    token = {"X-Webhook-Token": ON_THE_WIRE} if credentials is CUSTOM else {}
    wrong = ["", "0" * 64, "\u00e9" * 64, "sha256=" + "0" * 64, "x" * 5000]
    assert answers(acme, *({**token, "X-Data-Signature": value} for value in wrong)) == [401] * len(wrong)
    assert verdicts(acme) == []


def test_credentials_fail_at_the_endpoint_of_another_tenant(organizations: Organizations) -> None:
    acme, globex = organizations.adopt("acme"), organizations.adopt("globex")
    content = b"{}"
    headers = globex.registration.headers(EVENT, content)
    assert acme.client.post(acme.path, data=content, headers=headers).status_code == 401
    assert acme.client.post(globex.path, data=content, headers=headers).status_code == 200


def test_all_that_is_not_authentic_is_answered_alike(organizations: Organizations) -> None:
    acme = organizations.adopt("acme", BASIC)
    attempts: list[dict[str, str | None]] = [
        {"Authorization": None},
        {"Authorization": "nonsense"},
        {"Authorization": basic("opencard:wrong")},
        {"X-Data-Signature": "0" * 64},
    ]
    responses = [acme.deliver(EVENT, b"{}", headers=attempt) for attempt in attempts]
    assert len({(response.status_code, response.data, str(response.headers)) for response in responses}) == 1


def test_credentials_alone_fail_if_signatures_are_required(organizations: Organizations, settings: Settings) -> None:
    acme = organizations.adopt("acme", BASIC)
    with receiver_with(settings, signature_policy=SignaturePolicy.REQUIRED) as app:
        acme.client = app.test_client()
        assert answers(acme, {"X-Data-Signature": None}, {}) == [401, 200]
    assert verdicts(acme) == ["signature+basic"]

"""Answers: what is not documented is tolerated, what contradicts the contract is named, and no secret is logged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import stamina

from receiver.errors import UnreadableAnswer
from receiver.logs import configure_logs
from receiver.opencard.client import OpenCard
from receiver.opencard.oauth_clients import get_client, list_clients
from receiver.opencard.scopes import SCOPES
from receiver.opencard.tokens import MemoryTokens
from receiver.opencard.webhooks import RegisteredHeader, Webhooks
from receiver.sandbox.provider import ApiFault
from receiver.settings import LogFormat
from tests.opencard.conftest import SECRET, ApiWorld, as_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Request, Response

    from receiver.opencard.auth import Access

    Answering = Callable[[Callable[[Request], Response]], Access]


def answered(answering: Answering, answer: object) -> OpenCard:
    return OpenCard(answering(lambda _: as_json(answer)), SCOPES, MemoryTokens())


WEBHOOK = {"id": 7, "url": "https://hooks.example.com/1", "enabled": True, "active": False}


@pytest.mark.parametrize(
    "answer",
    [
        {**WEBHOOK, "flags": ["new"], "created_at": None, "links": {"self": "/7"}},
        {**WEBHOOK, "id": "7"},
        {"data": WEBHOOK},
        {**WEBHOOK, "enabled": 1, "active": 0},
    ],
    ids=["unknown fields", "a number as a text", "wrapped", "numbers for yes and no"],
)
def test_undocumented_fields_are_no_error(answering: Answering, answer: object) -> None:
    with answered(answering, answer) as api:
        webhook = Webhooks(api).get(1, 7)
    assert (webhook.id, webhook.url, webhook.enabled, webhook.active) == (7, WEBHOOK["url"], True, False)


@pytest.mark.parametrize(
    "answer",
    [
        {**WEBHOOK, "id": "seven"},
        {**WEBHOOK, "id": None},
        {**WEBHOOK, "active": "perhaps"},
        {**WEBHOOK, "url": 7},
        {"url": "https://hooks.example.com"},
        [WEBHOOK],
        "webhook",
        None,
    ],
)
def test_wrong_type_is_unreadable_and_names_route_and_field(answering: Answering, answer: object) -> None:
    with (
        answered(answering, answer) as api,
        pytest.raises(UnreadableAnswer, match=r"^GET .*/webhooks/7 .*not what is documented \(.+\); check that OPENC"),
    ):
        Webhooks(api).get(1, 7)


@pytest.mark.parametrize(
    "answer", [{"data": {}}, {"data": [1]}, {"items": []}, {"data": [], "last_page": "x"}, {"data": [{"id": "x"}]}, 7]
)
def test_invalid_list_is_an_unreadable_answer(answering: Answering, answer: object) -> None:
    with answered(answering, answer) as api, pytest.raises(UnreadableAnswer, match="not what is documented"):
        Webhooks(api).organizations()


def test_lists_that_shift_between_pages_are_read_completely(world: ApiWorld) -> None:
    wanted = {world.organization.id} | {world.provider.state.add_organization(f"o{n}").id for n in range(10)}
    seeds = list(range(6))

    def shift(_path: str, _page: int) -> None:
        if seeds:
            world.provider.state.shuffle(seeds.pop())

    world.provider.behaviour.before_page = shift
    found = [organization.id for organization in Webhooks(world.api("organizations-read")).organizations()]
    assert set(found) == wanted
    assert len(found) == len(wanted)


def test_clients_are_listed_without_secrets(world: ApiWorld) -> None:
    for number in range(4):
        world.provider.clients.add(f"client-{number}", name="another", scopes=["webhooks-read"])
    api = world.api("oauth-clients-read")
    found = list_clients(api)
    assert {client.id for client in found} == {"ems", "client-0", "client-1", "client-2", "client-3"}
    assert get_client(api, "client-1").scope_names == ["webhooks-read"]
    assert all(client.secret is None for client in found)


def test_repr_hides_a_header_value(world: ApiWorld) -> None:
    webhook = world.add_webhook()
    world.provider.state.add_header(webhook, "X-Key", "the-header-value")
    (header,) = Webhooks(world.api("webhook-headers-read")).headers(world.organization.id, webhook)
    assert header == RegisteredHeader(header.id, "X-Key", "the-header-value")
    assert "the-header-value" not in repr(header)


@pytest.mark.usefixtures("unchanged_logging")
def test_no_secret_is_logged_and_stdout_stays_empty(world: ApiWorld, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="DEBUG", log_format=LogFormat.JSON)
    stamina.instrumentation.set_on_retry_hooks(None)  # those that a new process has
    world.provider.faults.add(ApiFault.answers(503, path="/api/"))
    world.provider.faults.add(ApiFault("hang-up-after", path="/webhooks$", method="POST"))
    api = world.api("webhooks-read", "webhooks-write")
    sent: dict[str, Any] = {
        "url": f"{world.url}/hooks",
        "secret": "the-webhook-secret",
        "authentication_type": "basic",
        "basic_username": "opencard",
        "basic_password": "the-basic-password",
    }
    Webhooks(api).create(world.organization.id, sent)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "retry_scheduled" in captured.err
    assert "opencard.answered" in captured.err
    for secret in (SECRET, api._auth.token().value, "the-webhook-secret", "the-basic-password"):
        assert secret not in captured.err

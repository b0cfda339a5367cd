"""Retries of requests to OpenCard: which requests, after which pauses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from typing import TYPE_CHECKING

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import ApiUnavailable, OpenCardError, OutcomeUnknown
from receiver.opencard import auth, client
from receiver.opencard.client import ATTEMPTS, MAX_PAUSE, MAX_RETRY_AFTER
from receiver.opencard.failures import retry_after
from receiver.opencard.oauth_clients import create_client
from receiver.opencard.webhooks import Webhooks
from receiver.sandbox.provider import ApiFault
from tests.opencard.conftest import SECRET, ApiWorld

if TYPE_CHECKING:
    from collections.abc import Callable

PASSING = [ApiFault.answers(status) for status in (429, 500, 502, 503, 504)] + [ApiFault("hang-up-before")]
IDS = ["429", "500", "502", "503", "504", "connection closed"]


def url_of(world: ApiWorld, number: int = 1) -> str:
    return f"{world.url}/hooks/{number}"


def fault(world: ApiWorld, like: ApiFault, *, method: str, times: int) -> None:
    world.provider.faults.add(
        ApiFault(like.kind, "/api/", method, times, status=like.status, retry_after=like.retry_after)
    )


@pytest.mark.parametrize("passing", PASSING, ids=IDS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_safe_request_is_retried_until_it_succeeds(
    world: ApiWorld, pauses: list[float], method: str, passing: ApiFault
) -> None:
    webhook = world.add_webhook()
    header = world.provider.state.add_header(webhook, "X-Key", "value").id
    fault(world, passing, method=method, times=2)
    webhooks = Webhooks(world.api("webhooks-read", "webhooks-write", "webhook-headers-delete"))
    match method:
        case "GET":
            assert webhooks.get(world.organization.id, webhook).id == webhook
        case "PUT":
            webhooks.update(world.organization.id, webhook, {"enabled": False})
            assert not world.provider.state.webhook(webhook).enabled
        case "DELETE":
            webhooks.remove_header(world.organization.id, webhook, header)
            assert not world.provider.state.webhook(webhook).headers
    assert world.asked(method) == 3
    assert len(pauses) == 2


def test_pauses_grow_and_the_attempts_end(world: ApiWorld, pauses: list[float]) -> None:
    fault(world, ApiFault.answers(503), method="GET", times=99)
    with pytest.raises(ApiUnavailable):
        Webhooks(world.api("organizations-read")).organizations()
    assert world.asked() == ATTEMPTS
    assert len(pauses) == ATTEMPTS - 1
    assert pauses[-1] > pauses[0]
    assert max(pauses) <= MAX_PAUSE


def test_refused_connection_is_retried_and_then_named(world: ApiWorld, pauses: list[float]) -> None:
    webhooks = Webhooks(world.api("organizations-read"))
    webhooks.organizations()  # the token is there
    fault(world, ApiFault("hang-up-before"), method="GET", times=99)
    with pytest.raises(ApiUnavailable, match=r"no answer \(\w+\)"):
        webhooks.organizations()
    assert len(pauses) == ATTEMPTS - 1


def test_post_without_a_token_is_not_sent_and_retried(pauses: list[float], world: ApiWorld) -> None:
    world.provider.faults.add(ApiFault.answers(503, path="/oauth/token", times=2))
    created = Webhooks(world.api("webhooks-write")).create(world.organization.id, {"url": url_of(world)})
    assert world.asked("POST") == 1
    assert len(pauses) == 2
    assert [webhook.id for webhook in world.provider.state.webhooks()] == [created.id]


def test_address_without_a_server_is_named(world: ApiWorld, pauses: list[float], nowhere: str) -> None:
    access = type(world.access)(nowhere, "1", "ems", SECRET)
    with pytest.raises(ApiUnavailable, match=rf"no answer \(ConnectError\) from {nowhere}; check OPENCARD_API_URL"):
        Webhooks(world.api("organizations-read", access=access)).organizations()
    assert len(pauses) == ATTEMPTS - 1


@pytest.mark.parametrize("seconds", ["0", "7"])
def test_retry_after_in_seconds_is_waited_for(world: ApiWorld, pauses: list[float], seconds: str) -> None:
    fault(world, ApiFault.answers(429, retry_after=seconds), method="GET", times=1)
    Webhooks(world.api("organizations-read")).organizations()
    assert pauses == [float(seconds)]


def test_retry_after_as_a_date_is_waited_for(world: ApiWorld, pauses: list[float]) -> None:
    until = datetime.now(UTC) + timedelta(seconds=30)
    fault(world, ApiFault.answers(503, retry_after=format_datetime(until, usegmt=True)), method="GET", times=1)
    Webhooks(world.api("organizations-read")).organizations()
    (pause,) = pauses
    assert 20 < pause <= 30


def test_post_is_retried_after_retry_after(world: ApiWorld, pauses: list[float]) -> None:
    fault(world, ApiFault.answers(429, retry_after="3"), method="POST", times=1)
    Webhooks(world.api("webhooks-write")).create(world.organization.id, {"url": url_of(world)})
    assert pauses == [3]
    assert len(world.provider.state.webhooks()) == 1


def test_too_long_retry_after_is_an_error_at_once(world: ApiWorld, pauses: list[float]) -> None:
    fault(world, ApiFault.answers(429, retry_after=str(int(MAX_RETRY_AFTER) + 1)), method="GET", times=1)
    with pytest.raises(ApiUnavailable) as unavailable:
        Webhooks(world.api("organizations-read")).organizations()
    assert unavailable.value.retry_after == MAX_RETRY_AFTER + 1
    assert (world.asked(), pauses) == (1, [])


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
def test_refusal_is_not_retried(world: ApiWorld, pauses: list[float], status: int) -> None:
    fault(world, ApiFault.answers(status), method="PUT", times=99)
    with pytest.raises(OpenCardError):
        Webhooks(world.api("webhooks-write")).update(world.organization.id, 7, {"enabled": False})
    assert (world.asked(), pauses) == (1, [])


@pytest.mark.parametrize("kind", ["hang-up-after", "hang-up-before", "answer"])
def test_webhook_is_created_once_even_if_answers_are_lost(world: ApiWorld, pauses: list[float], kind: str) -> None:
    for number in range(1, 5):
        world.provider.state.add_webhook(world.organization.id, url_of(world, 100 + number))
    world.provider.faults.add(ApiFault(kind, r"/webhooks$", "POST"))  # type: ignore[arg-type]
    webhooks = Webhooks(world.api("webhooks-read"), world.api("webhooks-write"))
    created = webhooks.create(world.organization.id, {"url": url_of(world)})
    registered = [webhook for webhook in world.provider.state.webhooks() if webhook.url == url_of(world)]
    assert [webhook.id for webhook in registered] == [created.id]
    assert world.asked("POST") == (1 if kind == "hang-up-after" else 2)
    assert len(pauses) == 1


def test_header_and_group_are_added_once_if_answers_are_lost(world: ApiWorld) -> None:
    webhook = world.add_webhook()
    world.provider.faults.add(ApiFault("hang-up-after", r"/(headers|groups)$", "POST", times=2))
    webhooks = Webhooks(
        world.api("webhook-headers-read", "webhook-groups-read"),
        world.api("webhook-headers-write", "webhook-groups-write"),
    )
    webhooks.add_header(world.organization.id, webhook, key="X-Key", value="value")
    webhooks.add_group(world.organization.id, webhook, buyer_party="5561234567")
    registered = world.provider.state.webhook(webhook)
    assert [header.key for header in registered.headers] == ["X-Key"]
    assert [group.buyer_party for group in registered.groups] == ["5561234567"]
    assert world.asked("POST") == 2


def test_request_without_a_lookup_is_not_repeated(world: ApiWorld, pauses: list[float]) -> None:
    world.provider.faults.add(ApiFault("hang-up-after", r"/oauthclients$", "POST"))
    with pytest.raises(OutcomeUnknown, match=r"receiver clients list shows whether it was made.*its secret is lost"):
        create_client(world.api("oauth-clients-write"), name="another", scopes=["webhooks-read"])
    assert [each.name for each in world.provider.clients.of_account(1)] == ["EMS", "another"]
    assert pauses == []


def test_resource_deleted_by_a_lost_try_counts_as_deleted(world: ApiWorld) -> None:
    webhook = world.add_webhook()
    header = world.provider.state.add_header(webhook, "X-Key", "value").id
    world.provider.faults.add(ApiFault("hang-up-after", method="DELETE"))
    Webhooks(world.api("webhook-headers-delete")).remove_header(world.organization.id, webhook, header)
    assert not world.provider.state.webhook(webhook).headers


@pytest.mark.parametrize(("method", "kind"), [("GET", ApiUnavailable), ("POST", OutcomeUnknown)])
def test_late_answer_ends_the_wait(
    world: ApiWorld, monkeypatch: pytest.MonkeyPatch, method: str, kind: type[Exception]
) -> None:
    monkeypatch.setattr(auth, "READ_SECONDS", 0.05)
    monkeypatch.setattr(client, "ATTEMPTS", 2)
    world.provider.faults.add(ApiFault("slow", "/api/", seconds=60, times=2))
    webhook = world.add_webhook()
    webhooks = Webhooks(world.api("webhooks-read", "webhooks-write"))
    asks: dict[str, Callable[[], object]] = {
        "GET": partial(webhooks.get, world.organization.id, webhook),
        "POST": partial(webhooks.send_test, world.organization.id, webhook, "tpa.signed"),
    }
    with pytest.raises(kind, match=r"no answer \(ReadTimeout\)"):
        asks[method]()


def test_token_endpoint_retry_after_is_bounded_by_the_time_out(
    world: ApiWorld, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    monkeypatch.setattr(auth, "READ_SECONDS", 0.05)
    world.provider.faults.add(ApiFault.answers(429, path="/oauth/token", retry_after="5"))
    world.provider.faults.add(ApiFault("slow", "/oauth/token", seconds=60, times=99))
    with pytest.raises(ApiUnavailable, match=r"POST /oauth/token \(client ems\): no answer \(ReadTimeout\)"):
        Webhooks(world.api("organizations-read")).organizations()
    assert pauses[0] == 5
    assert world.asked() == 0


dates = st.builds(
    "{}, {} {} {} {}:{}:{} {}".format,
    st.sampled_from(["Fri", "", "x"]),
    st.integers(0, 40),
    st.sampled_from(["Dec", "13", ""]),
    st.integers(0, 99999),
    st.integers(0, 30),
    st.integers(0, 99),
    st.integers(0, 99),
    st.sampled_from(["GMT", "-0000", "+9999", "", "\xff"]),
)


@given(text=st.text(st.characters(max_codepoint=255)) | dates)
def test_any_retry_after_is_seconds_or_none(text: str) -> None:
    seconds = retry_after(httpx.Response(429, headers=[(b"Retry-After", text.encode("latin-1"))]))
    assert seconds is None or seconds >= 0

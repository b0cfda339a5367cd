"""Faults on demand, and the record of the requests."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from receiver.errors import OperationRefused
from receiver.sandbox.provider import ApiFault, Provider, SeenRequest, serving
from tests.support.provider_ends import ServedProvider, opencard, webhooks_of
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

ORGANIZATIONS = "/accounts/1/organizations"
NOWHERE = "http://127.0.0.1:1/hook"


@pytest.fixture
def party() -> Iterator[ServedProvider]:
    with opencard() as party:
        yield party


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_fault_applies_to_the_next_matching_requests(party: ServedProvider, status: int) -> None:
    party.provider.faults.add(ApiFault.answers(status, path="/organizations$", times=2, retry_after="7"))
    assert party.call("GET", "/accounts/1/oauthclients").status_code == 200
    answers = [party.call("GET", ORGANIZATIONS) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [status, status, 200]
    assert [answer.headers.get("Retry-After") for answer in answers] == ["7", "7", None]
    assert answers[0].json()["error"]


def test_faults_match_method_and_path_oldest_first(party: ServedProvider) -> None:
    acme = party.provider.state.add_organization("acme")
    date = "Mon, 12 Jan 2026 08:00:00 GMT"
    party.provider.faults.add(ApiFault.answers(503, method="POST", path="/webhooks$", retry_after=date))
    party.provider.faults.add(ApiFault.answers(500, path="/webhooks$"))
    assert party.call("GET", webhooks_of(acme)).status_code == 500
    refused = party.call("POST", webhooks_of(acme), json={"url": NOWHERE})
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, date)
    assert party.provider.state.webhooks() == []
    assert party.provider.faults.waiting() == []


def test_the_token_endpoint_can_fail_too(party: ServedProvider) -> None:
    party.provider.faults.add(ApiFault.answers(500, path="^/oauth/token$"))
    assert [party.ask_for_token().status_code for _ in range(2)] == [500, 200]


def test_slow_request_is_answered_unless_the_caller_gives_up(party: ServedProvider) -> None:
    party.provider.faults.add(ApiFault("slow", seconds=60))
    with pytest.raises(httpx.ReadTimeout):
        party.call("GET", ORGANIZATIONS, timeout=0.05)
    party.provider.faults.add(ApiFault("slow", seconds=0.05))
    begun = time.monotonic()
    assert party.call("GET", ORGANIZATIONS).status_code == 200
    assert time.monotonic() - begun >= 0.05


def test_a_token_can_expire_with_the_next_request(party: ServedProvider) -> None:
    party.provider.faults.add(ApiFault("expire-token", path="/organizations"))
    assert [party.call("GET", ORGANIZATIONS).status_code for _ in range(2)] == [401, 401]
    assert party.call("GET", ORGANIZATIONS, token=party.token("organizations-read")).status_code == 200


def test_a_connection_can_break_before_anything_is_done(party: ServedProvider) -> None:
    acme = party.provider.state.add_organization("acme")
    party.provider.faults.add(ApiFault("hang-up-before", method="POST"))
    with pytest.raises(httpx.TransportError):
        party.call("POST", webhooks_of(acme), json={"url": NOWHERE})
    assert party.provider.state.webhooks() == []
    [request] = party.provider.requests.all(method="POST", path="/webhooks")
    assert (request.status, request.answered) == (None, False)


def test_connection_can_break_after_the_effect(party: ServedProvider) -> None:
    acme = party.provider.state.add_organization("acme")
    party.provider.faults.add(ApiFault("hang-up-after", method="POST"))
    with pytest.raises(httpx.TransportError):
        party.call("POST", webhooks_of(acme), json={"url": NOWHERE})
    [webhook] = party.get(webhooks_of(acme))["data"]
    assert webhook["url"] == NOWHERE
    [request] = party.provider.requests.all(method="POST", path="/webhooks")
    assert (request.status, request.answered) == (201, False)


def test_control_routes_need_no_token(party: ServedProvider) -> None:
    del party.http.headers["Authorization"]
    fault = {"kind": "answer", "status": 429, "retry_after": "1", "path": "/organizations$", "times": 2}
    assert party.http.post("/sandbox/faults", json=fault).status_code == 201
    assert party.call("GET", ORGANIZATIONS).status_code == 429
    assert party.http.get("/sandbox/faults").json()[0]["times"] == 1
    assert party.http.delete("/sandbox/faults").status_code == 204
    assert party.call("GET", ORGANIZATIONS).status_code == 401
    asked = [(seen["path"], seen["status"]) for seen in party.http.get("/sandbox/requests").json()]
    assert asked[1:] == [(f"/api/v1/application{ORGANIZATIONS}", 429), (f"/api/v1/application{ORGANIZATIONS}", 401)]


@pytest.mark.parametrize("fault", [b"{", b'{"kind": "earthquake"}', b'{"kind": "slow", "path": "("}'])
def test_a_fault_that_does_not_exist_is_refused(party: ServedProvider, fault: bytes) -> None:
    answer = party.http.post("/sandbox/faults", content=fault)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_requests_are_recorded_with_their_scopes() -> None:
    with opencard(scopes=["organizations-read", "webhooks-read"]) as party:
        party.provider.requests.clear()
        token = party.token("organizations-read")
        party.call("GET", ORGANIZATIONS, token=token, params={"page": 2})
        party.call("GET", "/accounts/1/oauthclients", token=token)
        asked, listed, refused = party.provider.requests.all()
    assert asked == SeenRequest(
        "POST",
        "/oauth/token",
        {},
        200,
        client_id="ems",
        scopes_asked=frozenset({"organizations-read"}),
        body={
            "grant_type": "client_credentials",
            "client_id": "ems",
            "client_secret": party.client.secret,
            "scope": "organizations-read",
        },
    )
    assert (listed.query, listed.status) == ({"page": "2"}, 200)
    assert listed.scopes == frozenset({"organizations-read"})
    assert (refused.status, refused.client_id) == (403, "ems")
    assert party.provider.requests.scopes_asked() == party.provider.requests.scopes_used() == {"organizations-read"}


def test_many_clients_are_served_at_once(party: ServedProvider) -> None:
    threading.Barrier(4, timeout=20)
    party.provider.behaviour.before_page = lambda _path, _page: None
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(party.call("GET", ORGANIZATIONS).status_code)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 4


def test_port_in_use_is_reported_in_one_line(party: ServedProvider) -> None:
    port = int(party.url.rpartition(":")[2])
    with pytest.raises(OperationRefused, match=str(port)), serving(Provider(), port=port):
        raise AssertionError


def test_slow_request_has_no_effect_after_shutdown() -> None:
    with opencard() as party:
        acme = party.provider.state.add_organization("acme")
        party.provider.faults.add(ApiFault("slow", method="POST", path="/webhooks$", seconds=60))
        with pytest.raises(httpx.ReadTimeout):
            party.call("POST", webhooks_of(acme), json={"url": NOWHERE}, timeout=0.05)
    assert eventually(lambda: bool(party.provider.requests.all(method="POST", path="/webhooks")))
    assert party.provider.state.webhooks() == []


def test_the_server_ends_with_its_block() -> None:
    with serving(Provider()) as url:
        assert httpx.get(f"{url}/sandbox/requests", trust_env=False).json() == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)

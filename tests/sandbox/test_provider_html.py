"""Clients that do not accept JSON get HTML instead of an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from receiver.sandbox.provider import ApiFault
from tests.support.provider_ends import ServedProvider, opencard

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

ACCEPTS = [{}, {"Accept": "*/*"}, {"Accept": "text/html"}]
ERRORS = [
    ("POST", "/oauth/token"),
    ("GET", "/api/v1/application/accounts/2/organizations"),
    ("GET", "/api/v1/application/nowhere"),
    ("GET", "/files/receipts/1.pdf"),
    ("GET", "/files/tpas/1.pdf"),
]


@pytest.fixture(params=["redirect", "page"])
def party(request: pytest.FixtureRequest) -> Iterator[ServedProvider]:
    with opencard(html_errors=request.param) as party:
        del party.http.headers["Accept"], party.http.headers["Authorization"]
        yield party


def is_login(party: ServedProvider, answer: httpx.Response) -> bool:
    if party.provider.behaviour.html_errors == "redirect":
        assert (answer.status_code, answer.headers["Location"]) == (302, "/login")
        answer = party.http.get("/login")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    return 'type="password"' in answer.text


@pytest.mark.parametrize("accept", ACCEPTS, ids=str)
@pytest.mark.parametrize(("method", "path"), ERRORS)
def test_errors_are_html_without_accept(party: ServedProvider, method: str, path: str, accept: dict[str, str]) -> None:
    assert is_login(party, party.http.request(method, path, headers=accept))


@pytest.mark.parametrize(("method", "path"), ERRORS)
def test_errors_are_json_for_who_accepts_it(party: ServedProvider, method: str, path: str) -> None:
    answer = party.http.request(method, path, headers={"Accept": "application/json, */*"})
    assert answer.status_code in {400, 401, 404}
    assert "error" in answer.json()


def test_a_success_is_json_in_any_case(party: ServedProvider) -> None:
    party.http.headers["Accept"] = "application/json"
    token = party.token("organizations-read")
    party.http.headers["Accept"] = "*/*"
    assert party.call("GET", "/accounts/1/organizations", token=token).json()["total"] == 0


@pytest.mark.parametrize("kind", ["login-page", "login-redirect"])
def test_a_fault_answers_so_whatever_is_accepted(party: ServedProvider, kind: str) -> None:
    party.provider.faults.add(ApiFault(kind, path="/oauth/token"))  # type: ignore[arg-type]
    answer = party.http.post("/oauth/token", headers={"Accept": "application/json"})
    assert answer.status_code == (200 if kind == "login-page" else 302)

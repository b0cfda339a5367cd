"""An HTML page, or a redirect to one, is a refusal: one typed error, one renewal of the token, never a receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from werkzeug.wrappers import Request, Response

from receiver.errors import HtmlAnswer, OpenCardError
from receiver.opencard.auth import Access
from receiver.opencard.client import OpenCard
from receiver.opencard.routes import TOKEN_PATH
from receiver.opencard.tokens import MemoryTokens
from receiver.opencard.webhooks import Webhooks
from tests.opencard.conftest import SECRET, as_json
from tests.support.serving import served

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.opencard.conftest import ApiWorld

    Answering = Callable[[Callable[[Request], Response]], Access]

PAGE = "<!doctype html><html><form><input type=password></form></html>"
NO_ORGANIZATIONS = {"data": [], "last_page": 1, "total": 0}


def login_page(_request: Request) -> Response:
    return Response(PAGE, 200, content_type="text/html; charset=UTF-8")


def login_redirect(_request: Request) -> Response:
    return Response("", 302, {"Location": "/login?next=%2Fsecret"}, content_type="text/html")


@pytest.mark.parametrize(
    ("answer", "what"),
    [(login_page, "200 with an HTML page"), (login_redirect, "302, a redirect to /login,")],
    ids=["page", "redirect"],
)
def test_html_answer_is_one_typed_error(answering: Answering, answer: Callable[[Request], Response], what: str) -> None:
    api = OpenCard(answering(answer), ["organizations-read"], MemoryTokens())
    with api, pytest.raises(HtmlAnswer) as raised:
        Webhooks(api).organizations()
    error = raised.value
    assert f"OpenCard answers {what} instead of JSON" in str(error)
    assert "GET /api/v1/application/accounts/1/organizations (scope organizations-read, account 1)" in str(error)
    assert "OPENCARD_API_URL" in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize("answer", [login_page, login_redirect], ids=["page", "redirect"])
def test_token_refused_with_html_is_renewed_once(answer: Callable[[Request], Response]) -> None:
    tokens: list[str] = []
    refused: list[str] = []

    @Request.application
    def app(request: Request) -> Response:
        request.get_data()
        if request.path == TOKEN_PATH:
            tokens.append(f"token-{len(tokens)}")
            return as_json({"token_type": "Bearer", "expires_in": 3600, "access_token": tokens[-1]})
        if request.headers["Authorization"] == "Bearer token-0":
            refused.append(request.path)
            return answer(request)
        return as_json(NO_ORGANIZATIONS)

    with served(app) as url, OpenCard(_access(url), ["organizations-read"], MemoryTokens()) as api:
        assert Webhooks(api).organizations() == []
    assert (len(tokens), len(refused)) == (2, 1)


def test_html_answer_of_the_token_endpoint_is_an_error() -> None:
    with served(Request.application(login_page)) as url:
        api = OpenCard(_access(url), ["organizations-read"], MemoryTokens())
        with pytest.raises(HtmlAnswer) as raised:
            api.authenticate()
        api.close()
    error = raised.value
    assert "POST /oauth/token (client ems): OpenCard answers 200 with an HTML page instead of JSON" in str(error)
    assert SECRET not in str(error)


def test_every_request_accepts_json_first() -> None:
    accepted: dict[str, str] = {}

    @Request.application
    def app(request: Request) -> Response:
        request.get_data()
        accepted[request.path] = request.headers.get("Accept", "")
        if request.path == TOKEN_PATH:
            return as_json({"token_type": "Bearer", "expires_in": 3600, "access_token": "t"})
        return as_json(NO_ORGANIZATIONS)

    with served(app) as url, OpenCard(_access(url), ["organizations-read"], MemoryTokens()) as api:
        Webhooks(api).organizations()
    assert accepted == {
        TOKEN_PATH: "application/json",
        "/api/v1/application/accounts/1/organizations": "application/json",
    }


@pytest.mark.parametrize("status", [404, 500, 503])
def test_html_page_with_an_error_status_is_that_error(answering: Answering, status: int, pauses: list[float]) -> None:
    def answer(_request: Request) -> Response:
        return Response(PAGE, status, content_type="text/html")

    api = OpenCard(answering(answer), ["organizations-read"], MemoryTokens())
    with api, pytest.raises(OpenCardError) as raised:
        Webhooks(api).organizations()
    error = raised.value
    assert not isinstance(error, HtmlAnswer)
    assert str(status) in str(error)
    assert len(pauses) == (0 if status == 404 else 5)


def test_pages_of_a_hundred_items_are_requested(world: ApiWorld) -> None:
    Webhooks(world.api("organizations-read")).organizations()
    (asked,) = world.provider.requests.all(path="/api/")
    assert asked.query == {"page": "1", "per_page": "100"}


def _access(url: str) -> Access:
    return Access(url, "1", "ems", SECRET)

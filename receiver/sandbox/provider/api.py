"""The HTTP API as a Flask app: token endpoint, application API, files, and the sandbox's own switches.

The steps of a request: a fault that is set for it → the token and its scope → the account and organization of the path
→ the route → the record of requests.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from receiver.sandbox.provider.call import Call
from receiver.sandbox.provider.control import control_routes
from receiver.sandbox.provider.files import answer_file, answer_tpa_document
from receiver.sandbox.provider.html import LOGIN, accepts_json, instead_of_an_error, login_page
from receiver.sandbox.provider.refusals import Refused, forbidden, malformed, not_found, unauthenticated
from receiver.sandbox.provider.requests import SeenRequest
from receiver.sandbox.provider.routes import ROUTES
from receiver.sandbox.provider.scopes import APPLICATION, SCOPE_OF
from receiver.sandbox.receipt_files import PATH, TPA_PATH
from receiver.sandbox.story_events import write

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.sandbox.provider.faults import ApiFault
    from receiver.sandbox.provider.provider import Provider
    from receiver.sandbox.provider.resources import IssuedToken
    from receiver.sandbox.provider.routes import Route

TOKEN_PATH: Final = "/oauth/token"  # noqa: S105 - a path
CONTROL: Final = "/sandbox/"
_INTERNAL: Final = HTTPStatus.INTERNAL_SERVER_ERROR


@dataclass(slots=True)
class _RequestContext:
    """What is known so far of the request under way."""

    fault: ApiFault | None = None
    token: IssuedToken | None = None
    answered: bool = True


def create_api(provider: Provider) -> Flask:
    """Return the app that serves *provider*."""
    app = Flask("opencard-sandbox", static_folder=None)
    app.add_url_rule(TOKEN_PATH, "token", _token_view(provider), methods=["POST"])
    for (method, path), route in ROUTES.items():
        view = _guarded(provider, SCOPE_OF[method, path], path, route)
        app.add_url_rule(f"{APPLICATION}{path}", f"{method} {path}", view, methods=[method])
    app.add_url_rule(f"{PATH}<name>", "file", _file_view(provider, answer_file))
    app.add_url_rule(f"{TPA_PATH}<name>", "tpa document", _file_view(provider, answer_tpa_document))
    app.register_blueprint(control_routes(provider))
    app.add_url_rule(LOGIN, "login", login_page)
    app.register_error_handler(Refused, lambda refused: _error(provider, refused.status, refused.fields))
    app.register_error_handler(
        HTTPException, lambda error: _error(provider, error.code or _INTERNAL, {"error": error.name})
    )
    app.before_request(lambda: _misbehave(provider))
    app.after_request(lambda response: _record_request(provider, response))
    return app


def _answer(status: int, fields: dict[str, object] | None) -> Response:
    return Response(b"" if fields is None else write(fields), status, mimetype="application/json")


def _error(provider: Provider, status: int, fields: dict[str, object]) -> Response:
    if request.path.startswith(CONTROL) or accepts_json():
        return _answer(status, fields)
    return instead_of_an_error(provider.behaviour.html_errors)


def _token_view(provider: Provider) -> Callable[[], Response]:
    def view() -> Response:
        if request.mimetype != "application/x-www-form-urlencoded":
            raise malformed("invalid_request")
        behaviour = provider.behaviour
        token = provider.clients.issue(
            request.form, expires_in=behaviour.expires_in, grants_silently=behaviour.grants_silently
        )
        return _answer(
            HTTPStatus.OK,
            {"token_type": "Bearer", "expires_in": behaviour.expires_in, "access_token": token.value},
        )

    return view


def _file_view(
    provider: Provider, answer: Callable[[Provider, str, IssuedToken | None, ApiFault | None], Response]
) -> Callable[[str], Response]:
    def view(name: str) -> Response:
        seen().token = token = provider.clients.token(_bearer())
        return answer(provider, name, token, seen().fault)

    return view


def _guarded(provider: Provider, scope: str, path: str, route: Route) -> Callable[..., Response]:
    def view(account: int, organization: int | None = None, **names: Any) -> Response:  # noqa: ANN401 - of the path
        if {path, f"{request.method} {path}"} & provider.behaviour.routes_off:
            raise Refused(HTTPStatus(provider.behaviour.route_off_status), "There is no such route.")
        token = provider.clients.token(_bearer())
        if token is None:
            raise unauthenticated()
        seen().token = token
        if scope not in token.scopes:
            raise forbidden("Invalid scope(s) provided.")
        if token.account_id != account:
            raise forbidden("This action is unauthorized.")
        owner = None if organization is None else provider.state.organization(organization)
        if owner is not None and owner.account_id != account:
            raise forbidden("This action is unauthorized.")
        webhook = names.pop("webhook", None)
        if webhook is not None and provider.state.webhook(webhook).organization_id != organization:
            raise not_found()
        status, fields = route(Call(provider, account, owner, webhook, names))
        return _answer(status, fields)

    return view


def _bearer() -> str:
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else ""


def seen() -> _RequestContext:
    """Return what is known so far of the request under way."""
    if "seen" not in g:
        g.seen = _RequestContext()
    found: _RequestContext = g.seen
    return found


def _misbehave(provider: Provider) -> Response | None:
    """Let the fault that waits for this request happen; return its answer when it ends here."""
    if request.path.startswith(CONTROL):
        return None
    seen().fault = fault = provider.faults.take(request.method, request.path)
    match fault.kind if fault else None:
        case "answer" if fault:
            response = _error(provider, fault.status, {"error": HTTPStatus(fault.status).phrase})
            if fault.retry_after is not None:
                response.headers["Retry-After"] = fault.retry_after
            return response
        case "slow" if fault:
            if provider.stopping.wait(fault.seconds):
                return _answer(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "The sandbox stops."})
        case "login-page" | "login-redirect" as kind:
            return instead_of_an_error("page" if kind == "login-page" else "redirect")
        case "expire-token":
            provider.clients.revoke(_bearer())
        case "hang-up-before":
            return _answer(HTTPStatus.SERVICE_UNAVAILABLE, None)  # no client will see it
    return None


def _record_request(provider: Provider, response: Response) -> Response:
    """Keep what was asked, and close the connection before the answer when a fault says so."""
    if request.path.startswith(CONTROL):
        return response
    found = seen()
    kind = found.fault.kind if found.fault else None
    form = request.form if request.path == TOKEN_PATH else None
    token = found.token
    provider.requests.add(
        SeenRequest(
            method=request.method,
            path=request.path,
            query=request.args.to_dict(),
            status=None if kind == "hang-up-before" else response.status_code,
            answered=kind not in {"hang-up-before", "hang-up-after"},
            client_id=form.get("client_id") if form is not None else (token.client_id if token else None),
            scopes=token.scopes if token else None,
            scopes_asked=None if form is None else frozenset(form.get("scope", "").split()),
            body=request.get_json(force=True, silent=True) if form is None else form.to_dict(),
        )
    )
    if kind in {"hang-up-before", "hang-up-after"}:
        with suppress(OSError):  # the caller may have gone before
            request.environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    return response

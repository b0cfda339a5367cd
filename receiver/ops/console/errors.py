"""Error pages in the console's layout."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import structlog
from flask import current_app, g, render_template, request, url_for
from flask_wtf.csrf import CSRFError
from psycopg.errors import QueryCanceled
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from werkzeug.exceptions import HTTPException, NotFound

from receiver.errors import OperationRefused

if TYPE_CHECKING:
    from flask import Flask

log = structlog.stdlib.get_logger(__name__)

Answer = tuple[str, int, dict[str, str]]

SAID: Final = {
    404: ("Page not found", "It may have been deleted, or the address is mistyped."),
    405: ("Wrong method", "Go back and use the button of the page."),
    413: ("Form too large", "The form is larger than the console accepts."),
}
BACK: Final = {
    "sign_in.sign_out": "overview.overview",
    "deliveries.replay": "deliveries.delivery",
    "replays.cancel": "replays.replay",
    "webhooks.reconcile": "webhooks.webhook",
    "issues.acknowledge": "issues.issue",
    "issues.resolve": "issues.issue",
    "closings.close": "closings.listing",
}
"""POST → the page that has its form; where none is named, the form has the same address."""
RETRY_AFTER: Final = {"Retry-After": "5"}


def register(app: Flask) -> None:
    """Register the error pages below with *app*."""
    app.register_error_handler(CSRFError, _form_expired)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(OperationRefused, _refused)
    app.register_error_handler(OperationalError, _database_away)
    app.register_error_handler(NoConnectionFree, _busy)
    app.register_error_handler(Exception, _unexpected)


def _page(
    status: int, title: str, words: str, *, headers: dict[str, str] | None = None, back: str = "", again: str = ""
) -> Answer:
    """Return the page; *back* leads to the form or the list, *again* to the same page once more."""
    return render_template("error.html", title=title, words=words, back=back, again=again), status, headers or {}


def _form_expired(_error: CSRFError) -> Answer:
    """Nothing was done: the form is not of this session, which may have ended meanwhile."""
    form = BACK.get(request.endpoint or "")
    return _page(
        400,
        "The form has expired",
        "Nothing was done. Open the form again and submit it; you may have to sign in first.",
        back=url_for(form, **(request.view_args or {})) if form else request.url,
    )


def _http_error(error: HTTPException) -> Answer:
    status = error.code or 500
    title, words = SAID.get(status, (error.name, error.description or ""))
    if status == HTTPStatus.NOT_FOUND and error.description not in {None, NotFound.description}:
        words = str(error.description)
    headers = {name: value for name, value in error.get_headers() if name.lower() in {"allow", "retry-after"}}
    return _page(status, title, words, headers=headers, back=_list() if status == HTTPStatus.NOT_FOUND else "")


def _list() -> str:
    """Return the address of the list to which a page belongs; empty where there is none."""
    endpoint = f"{request.blueprint}.listing"
    return url_for(endpoint) if endpoint in current_app.view_functions and request.endpoint != endpoint else ""


def _refused(refused: OperationRefused) -> Answer:
    message = str(refused)
    message = message[:1].upper() + message[1:]
    if request.method == "GET":
        return _page(404, SAID[404][0], message.partition(";")[0] + ".", back=_list())
    return _page(409, "Not possible", message + ".")


def not_recorded() -> Answer:
    """Say that the record of what was done is missing."""
    return _page(
        503,
        "Not recorded",
        "It was done, but the database does not answer. The log of the web process has the record.",
        headers=RETRY_AFTER,
    )


def _database_away(error: DBAPIError) -> Answer:
    g.error = type(error).__name__
    if isinstance(error.orig, QueryCanceled):
        return _page(
            503,
            "Time-out",
            "Narrow the request: a shorter period or another filter.",
            headers=RETRY_AFTER,
            again=request.url,
        )
    log.warning("console.database_unreachable", error=type(error.orig).__name__)
    return _page(
        503,
        "Database unreachable",
        "Deliveries are answered with 503, and OpenCard sends them again. Try again in a few seconds.",
        headers=RETRY_AFTER,
        again=request.url,
    )


def _busy(error: NoConnectionFree) -> Answer:
    g.error = type(error).__name__
    return _page(
        503,
        "The console is busy",
        "Other users are loading pages. Try again in a few seconds.",
        headers=RETRY_AFTER,
        again=request.url,
    )


def _unexpected(error: Exception) -> Answer:
    g.error = type(error).__name__
    log.error("console.failed", exc_info=error)
    return _page(500, "Internal error", "The log of the web process has the cause.")

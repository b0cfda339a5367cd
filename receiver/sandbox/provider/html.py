"""HTML instead of JSON: how an error is answered to a request that does not accept JSON (contract, section 2)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, Literal, TypeAlias

from flask import Response, request

HtmlErrors: TypeAlias = Literal["redirect", "page"]
LOGIN: Final = "/login"
_PAGE: Final = b"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Sign in</title></head>
<body><form method="post" action="/login">
<input type="email" name="email"> <input type="password" name="password"> <button>Sign in</button>
</form></body></html>
"""


def accepts_json() -> bool:
    """Return whether the request at hand names JSON among what it accepts; any type is not enough."""
    return "application/json" in request.headers.get("Accept", "")


def login_page() -> Response:
    """Return the login page, as if all were well."""
    return Response(_PAGE, HTTPStatus.OK, content_type="text/html; charset=UTF-8")


def instead_of_an_error(kind: HtmlErrors) -> Response:
    """Return what a browser would get instead of an error."""
    if kind == "page":
        return login_page()
    return Response(b"", HTTPStatus.FOUND, {"Location": LOGIN}, content_type="text/html; charset=UTF-8")

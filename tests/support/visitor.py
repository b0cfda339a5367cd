"""A user of the console, as a browser without JavaScript: keeps cookies, follows links, fills in forms."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

PASSWORDS = {"olga": "a-password-of-olga", "vera": "a-password-of-vera"}
TOKEN = re.compile(r'name="csrf_token"[^>]* value="([^"]+)"')


@dataclass
class Visitor:
    """One browser."""

    client: FlaskClient
    address: str = "192.0.2.7"

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.client.get(path, headers=self._headers(), buffered=True, **options)

    def token(self, path: str = "/ops/sign-in") -> str:
        """Return the CSRF token of the form on a page."""
        found = TOKEN.search(self.get(path).text)
        assert found, path
        return unescape(found[1])

    def post(self, path: str, *, form: str = "/ops/sign-in", **fields: str) -> TestResponse:
        """Fill in the form that is on the page *form* and send it to *path*."""
        return self.client.post(path, data={"csrf_token": self.token(form), **fields}, headers=self._headers())

    def sign_in(self, name: str, password: str | None = None, *, target: str = "/ops/sign-in") -> TestResponse:
        return self.post(target, name=name, password=PASSWORDS[name] if password is None else password)

    def _headers(self) -> dict[str, str]:
        return {"X-Forwarded-For": self.address}

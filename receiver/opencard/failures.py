"""Turn a failed answer into a typed error whose text names the request, its scope, and the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus

import msgspec

from receiver.errors import (
    AccessDenied,
    ApiUnavailable,
    Conflict,
    HtmlAnswer,
    InvalidRequest,
    OpenCardError,
    OutcomeUnknown,
    ResourceMissing,
    RouteMissing,
    TokenRefused,
    UnreadableAnswer,
)
from receiver.opencard.routes import API_PATH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import httpx

SENSITIVE: Final = frozenset(
    {"secret", "basic_password", "custom_value", "value", "oauth_client_secret", "client_secret", "access_token"}
)
"""Fields whose values are masked in errors, even if OpenCard's answer repeats them."""
HTML: Final = frozenset({"text/html", "application/xhtml+xml"})
LOGIN: Final = frozenset({"login", "log-in", "signin", "sign-in"})
"""The last part of the path of a login page."""
MASK: Final = "***"
LONGEST_REASON: Final = 300
LONGEST_ANSWER: Final = 65_536
"""Characters of a refusal's body that are kept to find the flags that it names."""
HINTS: Final[dict[type[OpenCardError], str]] = {
    InvalidRequest: "correct what it names and run the command again",
    TokenRefused: "OPENCARD_API_URL and OPENCARD_CLIENT_ID may be of different environments",
    AccessDenied: (
        "either the client lacks the scope (receiver clients set-scopes, or the dashboard), "
        "or the account (OPENCARD_ACCOUNT_ID) or organization is not its own"
    ),
    ResourceMissing: "there is none, or this client may not see it: check OPENCARD_ACCOUNT_ID and the ids",
    RouteMissing: "OpenCard's API does not offer this: do it in the dashboard",
    Conflict: "it may exist already: run the command again, which looks first",
    ApiUnavailable: "try again later; completed steps are kept",
    OutcomeUnknown: "it may have been carried out: run the command again, which looks first",
    HtmlAnswer: (
        "OpenCard refuses a request that way when it does not accept its token, and whatever else listens at "
        "OPENCARD_API_URL does so, too: check that it is OpenCard's API, and what is between"
    ),
    UnreadableAnswer: "check that OPENCARD_API_URL is OpenCard's API",
}


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request as errors describe it."""

    method: str
    route: str
    """The path's template, without ids."""
    path: str
    """Below ``API_PATH``."""
    scope: str
    account: str
    organization: str | None = None

    def __str__(self) -> str:
        """Return route, scope, account and organization."""
        whose = f"account {self.account}"
        if self.organization is not None:
            whose += f", organization {self.organization}"
        return f"{self.method} {API_PATH}{self.path} (scope {self.scope}, {whose})"

    def failed(self, kind: type[OpenCardError], what: str) -> OpenCardError:
        """Make an error with the request, *what* happened, and the remedy."""
        hint = "try again later" if kind is ApiUnavailable and self.method == "GET" else HINTS[kind]
        return kind(f"{self}: {what}; {hint}")


def failure(request: ApiRequest, response: httpx.Response, *, secrets: Iterable[str]) -> OpenCardError:
    """Return the error for an answer that is not a success (contract, section 2). *secrets* are masked in its text.

    A 5xx after a POST may have taken effect: ``OutcomeUnknown``.
    """
    status = response.status_code
    kind = _kind(request.method, status)
    reason_text = reason(response, secrets=secrets)
    failed = request.failed(
        kind, f"OpenCard answers {status} {_phrase(status)}" + (f" ({reason_text})" if reason_text else "")
    )
    failed.answer, failed.words = response.text[:LONGEST_ANSWER], reason_text
    return failed


def is_html_refusal(response: httpx.Response) -> bool:
    """Whether the answer is an HTML page, or a redirect to one, though the request did not accept HTML.

    OpenCard may refuse a request that way (contract, section 2). Where any type is accepted, as for a file, a redirect
    counts only if it leads to a login page.
    """
    accepted = response.request.headers.get("Accept", "")
    if response.has_redirect_location:
        return "*/*" not in accepted or _location(response).rpartition("/")[2].lower() in LOGIN
    return (
        response.is_success and "text/html" not in accepted and media_type(response.headers.get("Content-Type")) in HTML
    )


def html_refusal(response: httpx.Response) -> str:
    """Describe such an answer for an error: its status, and the target of the redirect without its query."""
    if response.has_redirect_location:
        return f"OpenCard answers {response.status_code}, a redirect to {_location(response)}, instead of JSON"
    return f"OpenCard answers {response.status_code} with an HTML page instead of JSON"


def media_type(content_type: str | None) -> str:
    """Return a ``Content-Type`` without its parameters, in lower case; empty for none."""
    return (content_type or "").partition(";")[0].strip().lower()


def _location(response: httpx.Response) -> str:
    """Return the target of a redirect without its query, which may contain a secret."""
    return response.headers["Location"].partition("?")[0].partition("#")[0].rstrip("/")[:LONGEST_REASON]


def _kind(method: str, status: int) -> type[OpenCardError]:
    known: dict[int, type[OpenCardError]] = {
        HTTPStatus.BAD_REQUEST: InvalidRequest,
        HTTPStatus.UNPROCESSABLE_ENTITY: InvalidRequest,
        HTTPStatus.UNAUTHORIZED: TokenRefused,
        HTTPStatus.FORBIDDEN: AccessDenied,
        HTTPStatus.NOT_FOUND: ResourceMissing,
        HTTPStatus.METHOD_NOT_ALLOWED: RouteMissing,
        HTTPStatus.CONFLICT: Conflict,
        HTTPStatus.TOO_MANY_REQUESTS: ApiUnavailable,
    }
    if status in known:
        return known[status]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return OutcomeUnknown if method == "POST" else ApiUnavailable
    return InvalidRequest if status >= HTTPStatus.BAD_REQUEST else UnreadableAnswer


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def reason(response: httpx.Response, *, secrets: Iterable[str]) -> str:
    """Return the error text of an answer in one short line, with *secrets* masked; empty if it has none."""
    try:
        content = msgspec.json.decode(response.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    if not isinstance(content, dict):
        return ""
    words = [content.get(name) for name in ("error", "error_description", "message")]
    reason_text = ": ".join(word for word in words if isinstance(word, str) and word)
    return " ".join(mask_secrets(reason_text, secrets).split())[:LONGEST_REASON]


def mask_secrets(text: str, secrets: Iterable[str]) -> str:
    """Replace *secrets* in *text*, also as they are encoded in JSON and in forms."""
    spellings = {
        spelling
        for secret in secrets
        if secret
        for spelling in (secret, msgspec.json.encode(secret)[1:-1].decode(), quote(secret, ""), quote_plus(secret))
    }
    for spelling in sorted(spellings, key=len, reverse=True):
        text = text.replace(spelling, MASK)
    return text


def sensitive_values(fields: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield the values of *fields* that errors must not contain."""
    for name, value in (fields or {}).items():
        if name in SENSITIVE and isinstance(value, str) and value:
            yield value


def retry_after(response: httpx.Response) -> float | None:
    """Return ``Retry-After`` in seconds, from seconds or a date; ``None`` without one."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())

"""From an answer, or none, to a typed error whose text says what was asked, with which scope, and what to do."""

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

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import httpx

SENSITIVE: Final = frozenset(
    {"secret", "basic_password", "custom_value", "value", "oauth_client_secret", "client_secret", "access_token"}
)
"""Fields whose values never stand in an error, though the other end repeats them."""
HTML: Final = frozenset({"text/html", "application/xhtml+xml"})
LOGIN: Final = frozenset({"login", "log-in", "signin", "sign-in"})
"""The last part of the path of a login page."""
MASK: Final = "***"
LONGEST_REASON: Final = 300
LONGEST_ANSWER: Final = 65_536
"""Characters of a refusal's body that are kept to see what it names."""
HINTS: Final[dict[type[OpenCardError], str]] = {
    InvalidRequest: "mend what it names and run the command again",
    TokenRefused: "OPENCARD_API_URL and OPENCARD_CLIENT_ID may be of different environments",
    AccessDenied: (
        "either the client lacks the scope (receiver clients set-scopes, or the dashboard), "
        "or the account (OPENCARD_ACCOUNT_ID) or organization is not its own"
    ),
    ResourceMissing: "there is none, or this client may not see it: check OPENCARD_ACCOUNT_ID and the ids",
    RouteMissing: "OpenCard's API does not offer this: do it in the dashboard",
    Conflict: "it may exist already: run the command again, which looks first",
    ApiUnavailable: "try again later; what was done so far stays done",
    OutcomeUnknown: "it may have been carried out: run the command again, which looks first",
    HtmlAnswer: (
        "OpenCard refuses a request that way when it does not accept its token, and whatever else listens at "
        "OPENCARD_API_URL does so, too: check that it is OpenCard's API, and what is between"
    ),
    UnreadableAnswer: "check that OPENCARD_API_URL is OpenCard's API",
}


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked, in the words that an error uses."""

    method: str
    route: str
    """The path's template, without ids."""
    path: str
    scope: str
    account: str
    organization: str | None = None

    def __str__(self) -> str:
        """Return route, scope, account and organization."""
        whose = f"account {self.account}"
        if self.organization is not None:
            whose += f", organization {self.organization}"
        return f"{self.method} {self.path} (scope {self.scope}, {whose})"

    def failed(self, kind: type[OpenCardError], what: str) -> OpenCardError:
        """Return an error: what was asked, *what* came of it, and what to do."""
        return kind(f"{self}: {what}; {HINTS[kind]}")


def failure(question: Question, response: httpx.Response, *, secrets: Iterable[str]) -> OpenCardError:
    """Return the error behind an answer that is no success (contract, section 2). *secrets* are masked in its words.

    A 5xx after a POST leaves open whether it was carried out.
    """
    status = response.status_code
    kind = _kind(question.method, status)
    said = reason(response, secrets=secrets)
    failed = question.failed(kind, f"OpenCard answers {status} {_phrase(status)}" + (f" ({said})" if said else ""))
    failed.answer, failed.words = response.text[:LONGEST_ANSWER], said
    return failed


def is_html_refusal(response: httpx.Response) -> bool:
    """Return whether a request was answered with an HTML page, or a redirect to one, though it did not accept HTML.

    That is how OpenCard may refuse a request (contract, section 2). Where any type is accepted, as for a file, a
    redirect counts only if it leads to a login page.
    """
    accepted = response.request.headers.get("Accept", "")
    if response.has_redirect_location:
        return "*/*" not in accepted or _location(response).rpartition("/")[2].lower() in LOGIN
    return (
        response.is_success and "text/html" not in accepted and media_type(response.headers.get("Content-Type")) in HTML
    )


def html_refusal(response: httpx.Response) -> str:
    """Return what such an answer is, for an error: its status, and the page that it leads to without its query."""
    if response.has_redirect_location:
        return f"OpenCard answers {response.status_code}, a redirect to {_location(response)}, instead of JSON"
    return f"OpenCard answers {response.status_code} with an HTML page instead of JSON"


def media_type(content_type: str | None) -> str:
    """Return a ``Content-Type`` without its parameters, in lower case; empty for none."""
    return (content_type or "").partition(";")[0].strip().lower()


def _location(response: httpx.Response) -> str:
    """Return where a redirect leads to, without its query, which may hold a secret."""
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
    """Return OpenCard's own words for a refusal, in one short line and with *secrets* masked; empty without any."""
    try:
        content = msgspec.json.decode(response.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    if not isinstance(content, dict):
        return ""
    words = [content.get(name) for name in ("error", "error_description", "message")]
    said = ": ".join(word for word in words if isinstance(word, str) and word)
    return " ".join(masked(said, secrets).split())[:LONGEST_REASON]


def masked(text: str, secrets: Iterable[str]) -> str:
    """Return *text* without *secrets*, as they are or as they are written in JSON and in forms."""
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
    """Yield what of *fields* must not stand in an error."""
    for name, value in (fields or {}).items():
        if name in SENSITIVE and isinstance(value, str) and value:
            yield value


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that ``Retry-After`` asks for, whether it gives seconds or a date; ``None`` without one."""
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

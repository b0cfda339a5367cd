"""The token flow: client credentials, exactly the scopes of the current command, one renewal after a refusal.

Contract, section 2.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Final

import httpx
import msgspec

from receiver.counters import count_opencard_request
from receiver.errors import (
    ApiUnavailable,
    ClientRefused,
    HtmlAnswer,
    OpenCardError,
    ScopeNotGranted,
    UnreadableAnswer,
)
from receiver.opencard.failures import HINTS, html_refusal, is_html_refusal, reason, retry_after
from receiver.opencard.routes import API_PATH, TOKEN_PATH
from receiver.opencard.scopes import check_known, commands_needing
from receiver.opencard.tokens import Token, TokenKey
from receiver.tls import tls_context

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterable

    from receiver.opencard.tokens import TokenStore
    from receiver.settings import Settings

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 30.0
"""For each read, write, and wait for a free connection."""
RETRY_SECONDS: Final = 120.0
"""For how long a request is repeated, unless the caller waits for less."""
LEAST_SECONDS: Final = 0.001
"""A time-out is more than 0."""
JSON_ONLY: Final = {"Accept": "application/json"}
"""Header of every request: without it OpenCard answers an error as an HTML page (contract, section 2)."""
MAX_TOKEN_LIFETIME: Final = 10_000_000_000
"""Seconds; a longer ``expires_in`` counts as an unreadable answer."""
NEW_TOKEN_PERIOD: Final = timedelta(minutes=1)
"""How long after its request a token certainly has all scopes of its client."""


class TimeIsUp(httpx.ConnectTimeout):
    """A request was not sent, because the time for all of them is over."""


@dataclass(frozen=True, slots=True)
class Access:
    """The API, the account, and the OAuth client."""

    api_url: str
    account_id: str
    client_id: str
    client_secret: str = field(repr=False)
    seconds: float = RETRY_SECONDS
    """For how long a request is repeated, and at most waited for."""
    until: float | None = None
    """When all requests end, by ``time.monotonic``; ``None``: there is no such limit."""

    @classmethod
    def of(cls, settings: Settings, *, seconds: float = RETRY_SECONDS, until: float | None = None) -> Access:
        """Read the ``OPENCARD_*`` settings."""
        return cls(
            seconds=seconds,
            until=until,
            api_url=settings.opencard_api_url,
            account_id=settings.opencard_account_id,
            client_id=settings.opencard_client_id,
            client_secret=settings.opencard_client_secret,
        )

    @property
    def seconds_left(self) -> float:
        """For how long a request is repeated, and at most waited for, from now on; more than 0."""
        left = self.seconds if self.until is None else min(self.seconds, self.until - time.monotonic())
        return max(left, LEAST_SECONDS)

    @property
    def timeout(self) -> httpx.Timeout:
        """How long to wait for a connection, and then for each part of an answer."""
        left = self.seconds_left
        return httpx.Timeout(min(READ_SECONDS, left), connect=min(CONNECT_SECONDS, left))

    def limit(self, request: httpx.Request) -> None:
        """Give *request* the time that is left. Raises ``TimeIsUp``; then it is not sent."""
        if self.until is not None and time.monotonic() >= self.until:
            raise TimeIsUp("the time for all requests is over", request=request)
        request.extensions["timeout"] = self.timeout.as_dict()

    @property
    def application_url(self) -> str:
        """Base URL of the application API."""
        return self.api_url + API_PATH


class TokenResponse(msgspec.Struct):
    """The token endpoint's answer; *expires_in* is in seconds."""

    access_token: Annotated[str, msgspec.Meta(pattern=r"\A[\x21-\x7e]+\Z")]
    expires_in: Annotated[float, msgspec.Meta(gt=0, le=MAX_TOKEN_LIFETIME)]
    scope: str | None = None
    """The granted scopes; ``None`` where the answer has none."""


class TokenAuth(httpx.Auth):
    """Adds a token to each request; when it is refused, gets a new one and tries once more.

    A refusal is 401, an HTML page instead of JSON, or 403 for a token that is not new: the client may have received the
    scope after the token was issued.
    """

    def __init__(
        self, access: Access, scopes: Iterable[str], store: TokenStore, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        """Raise ``OperationRefused`` for a scope that the catalogue does not know."""
        self._key = TokenKey(access.api_url, access.client_id, frozenset(scopes))
        check_known(self._key.scopes)
        self._access = access
        self._store = store
        self._http = httpx.Client(transport=transport, verify=tls_context(), event_hooks={"request": [access.limit]})
        self._token: Token | None = None
        self._requested_at: dict[str, datetime] = {}
        self._lock = threading.Lock()

    @property
    def secrets(self) -> list[str]:
        """Values that errors must not contain."""
        return [self._access.client_secret, *([self._token.value] if self._token else [])]

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send *request* with the token. Raises an ``OpenCardError`` when no token can be obtained."""
        token = self.token()
        request.headers["Authorization"] = f"Bearer {token.value}"
        response = yield request
        if self._may_be_refused(token, response):
            _count_refused(request, response)
            request.headers["Authorization"] = f"Bearer {self._renew(token).value}"
            yield request

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Do the same without blocking the event loop while a token is requested."""
        token = await asyncio.to_thread(self.token)
        request.headers["Authorization"] = f"Bearer {token.value}"
        response = yield request
        if self._may_be_refused(token, response):
            _count_refused(request, response)
            renewed = await asyncio.to_thread(self._renew, token)
            request.headers["Authorization"] = f"Bearer {renewed.value}"
            yield request

    def token(self) -> Token:
        """Return a token with exactly the requested scopes. Raises an ``OpenCardError``."""
        with self._lock:
            if self._token is None or self._token.use_until <= datetime.now(UTC):
                self._token = self._store.obtain(self._key, self._request_token)
            return self._token

    def close(self) -> None:
        """Close the connections to the token endpoint."""
        self._http.close()

    def _may_be_refused(self, token: Token, response: httpx.Response) -> bool:
        return (
            response.status_code == HTTPStatus.UNAUTHORIZED
            or is_html_refusal(response)
            or (response.status_code == HTTPStatus.FORBIDDEN and not self._is_new(token))
        )

    def _renew(self, refused: Token) -> Token:
        with self._lock:
            if self._token is refused:  # no other thread has renewed it meanwhile
                self._store.drop(self._key, refused.value)
                self._token = None
        return self.token()

    def _is_new(self, token: Token) -> bool:
        requested_at = self._requested_at.get(token.value)
        return requested_at is not None and datetime.now(UTC) < requested_at + NEW_TOKEN_PERIOD

    def _request_token(self) -> Token:
        try:
            token = request_token(self._http, self._access, self._key.scopes)
        except ScopeNotGranted:
            if len(self._key.scopes) == 1:
                raise
        else:
            self._requested_at = {token.value: datetime.now(UTC)}
            return token
        raise scope_error(self._access, missing_scopes(self._http, self._access, self._key.scopes))


def _count_refused(request: httpx.Request, response: httpx.Response) -> None:
    """Count a request that is repeated with a new token; the last answer is counted by the caller."""
    count_opencard_request(request.method, request.extensions["route"], response.status_code)


def request_token(http: httpx.Client, access: Access, scopes: Iterable[str]) -> Token:
    """Request a token with *scopes* from the token endpoint. Raises an ``OpenCardError``."""
    requested = frozenset(scopes)
    requested_at = datetime.now(UTC)
    try:
        response = http.post(
            access.api_url + TOKEN_PATH,
            headers=JSON_ONLY,
            data={
                "grant_type": "client_credentials",
                "client_id": access.client_id,
                "client_secret": access.client_secret,
                "scope": " ".join(sorted(requested)),
            },
        )
    except httpx.HTTPError as error:
        count_opencard_request("POST", TOKEN_PATH, None)
        raise ApiUnavailable(
            f"POST {TOKEN_PATH} (client {access.client_id}): no answer ({type(error).__name__}) from "
            f"{access.api_url}; check OPENCARD_API_URL and the network"
        ) from None
    count_opencard_request("POST", TOKEN_PATH, response.status_code)
    if is_html_refusal(response):
        raise HtmlAnswer(
            f"POST {TOKEN_PATH} (client {access.client_id}): {html_refusal(response)}; {HINTS[HtmlAnswer]}"
        )
    if response.status_code != HTTPStatus.OK:
        raise _refusal(access, requested, response)
    try:
        answer = msgspec.json.decode(response.content, type=TokenResponse, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UnreadableAnswer(
            f"POST {TOKEN_PATH}: the answer holds no access_token with the seconds that it expires_in; "
            f"{HINTS[UnreadableAnswer]}"
        ) from None
    if answer.scope is not None and not requested <= set(answer.scope.split()):
        raise scope_error(access, requested - set(answer.scope.split()))
    return Token.issued(answer.access_token, expires_in=answer.expires_in, now=requested_at)


def missing_scopes(http: httpx.Client, access: Access, scopes: Iterable[str]) -> frozenset[str]:
    """Return which of *scopes* the client does not have, by requesting one at a time.

    All of them, if each is granted but not all together. Raises an ``OpenCardError`` when there is no answer.
    """
    requested = frozenset(scopes)
    missing = set()
    for scope in sorted(requested):
        try:
            request_token(http, access, [scope])
        except ScopeNotGranted:
            missing.add(scope)
    return frozenset(missing) or requested


def scope_error(access: Access, scopes: Iterable[str]) -> ScopeNotGranted:
    """Return the error that names the missing scopes, the commands that need them, and the remedy."""
    names = sorted(scopes)
    needed = sorted({command for name in names for command in commands_needing(name)})
    need = "needs" if len(needed) == 1 else "need"
    return ScopeNotGranted(
        f"the client {access.client_id} of account {access.account_id} does not have the scope "
        f"{' '.join(names)}" + (f", which {', '.join(needed)} {need}" if needed else "") + "; add it with receiver "
        "clients set-scopes, or in the dashboard"
    )


def _refusal(access: Access, scopes: frozenset[str], response: httpx.Response) -> OpenCardError:
    status = response.status_code
    reason_text = reason(response, secrets=[access.client_secret])
    refused = status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
    if refused and "scope" in reason_text.lower():
        return scope_error(access, scopes)
    what = f"POST {TOKEN_PATH} (client {access.client_id}): OpenCard answers {status}" + (
        f" ({reason_text})" if reason_text else ""
    )
    if refused:
        return ClientRefused(
            f"{what}; check OPENCARD_CLIENT_ID and OPENCARD_CLIENT_SECRET, and that they are of the environment "
            f"{access.api_url}"
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        unavailable = ApiUnavailable(f"{what}; {HINTS[ApiUnavailable]}")
        unavailable.retry_after = retry_after(response)
        return unavailable
    return UnreadableAnswer(f"{what}; {HINTS[UnreadableAnswer]}")

"""The token flow: client credentials, exactly the scopes of the command at hand, one renewal after a refusal.

Contract, section 2.
"""

from __future__ import annotations

import asyncio
import threading
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

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterable

    from receiver.opencard.tokens import TokenStore
    from receiver.settings import Settings

TIMEOUT: Final = httpx.Timeout(30, connect=5)
"""Seconds: for a connection, and then for each read, write, and wait for a free connection."""
JSON_ONLY: Final = {"Accept": "application/json"}
"""Header of every request: without it OpenCard answers an error as an HTML page (contract, section 2)."""
LONGEST_LIFE: Final = 10_000_000_000
"""Seconds; a token that is said to live longer is not understood."""
SURELY_NEW: Final = timedelta(minutes=1)
"""How long after it was asked for a token certainly bears the scopes that its client has."""


@dataclass(frozen=True, slots=True)
class Access:
    """Which API, which account, and the client that asks."""

    api_url: str
    account_id: str
    client_id: str
    client_secret: str = field(repr=False)

    @classmethod
    def of(cls, settings: Settings) -> Access:
        """Return what the settings say."""
        return cls(
            api_url=settings.opencard_api_url,
            account_id=settings.opencard_account_id,
            client_id=settings.opencard_client_id,
            client_secret=settings.opencard_client_secret,
        )

    @property
    def application_url(self) -> str:
        """Base address of the application API."""
        return self.api_url + API_PATH


class TokenResponse(msgspec.Struct):
    """The token endpoint's answer; *expires_in* is in seconds."""

    access_token: Annotated[str, msgspec.Meta(pattern=r"\A[\x21-\x7e]+\Z")]
    expires_in: Annotated[float, msgspec.Meta(gt=0, le=LONGEST_LIFE)]
    scope: str | None = None
    """Which scopes were granted, where the answer says so."""


class TokenAuth(httpx.Auth):
    """Puts a token on each request; when it is refused, it gets a new one and tries again, once.

    Refused is 401, an HTML page instead of JSON, and 403 for a token that is not new: the client may have got the scope
    since the token was issued.
    """

    def __init__(
        self, access: Access, scopes: Iterable[str], store: TokenStore, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        """Raise ``OperationRefused`` for a scope that the catalogue does not know."""
        self._key = TokenKey(access.api_url, access.client_id, frozenset(scopes))
        check_known(self._key.scopes)
        self._access = access
        self._store = store
        self._http = httpx.Client(timeout=TIMEOUT, transport=transport)
        self._token: Token | None = None
        self._asked_at: dict[str, datetime] = {}
        self._lock = threading.Lock()

    @property
    def secrets(self) -> list[str]:
        """What must not stand in an error."""
        return [self._access.client_secret, *([self._token.value] if self._token else [])]

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send *request* with the token. Raises an ``OpenCardError`` when there is none to be had."""
        token = self.token()
        request.headers["Authorization"] = f"Bearer {token.value}"
        response = yield request
        if self._may_be_refused(token, response):
            _count_refused(request, response)
            request.headers["Authorization"] = f"Bearer {self._renew(token).value}"
            yield request

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Do the same where others must not be kept waiting for the token."""
        token = await asyncio.to_thread(self.token)
        request.headers["Authorization"] = f"Bearer {token.value}"
        response = yield request
        if self._may_be_refused(token, response):
            _count_refused(request, response)
            renewed = await asyncio.to_thread(self._renew, token)
            request.headers["Authorization"] = f"Bearer {renewed.value}"
            yield request

    def token(self) -> Token:
        """Return a token with exactly the scopes asked for. Raises an ``OpenCardError``."""
        with self._lock:
            if self._token is None or self._token.use_until <= datetime.now(UTC):
                self._token = self._store.obtain(self._key, self._ask)
            return self._token

    def close(self) -> None:
        """Give the connections back."""
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
        asked_at = self._asked_at.get(token.value)
        return asked_at is not None and datetime.now(UTC) < asked_at + SURELY_NEW

    def _ask(self) -> Token:
        try:
            token = request_token(self._http, self._access, self._key.scopes)
        except ScopeNotGranted:
            if len(self._key.scopes) == 1:
                raise
        else:
            self._asked_at = {token.value: datetime.now(UTC)}
            return token
        raise not_granted(self._access, missing_scopes(self._http, self._access, self._key.scopes))


def _count_refused(request: httpx.Request, response: httpx.Response) -> None:
    """Count a request that is repeated with a new token; the last answer is counted by the caller."""
    count_opencard_request(request.method, request.extensions["route"], response.status_code)


def request_token(http: httpx.Client, access: Access, scopes: Iterable[str]) -> Token:
    """Ask the token endpoint for a token with *scopes*. Raises an ``OpenCardError``."""
    wanted = frozenset(scopes)
    asked_at = datetime.now(UTC)
    try:
        response = http.post(
            access.api_url + TOKEN_PATH,
            headers=JSON_ONLY,
            data={
                "grant_type": "client_credentials",
                "client_id": access.client_id,
                "client_secret": access.client_secret,
                "scope": " ".join(sorted(wanted)),
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
        raise _refusal(access, wanted, response)
    try:
        answer = msgspec.json.decode(response.content, type=TokenResponse, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UnreadableAnswer(
            f"POST {TOKEN_PATH}: the answer holds no access_token with the seconds that it expires_in; "
            f"{HINTS[UnreadableAnswer]}"
        ) from None
    if answer.scope is not None and not wanted <= set(answer.scope.split()):
        raise not_granted(access, wanted - set(answer.scope.split()))
    return Token.issued(answer.access_token, expires_in=answer.expires_in, now=asked_at)


def missing_scopes(http: httpx.Client, access: Access, scopes: Iterable[str]) -> frozenset[str]:
    """Return which of *scopes* the client is not given, by asking for one at a time.

    All of them, when it is given each but not all together. Raises an ``OpenCardError`` when there is no answer.
    """
    wanted = frozenset(scopes)
    missing = set()
    for scope in sorted(wanted):
        try:
            request_token(http, access, [scope])
        except ScopeNotGranted:
            missing.add(scope)
    return frozenset(missing) or wanted


def not_granted(access: Access, scopes: Iterable[str]) -> ScopeNotGranted:
    """Return the error that names the scopes that are missing, what needs them, and the way to get them."""
    names = sorted(scopes)
    needed = sorted({command for name in names for command in commands_needing(name)})
    return ScopeNotGranted(
        f"the client {access.client_id} of account {access.account_id} does not have the scope "
        f"{' '.join(names)}" + (f", which {', '.join(needed)} needs" if needed else "") + "; add it with receiver "
        "clients set-scopes, or in the dashboard"
    )


def _refusal(access: Access, scopes: frozenset[str], response: httpx.Response) -> OpenCardError:
    status = response.status_code
    said = reason(response, secrets=[access.client_secret])
    refused = status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
    if refused and "scope" in said.lower():
        return not_granted(access, scopes)
    what = f"POST {TOKEN_PATH} (client {access.client_id}): OpenCard answers {status}" + (f" ({said})" if said else "")
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

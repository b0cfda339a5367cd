"""Files that an event tells the URL of, receipts for one: downloaded from OpenCard's own host, and from nowhere else.

**Open** in the contract: whether such a URL wants the bearer token or is signed itself, and on which host it is. The
guess is all here: it is on the API's host and wants the token; one with a query that is refused with the token may be
signed, and is asked once more without. A URL on another host is not asked at all, and a redirect to one not followed.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import httpx

from receiver.counters import count_opencard_request
from receiver.errors import DownloadError, DownloadRefused, DownloadsImpossible, OpenCardError
from receiver.opencard.auth import TokenAuth
from receiver.opencard.failures import HTML, html_refusal, is_html_refusal, media_type, retry_after
from receiver.opencard.routes import DOWNLOAD_FILE, DOWNLOAD_TPA, Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType
    from typing import IO, Self

    from receiver.opencard.auth import Access
    from receiver.opencard.tokens import TokenStore

OVERALL_SECONDS: Final = 60.0
"""How long one file may take from the request to its last byte; a server may be slow in many small ways."""
TIMEOUT: Final = httpx.Timeout(10, connect=5, pool=OVERALL_SECONDS)
MOST_REDIRECTS: Final = 3
REFUSED_WITH_TOKEN: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
"""How a signed URL may be answered that is asked with a token, too."""
ANY_FILE: Final = "application/json, */*"
"""What is accepted: any file, and JSON first, so that an error is not answered as an HTML page."""
ANY_FILE_OR_HTML: Final = "application/json, text/html, */*"
"""The same for a file that the event announced as HTML: an HTML page is not a refusal then."""
HEADERS: Final = {"Accept-Encoding": "identity"}
"""Files come as they are: what is unpacked while it is read has no size that could be trusted."""
HEAD_BYTES: Final = 64 * 1024
"""How much of a file's beginning is kept to see what it is."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What is known of a file once it is here."""

    size: int
    sha256: str
    head: bytes
    """Its first bytes."""
    content_type: str
    """As the answer says; empty when it does not."""


@dataclass(frozen=True, slots=True)
class _Ask:
    """How a file is asked for."""

    route: Route
    accepted: str


class Files:
    """Downloads files, many at a time, each with a token of just the scope of its route."""

    def __init__(self, access: Access, store: TokenStore) -> None:
        self._access = access
        self._own = _origin(httpx.URL(access.api_url))
        self._auths = {route: TokenAuth(access, [route.scope], store) for route in (DOWNLOAD_FILE, DOWNLOAD_TPA)}
        self._http = httpx.AsyncClient(timeout=TIMEOUT, headers=HEADERS, follow_redirects=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._http.aclose()
        for auth in self._auths.values():
            auth.close()

    async def fetch(
        self,
        url: str,
        into: IO[bytes],
        *,
        most: int,
        announced: str | None = None,
        route: Route = DOWNLOAD_FILE,
    ) -> Fetched:
        """Write the file at *url* into *into*, *most* bytes of it. Raises ``DownloadError``.

        *announced* is the type of content that the event announced: only an HTML file may arrive as one. *route* says
        with which scope.
        """
        accepted = ANY_FILE_OR_HTML if media_type(announced) in HTML else ANY_FILE
        try:
            async with asyncio.timeout(OVERALL_SECONDS):
                return await self._fetch(self._own_address(url), _Ask(route, accepted), into, most)
        except TimeoutError:
            raise DownloadError(f"not here as a whole within {OVERALL_SECONDS:.0f} s") from None
        except OpenCardError as error:
            raise DownloadsImpossible(str(error)) from error
        except httpx.HTTPError as error:
            raise DownloadError(f"the connection failed ({type(error).__name__})") from None

    async def _fetch(self, address: httpx.URL, ask: _Ask, into: IO[bytes], most: int) -> Fetched:
        for _ in range(1 + MOST_REDIRECTS):
            async with self._answer(address, ask) as response:
                if is_html_refusal(response):
                    raise DownloadError(f"{html_refusal(response)} or a file: it refuses the download")
                if response.has_redirect_location:
                    address = self._redirected(response)
                    continue
                self._insist_on_a_file(response, ask.route)
                return await _read(response, into, most)
        raise DownloadError(f"redirected more than {MOST_REDIRECTS} times")

    @asynccontextmanager
    async def _answer(self, address: httpx.URL, ask: _Ask) -> AsyncIterator[httpx.Response]:
        response = await self._send(address, ask, self._auths[ask.route])
        if (response.status_code in REFUSED_WITH_TOKEN or is_html_refusal(response)) and address.query:
            unsigned = await self._send(address, ask, None)
            if unsigned.status_code == HTTPStatus.OK:
                await response.aclose()
                response = unsigned
            else:
                await unsigned.aclose()
        try:
            yield response
        finally:
            await response.aclose()

    async def _send(self, address: httpx.URL, ask: _Ask, auth: TokenAuth | None) -> httpx.Response:
        """Return the answer to one request, its body still to be read; each request is counted once."""
        request = self._http.build_request(
            "GET", address, headers={"Accept": ask.accepted}, extensions={"route": DOWNLOAD_FILE.path}
        )
        try:
            response = await self._http.send(request, auth=auth, stream=True)
        except (httpx.HTTPError, asyncio.CancelledError):
            _count(None)
            raise
        _count(response.status_code)
        return response

    def _own_address(self, url: str) -> httpx.URL:
        """Return *url* if it is on OpenCard's own host, and so over HTTPS unless that is this machine."""
        try:
            address = httpx.URL(url)
        except httpx.InvalidURL:
            raise DownloadRefused("its url is no address") from None
        if _origin(address) != self._own:
            raise DownloadRefused(f"its url is at {_named(address)}, not at OpenCard's {_named(self._own_url())}")
        return address.copy_with(fragment=None)

    def _own_url(self) -> httpx.URL:
        return httpx.URL(self._access.api_url)

    def _redirected(self, response: httpx.Response) -> httpx.URL:
        try:
            address = response.url.join(response.headers["Location"])
        except httpx.InvalidURL:
            raise DownloadError("redirected to what is no address") from None
        if _origin(address) != self._own:
            raise DownloadError(f"redirected to {_named(address)}, which is not followed: it is not OpenCard's host")
        return address

    def _insist_on_a_file(self, response: httpx.Response, route: Route) -> None:
        status = response.status_code
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise DownloadError(
                f"OpenCard answers {status}: either its url has expired, or the client {self._access.client_id} lacks "
                f"the scope {route.scope} (receiver clients set-scopes, or the dashboard)"
            )
        if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            raise DownloadError(f"OpenCard answers {status}: it is gone, or its url has expired")
        if status != HTTPStatus.OK:
            failed = DownloadError(f"OpenCard answers {status}")
            failed.retry_after = retry_after(response)
            raise failed
        if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise DownloadError("it comes packed, though it was asked for as it is")


async def _read(response: httpx.Response, into: IO[bytes], most: int) -> Fetched:
    """Read a body of any length up to the limit; what it says of its length counts only against it."""
    told = response.headers.get("Content-Length", "")
    if told.isdecimal() and int(told) > most:
        raise _too_large(most)
    digest, size, head = hashlib.sha256(), 0, b""
    async for part in response.aiter_raw():
        size += len(part)
        if size > most:
            raise _too_large(most)
        digest.update(part)
        into.write(part)
        head = head if len(head) == HEAD_BYTES else (head + part)[:HEAD_BYTES]
    return Fetched(size, digest.hexdigest(), head, response.headers.get("Content-Type", ""))


def _count(status: int | None) -> None:
    count_opencard_request(DOWNLOAD_FILE.method, DOWNLOAD_FILE.path, status)


def _too_large(most: int) -> DownloadRefused:
    return DownloadRefused(
        f"larger than {most} bytes: raise FILES_MAX_BYTES and run receiver files fetch --again if it is wanted"
    )


def _origin(address: httpx.URL) -> tuple[str, str, int | None]:
    """Return what tells one end from another; the port only where it is not the usual one."""
    return address.scheme, address.host, address.port


def _named(address: httpx.URL) -> str:
    """Return the part of an address that is no secret."""
    return f"{address.scheme}://{address.netloc.decode('ascii', 'replace').rpartition('@')[2]}"

"""Download files whose URLs events contain, such as receipts, only from OpenCard's own host.

**Undocumented**: whether such a URL needs the bearer token or is signed itself, and on which host it is. Assumed here:
it is on the API's host and needs the token; a URL with a query that is refused with the token may be signed, and is
requested once more without. A URL on another host is not requested, and a redirect to one is not followed.
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
from receiver.tls import tls_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType
    from typing import IO, Self

    from receiver.opencard.auth import Access
    from receiver.opencard.tokens import TokenStore

OVERALL_SECONDS: Final = 60.0
"""How long one file may take from the request to its last byte, however slowly the server sends it."""
TIMEOUT: Final = httpx.Timeout(10, connect=5, pool=OVERALL_SECONDS)
MAX_REDIRECTS: Final = 3
REFUSED_WITH_TOKEN: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
"""How a signed URL that is requested with a token may be refused."""
ANY_FILE: Final = "application/json, */*"
"""JSON first, so that an error is not an HTML page."""
ANY_FILE_OR_HTML: Final = "application/json, text/html, */*"
"""For a file that the event announced as HTML: then an HTML page is not a refusal."""
HEADERS: Final = {"Accept-Encoding": "identity"}
"""No compression: the size of compressed content is not known before it is read."""
HEAD_BYTES: Final = 64 * 1024
"""How much of a file's beginning is kept to detect its type."""


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A downloaded file, without its content."""

    size: int
    sha256: str
    head: bytes
    """Its first bytes."""
    content_type: str
    """That of the answer; empty if it has none."""


@dataclass(frozen=True, slots=True)
class _FileRequest:
    """The route and the accepted types of a download."""

    route: Route
    accepted: str


class Files:
    """Downloads files concurrently, each with a token of just the scope of its route."""

    def __init__(self, access: Access, store: TokenStore) -> None:
        self._access = access
        self._own = _origin(httpx.URL(access.api_url))
        self._auths = {route: TokenAuth(access, [route.scope], store) for route in (DOWNLOAD_FILE, DOWNLOAD_TPA)}
        self._http = httpx.AsyncClient(verify=tls_context(), timeout=TIMEOUT, headers=HEADERS, follow_redirects=False)

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
        max_bytes: int,
        announced: str | None = None,
        route: Route = DOWNLOAD_FILE,
    ) -> FetchedFile:
        """Write the file at *url* into *into*, *max_bytes* bytes of it. Raises ``DownloadError``.

        *announced* is the type of content that the event announced: only an HTML file may arrive as one. *route* says
        with which scope.
        """
        accepted = ANY_FILE_OR_HTML if media_type(announced) in HTML else ANY_FILE
        try:
            async with asyncio.timeout(OVERALL_SECONDS):
                return await self._fetch(self._check_host(url), _FileRequest(route, accepted), into, max_bytes)
        except TimeoutError:
            raise DownloadError(f"not here as a whole within {OVERALL_SECONDS:.0f} s") from None
        except OpenCardError as error:
            raise DownloadsImpossible(str(error)) from error
        except httpx.HTTPError as error:
            raise DownloadError(f"the connection failed ({type(error).__name__})") from None

    async def _fetch(self, address: httpx.URL, request: _FileRequest, into: IO[bytes], max_bytes: int) -> FetchedFile:
        for _ in range(1 + MAX_REDIRECTS):
            async with self._answer(address, request) as response:
                if is_html_refusal(response):
                    raise DownloadError(f"{html_refusal(response)} or a file: it refuses the download")
                if response.has_redirect_location:
                    address = self._redirected(response)
                    continue
                self._check_status(response, request.route)
                return await _read(response, into, max_bytes)
        raise DownloadError(f"redirected more than {MAX_REDIRECTS} times")

    @asynccontextmanager
    async def _answer(self, address: httpx.URL, request: _FileRequest) -> AsyncIterator[httpx.Response]:
        response = await self._send(address, request, self._auths[request.route])
        if (response.status_code in REFUSED_WITH_TOKEN or is_html_refusal(response)) and address.query:
            unsigned = await self._send(address, request, None)
            if unsigned.status_code == HTTPStatus.OK:
                await response.aclose()
                response = unsigned
            else:
                await unsigned.aclose()
        try:
            yield response
        finally:
            await response.aclose()

    async def _send(self, address: httpx.URL, file: _FileRequest, auth: TokenAuth | None) -> httpx.Response:
        """Return the answer to one request, its body still to be read; each request is counted once."""
        request = self._http.build_request(
            "GET", address, headers={"Accept": file.accepted}, extensions={"route": DOWNLOAD_FILE.path}
        )
        try:
            response = await self._http.send(request, auth=auth, stream=True)
        except (httpx.HTTPError, asyncio.CancelledError):
            _count(None)
            raise
        _count(response.status_code)
        return response

    def _check_host(self, url: str) -> httpx.URL:
        """Parse *url*. Raises ``DownloadRefused`` unless scheme, host and port are those of OpenCard's API."""
        try:
            address = httpx.URL(url)
        except httpx.InvalidURL:
            raise DownloadRefused("its url is no address") from None
        if _origin(address) != self._own:
            raise DownloadRefused(f"its url is at {_host_of(address)}, not at OpenCard's {_host_of(self._own_url())}")
        return address.copy_with(fragment=None)

    def _own_url(self) -> httpx.URL:
        return httpx.URL(self._access.api_url)

    def _redirected(self, response: httpx.Response) -> httpx.URL:
        try:
            address = response.url.join(response.headers["Location"])
        except httpx.InvalidURL:
            raise DownloadError("redirected to what is no address") from None
        if _origin(address) != self._own:
            raise DownloadError(f"redirected to {_host_of(address)}, which is not followed: it is not OpenCard's host")
        return address

    def _check_status(self, response: httpx.Response, route: Route) -> None:
        status = response.status_code
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise DownloadError(
                f"OpenCard answers {status}: either its url has expired, or the client {self._access.client_id} lacks "
                f"the scope {route.scope} (receiver clients set-scopes, or the dashboard)"
            )
        if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            raise DownloadError(f"OpenCard answers {status}: the file was deleted, or its url has expired")
        if status != HTTPStatus.OK:
            failed = DownloadError(f"OpenCard answers {status}")
            failed.retry_after = retry_after(response)
            raise failed
        if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise DownloadError("it comes packed, though it was asked for as it is")


async def _read(response: httpx.Response, into: IO[bytes], max_bytes: int) -> FetchedFile:
    """Read a body up to the limit; a larger declared length is refused at once, a smaller one is not trusted."""
    declared = response.headers.get("Content-Length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    digest, size, head = hashlib.sha256(), 0, b""
    async for part in response.aiter_raw():
        size += len(part)
        if size > max_bytes:
            raise _too_large(max_bytes)
        digest.update(part)
        into.write(part)
        head = head if len(head) == HEAD_BYTES else (head + part)[:HEAD_BYTES]
    return FetchedFile(size, digest.hexdigest(), head, response.headers.get("Content-Type", ""))


def _count(status: int | None) -> None:
    count_opencard_request(DOWNLOAD_FILE.method, DOWNLOAD_FILE.path, status)


def _too_large(max_bytes: int) -> DownloadRefused:
    return DownloadRefused(
        f"larger than {max_bytes} bytes: raise FILES_MAX_BYTES and run receiver files fetch --again if it is wanted"
    )


def _origin(address: httpx.URL) -> tuple[str, str, int | None]:
    """Return scheme, host and port; the port is ``None`` if it is the default."""
    return address.scheme, address.host, address.port


def _host_of(address: httpx.URL) -> str:
    """Return scheme and host of a URL, without credentials, path and query."""
    return f"{address.scheme}://{address.netloc.decode('ascii', 'replace').rpartition('@')[2]}"

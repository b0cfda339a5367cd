"""One request to OpenCard's API, and lists of many: time-outs, retries that repeat nothing twice, typed errors."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

import httpx
import msgspec
import stamina
import structlog

from receiver.counters import count_opencard_request
from receiver.errors import ApiUnavailable, HtmlAnswer, OpenCardError, OutcomeUnknown, ResourceMissing, UnreadableAnswer
from receiver.json_text import repaired
from receiver.opencard.auth import JSON_ONLY, TokenAuth
from receiver.opencard.failures import (
    ApiRequest,
    failure,
    html_refusal,
    is_html_refusal,
    retry_after,
    sensitive_values,
)
from receiver.opencard.lists import ListKeepsChanging, ListPage, read_whole
from receiver.tls import tls_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from receiver.opencard.auth import Access
    from receiver.opencard.routes import Route
    from receiver.opencard.tokens import TokenStore

    Fields = Mapping[str, Any]

T = TypeVar("T")
A = TypeVar("A", bound="Answer")

log = structlog.stdlib.get_logger(__name__)

ATTEMPTS: Final = 6
FIRST_PAUSE: Final = 0.2
MAX_PAUSE: Final = 10.0
MAX_RETRY_AFTER: Final = 60.0
"""The longest ``Retry-After`` in seconds that is waited for; a longer one is an error."""
PER_PAGE: Final = 100
"""The requested page size. Whether OpenCard respects it is undocumented: any size is read."""
NEVER_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class Answer(msgspec.Struct, frozen=True):
    """Base of the types of answers. Unknown fields are ignored, and numbers may be strings."""

    @classmethod
    def read(cls, item: Any) -> Self:  # noqa: ANN401 - any JSON value
        """Convert a decoded *item*. Raises ``msgspec.ValidationError``."""
        return msgspec.convert(item, cls, strict=False)


class OpenCard:
    """The API with a token of exactly *scopes*; safe for threads.

    Each call raises an ``OpenCardError`` when the request fails. *before_change* is called before each request that
    changes something, and may raise. *transport* replaces the network in tests.
    """

    def __init__(
        self,
        access: Access,
        scopes: Iterable[str],
        store: TokenStore,
        *,
        before_change: Callable[[], None] = lambda: None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Raise ``OperationRefused`` for a scope that the catalogue does not know."""
        self._account = access.account_id
        self._access = access
        self._before_change = before_change
        self._auth = TokenAuth(access, scopes, store, transport=transport)
        self._http = httpx.Client(
            base_url=access.application_url,
            auth=self._auth,
            event_hooks={"request": [access.limit]},
            transport=transport,
            verify=tls_context(),
            headers=JSON_ONLY,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def seconds(self) -> float:
        """For how long a request is repeated, from now on."""
        return self._access.seconds_left

    def authenticate(self) -> None:
        """Get the token now, rather than with the first call. Raises an ``OpenCardError`` when there is none."""
        for attempt in _attempts(ApiUnavailable, self.seconds):
            with attempt:
                self._auth.token()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
        self._auth.close()

    def call(self, route: Route, kind: type[A], *, fields: Fields | None = None, **ids: object) -> A:
        """Ask *route* with the JSON object *fields* and return the answer as *kind*.

        Repeats requests that are safe to repeat; a POST that may have been carried out raises ``OutcomeUnknown``.
        """
        request = self._request(route, ids)
        content = self._send(request, fields).content
        return self._read(request, content, lambda answer: kind.read(_without_envelope(msgspec.json.decode(answer))))

    def send(self, route: Route, *, fields: Fields | None = None, **ids: object) -> bytes:
        """Like ``call``, but return the answer's bytes without parsing them."""
        return self._send(self._request(route, ids), fields).content

    def delete(self, route: Route, **ids: object) -> None:
        """Delete a resource; one that does not exist counts as deleted."""
        with suppress(ResourceMissing):
            self._send(self._request(route, ids))

    def list(self, route: Route, kind: type[A], **ids: object) -> list[A]:
        """Return every item of a paginated list as *kind*, even if it changes while it is read."""
        request = self._request(route, ids)

        try:
            items = read_whole(lambda number: self.page(route, number, ListPage.read, **ids))
        except ListKeepsChanging:
            raise request.failed(
                UnreadableAnswer, "however often it is read, its pages do not hold as many items as it says it has"
            ) from None
        with _documented(request):
            return [kind.read(item) for item in items]

    def page(self, route: Route, number: int, read: Callable[[bytes], T], **ids: object) -> T:
        """Pass the bytes of one page of a paginated list to *read*, and return the result.

        *read* may raise msgspec's errors: they become ``UnreadableAnswer``.
        """
        request = self._request(route, ids)
        content = self._send(request, page=number).content
        return self._read(request, content, read)

    def _send(self, request: ApiRequest, fields: Fields | None = None, page: int | None = None) -> httpx.Response:
        for attempt in _attempts(ApiUnavailable, self.seconds):
            with attempt:
                return self._send_once(request, fields, page)
        raise AssertionError("the attempts end with an answer or an error")

    def _send_once(self, request: ApiRequest, fields: Fields | None, page: int | None) -> httpx.Response:
        if request.method != "GET":
            self._before_change()
        try:
            response = self._http.request(
                request.method,
                request.path,
                json=fields,
                params=None if page is None else {"page": page, "per_page": PER_PAGE},
                extensions={"route": request.route},  # for the counters
            )
        except httpx.HTTPError as error:
            never_sent = isinstance(error, NEVER_SENT)
            kind = ApiUnavailable if never_sent or request.method != "POST" else OutcomeUnknown
            count_opencard_request(request.method, request.route, None)
            raise request.failed(kind, f"no answer ({type(error).__name__})") from None
        count_opencard_request(request.method, request.route, response.status_code)
        log.debug("opencard.answered", method=request.method, path=request.path, status=response.status_code)
        if is_html_refusal(response):
            raise request.failed(HtmlAnswer, html_refusal(response))
        if response.is_success:
            return response
        failed = failure(request, response, secrets=[*self._auth.secrets, *sensitive_values(fields)])
        failed.retry_after = retry_after(response)
        raise failed

    def _request(self, route: Route, ids: Mapping[str, object]) -> ApiRequest:
        organization = ids.get("organization")
        parts = {name: quote(str(part), "") for name, part in ids.items()}
        return ApiRequest(
            method=route.method,
            route=route.path,
            path=route.path.format(account=self._account, **parts),
            scope=route.scope,
            account=self._account,
            organization=None if organization is None else str(organization),
        )

    def _read(self, request: ApiRequest, content: bytes, read: Callable[[bytes], T]) -> T:
        try:
            return read(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            with _documented(request):
                return read(repaired(content))


@contextmanager
def _documented(request: ApiRequest) -> Iterator[None]:
    try:
        yield
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise request.failed(UnreadableAnswer, f"the answer is not what is documented ({error})") from None


def send_once(send: Callable[[], T], look: Callable[[], T | None], *, seconds: float) -> T:
    """Call *send* until it took effect once: after an unknown outcome, *look* for its result before sending again.

    *seconds*: for how long it is repeated. Raises what *send* raises; ``OutcomeUnknown`` when the last attempt has no
    result either.
    """
    for attempt in _attempts(OutcomeUnknown, seconds):
        with attempt:
            found = look() if attempt.num > 1 else None
            return send() if found is None else found
    raise AssertionError("the attempts end with a result or an error")


def _attempts(on: type[OpenCardError], seconds: float) -> Iterable[stamina.Attempt]:
    """Yield attempts until one raises no error of type *on*, with growing pauses or those of ``Retry-After``."""

    def pause(error: Exception) -> bool | float:
        if not isinstance(error, on):
            return False
        if error.retry_after is None:
            return True
        return error.retry_after if error.retry_after <= min(MAX_RETRY_AFTER, seconds) else False

    return stamina.retry_context(
        on=pause,
        attempts=ATTEMPTS,
        timeout=seconds,
        wait_initial=FIRST_PAUSE,
        wait_max=MAX_PAUSE,
        wait_jitter=FIRST_PAUSE,
    )


def _without_envelope(document: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Unwrap a resource that some APIs wrap in ``data``."""
    if isinstance(document, dict) and "id" not in document and isinstance(document.get("data"), dict):
        return document["data"]
    return document

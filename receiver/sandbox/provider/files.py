"""Downloads of receipts (contract, section 6), with a token of ``files-read`` until the URL expires; and their faults.

The documents of signed TPAs are downloaded with a token of ``account-tpas-read``, and their URLs do not expire.

The contract leaves open whether such a URL is signed itself; ``Behaviour.files_are_signed`` says so.
"""

from __future__ import annotations

import hmac
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from flask import Response, request

from receiver.sandbox.provider.refusals import Refused, forbidden, malformed, not_found, unauthenticated
from receiver.sandbox.receipt_files import MEDIA_TYPES, receipt_file, signature, tpa_document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from receiver.sandbox.provider.faults import ApiFault
    from receiver.sandbox.provider.provider import Provider
    from receiver.sandbox.provider.resources import IssuedToken

SCOPE: Final = "files-read"
TPA_SCOPE: Final = "account-tpas-read"
PART: Final = 64 * 1024
ERROR_PAGE: Final = b"<!doctype html><html><body><h1>Something went wrong</h1></body></html>"


def answer_file(provider: Provider, name: str, token: IssuedToken | None, fault: ApiFault | None) -> Response:
    """Return the receipt *name*, or what *fault* makes of it. Raises ``Refused``."""
    _authorize(provider, name, token)
    return _answer(provider, name, receipt_file, fault)


def answer_tpa_document(provider: Provider, name: str, token: IssuedToken | None, fault: ApiFault | None) -> Response:
    """Return the signed document *name*, or what *fault* makes of it. Raises ``Refused``."""
    _require_scope(token, TPA_SCOPE)
    return _answer(provider, name, tpa_document, fault)


def _answer(provider: Provider, name: str, made: Callable[[str], bytes], fault: ApiFault | None) -> Response:
    try:
        content = provider.files.get(name) or made(name)
    except KeyError:
        raise not_found() from None
    content_type = MEDIA_TYPES.get(name.rpartition(".")[2], "application/octet-stream")
    match fault.kind if fault else None:
        case "redirect" if fault:
            return Response(status=HTTPStatus.FOUND, headers={"Location": fault.location})
        case "error-page":
            return Response(ERROR_PAGE, content_type="text/html")
        case "endless" if fault:
            return Response(_endless(content, fault.size), content_type=content_type)
        case "cut":
            return _promising_more(content, content_type)
        case "drip" if fault:
            return Response(_byte_by_byte(provider, content, fault.seconds), content_type=content_type)
    return Response(content, content_type=content_type)


def _authorize(provider: Provider, name: str, token: IssuedToken | None) -> None:
    expires = request.args.get("expires", "")
    signed = hmac.compare_digest(request.args.get("signature", ""), signature(name, expires))
    if provider.behaviour.files_are_signed:
        if request.headers.get("Authorization"):
            raise malformed("Only one way of authentication is allowed.")
        if not signed:
            raise forbidden("The signature does not match.")
    else:
        _require_scope(token, SCOPE)
    if expires and datetime.fromtimestamp(int(expires), UTC) <= provider.now():
        raise Refused(HTTPStatus(provider.behaviour.expired_status), "The link has expired.")


def _require_scope(token: IssuedToken | None, scope: str) -> None:
    if token is None:
        raise unauthenticated()
    if scope not in token.scopes:
        raise forbidden("Invalid scope(s) provided.")


def _endless(content: bytes, size: int) -> Iterator[bytes]:
    """Yield *size* bytes that begin like *content*, never many of them at once."""
    yield content
    for _ in range(len(content), size, PART):
        yield bytes(PART)


def _byte_by_byte(provider: Provider, content: bytes, seconds: float) -> Iterator[bytes]:
    for place in range(len(content)):
        if provider.stopping.wait(seconds):
            return
        yield content[place : place + 1]


def _promising_more(content: bytes, content_type: str) -> Response:
    """Return an answer that ends before its ``Content-Length``."""
    response = Response(content[: len(content) // 2], content_type=content_type)
    response.automatically_set_content_length = False
    response.headers["Content-Length"] = str(len(content))
    return response

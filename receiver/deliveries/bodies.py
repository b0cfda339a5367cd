"""Reading the body of a request, up to a limit."""

from __future__ import annotations

from flask import request
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from werkzeug.exceptions import ClientDisconnected

from receiver.errors import BodyCutOff, BodyTooLarge, MalformedRequest


def read_body(*, max_bytes: int) -> bytes:
    """Return the current request's body as it came.

    Raises ``BodyTooLarge``, ``BodyCutOff`` when it ended early, and ``MalformedRequest`` for broken chunks.
    """
    # A longer Content-Length is refused before reading. A chunked body has none: Werkzeug stops reading at the
    # maximum without a word, so one byte more than the limit is what tells that it is too long.
    announced = request.content_length
    if announced is not None and announced > max_bytes:
        raise BodyTooLarge(max_bytes)
    request.max_content_length = max_bytes + 1
    try:
        body = request.get_data(cache=False)
    except ClientDisconnected:
        raise BodyCutOff from None
    except ParseException:  # gunicorn reads chunks while we read the body
        raise MalformedRequest("the chunks of the body cannot be read", reason="broken-chunks") from None
    if len(body) > max_bytes:
        raise BodyTooLarge(max_bytes)
    if announced is not None and len(body) != announced:
        raise BodyCutOff
    return body

"""Reading the body of a request, up to a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from werkzeug.wsgi import get_content_length

from receiver.errors import BodyCutOff, BodyTooLarge, MalformedRequest

if TYPE_CHECKING:
    from wsgiref.types import InputStream, WSGIEnvironment


def read_body(environ: WSGIEnvironment, *, max_bytes: int) -> bytes:
    """Return the body of the request as received.

    Raises ``BodyTooLarge``, ``BodyCutOff`` when it ended early, and ``MalformedRequest`` for broken chunks.
    """
    announced = get_content_length(environ)
    if announced is None and not environ.get("wsgi.input_terminated"):
        return b""  # neither a length nor chunks: there is no body, and reading would not end
    if announced is not None and announced > max_bytes:
        raise BodyTooLarge(max_bytes)
    # a body in chunks announces nothing: one byte beyond the limit shows that it is too large
    body = _read(environ["wsgi.input"], max_bytes + 1 if announced is None else announced)
    if len(body) > max_bytes:
        raise BodyTooLarge(max_bytes)
    if announced is not None and len(body) != announced:
        raise BodyCutOff
    return body


def _read(stream: InputStream, size: int) -> bytes:
    """Return *size* bytes, or fewer when the stream ends earlier."""
    try:
        body = stream.read(size)
        while len(body) < size and (more := stream.read(size - len(body))):  # some servers return only what has arrived
            body += more
    except OSError:
        raise BodyCutOff from None
    except ParseException:  # gunicorn reads chunks while we read the body
        raise MalformedRequest("the chunks of the body cannot be read", reason="broken-chunks") from None
    return body

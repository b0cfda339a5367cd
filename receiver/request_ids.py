"""Which request a log line is about: the id that the proxy gave it, or one of our own.

An id is made when the first line of a request is logged; an accepted delivery logs nothing, and so needs none.
"""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from structlog.typing import EventDict, WrappedLogger

VALID: Final = re.compile(r"[A-Za-z0-9._=+/:@-]{8,128}", re.ASCII)
"""What a proxy's ``X-Request-ID`` looks like; anything else may be an attempt to write into the log."""
_KEY: Final = "receiver.request_id"

_current: Final[ContextVar[WSGIEnvironment | None]] = ContextVar("request", default=None)


class RequestIds:
    """WSGI middleware that adds the request's id to log lines. It wraps everything that logs."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Hand the request on."""
        token = _current.set(environ)
        try:
            return self._application(environ, start_response)
        finally:
            _current.reset(token)


def request_id(environ: WSGIEnvironment) -> str:
    """Return the id of a request: always the same one."""
    known = environ.get(_KEY)
    if known is None:
        header = environ.get("HTTP_X_REQUEST_ID", "")
        known = environ[_KEY] = header if VALID.fullmatch(header) else uuid.uuid4().hex
    return str(known)


def add_request_id(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Put the id of the current request on a log line; a processor of structlog."""
    environ = _current.get()
    if environ is not None:
        event_dict.setdefault("request_id", request_id(environ))
    return event_dict

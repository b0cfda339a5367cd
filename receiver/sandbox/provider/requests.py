"""The requests that the API received: for tests of least privilege, retries and order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final

MAX_REQUESTS: Final = 50_000
"""Older requests are forgotten."""


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A request to the token endpoint or the application API; secrets stay out of ``repr``."""

    method: str
    path: str
    query: dict[str, str]
    status: int | None
    """The status of the answer, also of one that was not sent; ``None`` when nothing was done."""
    answered: bool = True
    """False when the connection was closed instead."""
    client_id: str | None = None
    """Whose token it carried; at the token endpoint, who asked."""
    scopes: frozenset[str] | None = None
    """Those of the token it carried, if that was good."""
    scopes_asked: frozenset[str] | None = None
    """Those it asked for, at the token endpoint."""
    body: Any = field(default=None, repr=False)
    """The JSON that was sent, or the form."""


class SeenRequests:
    """The requests in the order in which they were answered; safe for threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._seen: deque[SeenRequest] = deque(maxlen=MAX_REQUESTS)

    def add(self, request: SeenRequest) -> None:
        """Write a request down."""
        with self._lock:
            self._seen.append(request)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._seen.clear()

    def all(self, *, method: str | None = None, path: str = "") -> list[SeenRequest]:
        """Return them, or those of a *method* whose path contains *path*."""
        with self._lock:
            return [each for each in self._seen if method in (None, each.method) and path in each.path]

    def scopes_asked(self) -> set[str]:
        """Return every scope that was asked for at the token endpoint."""
        return {scope for each in self.all() for scope in each.scopes_asked or ()}

    def scopes_used(self) -> set[str]:
        """Return every scope of a token that a request carried."""
        return {scope for each in self.all() for scope in each.scopes or ()}

"""What goes wrong with the API, on demand: each fault waits for the requests that match it.

::

    provider.faults.add(ApiFault.answers(429, path="/webhooks$", method="POST", times=2, retry_after="1"))
    provider.faults.add(ApiFault("hang-up-after", path="/webhooks$", method="POST"))
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, replace
from http import HTTPStatus
from threading import Lock
from typing import Literal, TypeAlias

ForAll: TypeAlias = Literal[
    "answer", "slow", "expire-token", "hang-up-before", "hang-up-after", "login-page", "login-redirect"
]
ForFiles: TypeAlias = Literal["redirect", "error-page", "endless", "cut", "drip"]
Kind: TypeAlias = Literal[ForAll, ForFiles]
"""
- ``answer``          answers *status* and does nothing
- ``slow``            waits *seconds*, and then does what was asked
- ``expire-token``    makes the request's token useless first, so that it is answered 401
- ``hang-up-before``  closes the connection and does nothing
- ``login-page``      answers 200 with an HTML page that asks for a password, whatever was accepted
- ``login-redirect``  answers with a redirect to that page
- ``hang-up-after``   does what was asked, and closes the connection without an answer

Of downloads alone:

- ``redirect``        sends to *location*
- ``error-page``      answers 200 with a page that says that something went wrong
- ``endless``         goes on with zeros until *size* bytes were sent, without saying how many there will be
- ``cut``             ends in the middle
- ``drip``            sends a byte every *seconds*
"""


@dataclass(frozen=True, slots=True)
class ApiFault:
    """What goes wrong with the next *times* requests of a method and path. Raises ``ValueError`` for a wrong *path*."""

    kind: Kind
    path: str = ""
    """A regular expression, searched for in the path without its query."""
    method: str | None = None
    """``None`` for any."""
    times: int = 1
    status: int = HTTPStatus.SERVICE_UNAVAILABLE
    retry_after: str | None = None
    """The header ``Retry-After`` of an answer: seconds or an HTTP date."""
    seconds: float = 0
    location: str = ""
    size: int = 0

    def __post_init__(self) -> None:
        try:
            re.compile(self.path)
        except re.error as error:
            raise ValueError(f"path {self.path!r} is no regular expression: {error}") from None

    @classmethod
    def answers(
        cls, status: int, *, path: str = "", method: str | None = None, times: int = 1, retry_after: str | None = None
    ) -> ApiFault:
        """Return the fault that answers with an error instead of doing anything."""
        return cls("answer", path, method, times, status=status, retry_after=retry_after)

    def meets(self, method: str, path: str) -> bool:
        """Return whether it matches a request."""
        return self.method in (None, method) and re.search(self.path, path) is not None


class ApiFaults:
    """The faults that still wait, the oldest first; safe for threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: deque[ApiFault] = deque()

    def add(self, fault: ApiFault) -> None:
        """Let *fault* happen to the requests that match it."""
        with self._lock:
            self._waiting.append(fault)

    def clear(self) -> None:
        """Forget all that wait."""
        with self._lock:
            self._waiting.clear()

    def waiting(self) -> list[ApiFault]:
        """Return those that wait, each with the times it has left."""
        with self._lock:
            return list(self._waiting)

    def take(self, method: str, path: str) -> ApiFault | None:
        """Return the oldest one that matches this request, used up by one time."""
        with self._lock:
            for place, fault in enumerate(self._waiting):
                if fault.meets(method, path):
                    if fault.times > 1:
                        self._waiting[place] = replace(fault, times=fault.times - 1)
                    else:
                        del self._waiting[place]
                    return fault
            return None

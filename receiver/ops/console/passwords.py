"""Checking passwords: as slow for an unknown name as for a known one, and never more than one at once."""

from __future__ import annotations

from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Final

from werkzeug.security import check_password_hash

from receiver.errors import ReceiverError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.variables import OpsUser

SECONDS_IN_LINE: Final = 3.0
"""Seconds a sign-in waits for others to be checked: a hash takes a tenth of a second of a processor."""


class Busy(ReceiverError):
    """Too many want their password checked right now."""

    retryable = True


class Passwords:
    """Checks the passwords of the users, in one web process."""

    def __init__(self, users: Mapping[str, OpsUser]) -> None:
        self._users = users
        self._anybody = next(iter(users.values()))
        self._turn = BoundedSemaphore(1)

    def knows(self, name: str) -> bool:
        """Return whether there is a user of this name."""
        return name in self._users

    def check(self, name: str, password: str) -> OpsUser | None:
        """Return the user whose name and password these are, or ``None``. Raises ``Busy``."""
        user = self._users.get(name)
        if not self._turn.acquire(timeout=SECONDS_IN_LINE):
            raise Busy("too many are signing in at this moment")
        try:
            # an unknown name is checked against another user's hash, and refused in any case
            right = check_password_hash((user or self._anybody).password_hash, password)
        finally:
            self._turn.release()
        return user if right else None

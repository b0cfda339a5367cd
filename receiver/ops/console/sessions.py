"""Sessions of the console: a row for each sign-in, so that signing out ends one wherever its cookie went."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from flask_login import UserMixin
from sqlalchemy import text

from receiver.ops.console.limits import network_of
from receiver.variables import Role

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Connection, Engine

    from receiver.variables import OpsUser

IDLE: Final = timedelta(hours=1)
"""Without a page for so long, a session ends."""
LONGEST: Final = timedelta(hours=12)
"""A session ends after this, however busy it is."""
KEPT: Final = timedelta(days=400)
"""How long a sign-in stays on record."""

_BEGIN: Final = text(
    """
INSERT INTO receiver.console_sessions (token_hash, user_name, credential, address, network)
VALUES (:token_hash, :user_name, :credential, :address, :network)
"""
)
_FORGET: Final = text("DELETE FROM receiver.console_sessions WHERE signed_in_at < now() - :kept")
_FIND: Final = text(
    """
SELECT id, user_name, credential, signed_in_at, seen_at < now() - interval '1 minute' AS stale
FROM receiver.console_sessions
WHERE token_hash = :token_hash AND ended_at IS NULL AND seen_at > now() - :idle AND signed_in_at > now() - :longest
"""
)
_SEEN: Final = text("UPDATE receiver.console_sessions SET seen_at = now() WHERE id = :id")
_END: Final = text("UPDATE receiver.console_sessions SET ended_at = now() WHERE token_hash = :token_hash")


class SignedIn(UserMixin):  # type: ignore[misc]  # Flask-Login has no types
    """Who is looking at the console."""

    def __init__(self, user: OpsUser, token: str, signed_in_at: datetime | None) -> None:
        self.name = user.name
        self.role = user.role
        self.token = token
        self.signed_in_at = signed_in_at

    @property
    def may_operate(self) -> bool:
        """Whether the user may replay and cancel."""
        return self.role is Role.OPERATOR

    def get_id(self) -> str:
        """Return what the browser keeps, signed: the session's token."""
        return self.token


def begin_session(connection: Connection, user: OpsUser, address: str) -> SignedIn:
    """Record a sign-in from *address*, and return the session that begins."""
    token = secrets.token_urlsafe(32)
    connection.execute(_FORGET, {"kept": KEPT})
    connection.execute(
        _BEGIN,
        {
            "token_hash": _hash(token),
            "user_name": user.name,
            "credential": _credential(user),
            "address": address,
            "network": network_of(address),
        },
    )
    return SignedIn(user, token, None)


def find_session(engine: Engine, users: Mapping[str, OpsUser], token: str) -> SignedIn | None:
    """Return the session, unless it ended: signed out, idle, too old, its user gone, or role or password changed."""
    with engine.begin() as connection:
        found = connection.execute(_FIND, {"token_hash": _hash(token), "idle": IDLE, "longest": LONGEST}).one_or_none()
        if found is None:
            return None
        user = users.get(found.user_name)
        if user is None or _credential(user) != found.credential:
            return None
        if found.stale:
            connection.execute(_SEEN, {"id": found.id})
    return SignedIn(user, token, found.signed_in_at)


def end_session(connection: Connection, token: str) -> None:
    """Sign out."""
    connection.execute(_END, {"token_hash": _hash(token)})


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _credential(user: OpsUser) -> bytes:
    return hashlib.sha256(f"{user.role}:{user.password_hash}".encode()).digest()

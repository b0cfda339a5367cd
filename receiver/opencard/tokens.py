"""Tokens stored in PostgreSQL, encrypted, so that every process and every job process shares them.

One process requests a token while the others wait, under an advisory lock for that client and set of scopes.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from receiver.errors import ConfigurationError
from receiver.locks import LockFamily, key_of
from receiver.opencard.models import OAuthToken

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import ColumnElement, Connection, Engine

    from receiver.encryption import Encryption

MAX_MARGIN: Final = timedelta(minutes=1)
SHARE_OF_LIFE: Final = 10
"""A token is not used in the last minute, or the last tenth, of its life, whichever is shorter."""


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A client of an API, and a set of scopes."""

    api_url: str
    client_id: str
    scopes: frozenset[str]

    @property
    def scope(self) -> str:
        """The scopes as OAuth writes them: sorted, separated by spaces."""
        return " ".join(sorted(self.scopes))


@dataclass(frozen=True, slots=True)
class Token:
    """A token, and until when to use it (aware)."""

    value: str = field(repr=False)
    use_until: datetime

    @classmethod
    def issued(cls, value: str, *, expires_in: float, now: datetime) -> Token:
        """Make a token that expires *expires_in* seconds after *now*; it is used until shortly before."""
        life = timedelta(seconds=expires_in)
        return cls(value, now + life - min(MAX_MARGIN, life / SHARE_OF_LIFE))


class TokenStore(Protocol):
    """Where ``TokenAuth`` finds and stores tokens."""

    def obtain(self, key: TokenKey, request: Callable[[], Token]) -> Token:
        """Return the token of *key* that is good now; *request* for one if there is none."""

    def drop(self, key: TokenKey, refused: str) -> None:
        """Forget the token of *key* if it is still the *refused* one."""


class MemoryTokens:
    """Keeps tokens in this process only."""

    def __init__(self) -> None:
        self._tokens: dict[TokenKey, Token] = {}
        self._lock = threading.Lock()

    def obtain(self, key: TokenKey, request: Callable[[], Token]) -> Token:
        """Return the token of *key* that is good now; *request* for one if there is none."""
        with self._lock:
            token = self._tokens.get(key)
            if token is None or token.use_until <= datetime.now(UTC):
                token = self._tokens[key] = request()
            return token

    def drop(self, key: TokenKey, refused: str) -> None:
        """Forget the token of *key* if it is still the *refused* one."""
        with self._lock:
            if key in self._tokens and self._tokens[key].value == refused:
                del self._tokens[key]


class StoredTokens:
    """Keeps tokens in ``receiver.oauth_tokens``."""

    def __init__(self, engine: Engine, encryption: Encryption) -> None:
        self._engine = engine
        self._encryption = encryption

    def obtain(self, key: TokenKey, request: Callable[[], Token]) -> Token:
        """Return the token of *key* that is good now; *request* for one if there is none, one process at a time."""
        token = self.find(key)
        if token is not None:
            return token
        with self._engine.begin() as connection:
            _lock(connection, key)
            token = self._found(connection, key)
            if token is None:
                token = request()
                self._store(connection, key, token)
            return token

    def find(self, key: TokenKey) -> Token | None:
        """Return the stored token of *key* if it is valid now."""
        with self._engine.connect() as connection:
            return self._found(connection, key)

    def drop(self, key: TokenKey, refused: str) -> None:
        """Delete the token of *key* if it is still the *refused* one: another process may have got a new one."""
        with self._engine.begin() as connection:
            _lock(connection, key)
            token = self._found(connection, key)
            if token is not None and token.value == refused:
                connection.execute(delete(OAuthToken).where(*_is(key)))

    def _found(self, connection: Connection, key: TokenKey) -> Token | None:
        query = select(OAuthToken.token, OAuthToken.expires_at).where(*_is(key))
        row = connection.execute(query).one_or_none()
        if row is None or row.expires_at <= datetime.now(UTC):
            return None
        try:
            return Token(self._encryption.decrypt(row.token), row.expires_at)
        except ConfigurationError:  # the key was removed; unlike a secret, a token can be requested again
            return None

    def _store(self, connection: Connection, key: TokenKey, token: Token) -> None:
        values = {"token": self._encryption.encrypt(token.value), "expires_at": token.use_until}
        connection.execute(
            insert(OAuthToken)
            .values(api_url=key.api_url, client_id=key.client_id, scopes=key.scope, **values)
            .on_conflict_do_update(index_elements=["api_url", "client_id", "scopes"], set_=values)
        )


class BorrowedTokens:
    """Uses stored tokens and keeps new ones in this process: for commands that write nothing."""

    def __init__(self, stored: StoredTokens) -> None:
        self._stored = stored
        self._own = MemoryTokens()
        self._refused: set[str] = set()

    def obtain(self, key: TokenKey, request: Callable[[], Token]) -> Token:
        """Return the token of *key* that is good now; *request* for one if there is none."""
        token = self._stored.find(key)
        if token is not None and token.value not in self._refused:
            return token
        return self._own.obtain(key, request)

    def drop(self, key: TokenKey, refused: str) -> None:
        """Do not use the *refused* token again; a process that may write deletes it."""
        self._refused.add(refused)
        self._own.drop(key, refused)


def _is(key: TokenKey) -> tuple[ColumnElement[bool], ...]:
    return (OAuthToken.api_url == key.api_url, OAuthToken.client_id == key.client_id, OAuthToken.scopes == key.scope)


def _lock(connection: Connection, key: TokenKey) -> None:
    locked = key_of(LockFamily.TOKEN, key.api_url, key.client_id, key.scope)
    connection.execute(select(func.pg_advisory_xact_lock(locked)))

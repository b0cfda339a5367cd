"""Sessions of the console: a row for each sign-in, so that signing out ends one wherever its cookie went.

The session of a user whom an OpenID provider knows is confirmed there once a minute, by the first request after it.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from flask_login import UserMixin
from sqlalchemy import text
from werkzeug.exceptions import ServiceUnavailable

from receiver.errors import ConfigurationError, ReceiverError
from receiver.ops.console.limits import network_of
from receiver.ops.openid.answers import NoRole, ProviderRefused, ProviderUnavailable, Tokens
from receiver.variables import Role

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Connection, Engine, Row

    from receiver.encryption import Encryption
    from receiver.ops.openid.answers import Member
    from receiver.ops.openid.provider import OpenIDProvider
    from receiver.variables import OpsUser

log = structlog.stdlib.get_logger(__name__)

IDLE: Final = timedelta(hours=1)
"""A session ends when its user has requested no page for this time."""
LONGEST: Final = timedelta(hours=12)
"""A session ends after this, however busy it is."""
KEPT: Final = timedelta(days=400)
"""How long a sign-in stays on record."""
CONFIRM_EVERY: Final = timedelta(minutes=1)
"""How long the groups that an OpenID provider confirmed are valid."""
ASK_AGAIN_AFTER: Final = timedelta(seconds=30)
"""Between two questions to a provider that does not answer. Longer than one takes, which is up to four requests."""
UNCONFIRMED: Final = timedelta(minutes=5)
"""A session outlives its last confirmation by this while the provider does not answer: it may be restarting."""

_BEGIN: Final = text(
    """
INSERT INTO receiver.console_sessions
    (token_hash, user_name, credential, subject, role, tokens, address, network, confirmed_at, confirm_after)
VALUES (
    :token_hash, :user_name, :credential, CAST(:subject AS text), :role, :tokens, :address, :network,
    CASE WHEN CAST(:subject AS text) IS NOT NULL THEN now() END,
    CASE WHEN CAST(:subject AS text) IS NOT NULL THEN now() + :confirm_every END
)
"""
)
_DELETE_OLD: Final = text("DELETE FROM receiver.console_sessions WHERE signed_in_at < now() - :kept")
_DELETE_OLD_TOKENS: Final = text(
    """
UPDATE receiver.console_sessions SET tokens = NULL
WHERE tokens IS NOT NULL AND (seen_at < now() - :idle OR signed_in_at < now() - :longest)
"""
)
_FIND: Final = text(
    """
SELECT id, user_name, credential, subject, role, tokens, signed_in_at,
    seen_at < now() - interval '1 minute' AS stale,
    confirm_after <= now() AS due, confirmed_at <= now() - :unconfirmed AS overdue
FROM receiver.console_sessions
WHERE token_hash = :token_hash AND ended_at IS NULL AND seen_at > now() - :idle AND signed_in_at > now() - :longest
"""
)
_SEEN: Final = text("UPDATE receiver.console_sessions SET seen_at = now() WHERE id = :id")
_ASK: Final = text(
    """
UPDATE receiver.console_sessions SET confirm_after = now() + :ask_again_after
WHERE id = :id AND confirm_after <= now() AND ended_at IS NULL
"""
)
_CONFIRM: Final = text(
    """
UPDATE receiver.console_sessions
SET role = :role, tokens = :tokens, confirmed_at = now(), confirm_after = now() + :confirm_every
WHERE id = :id AND ended_at IS NULL
"""
)
_END_BY_ID: Final = text("UPDATE receiver.console_sessions SET ended_at = now(), tokens = NULL WHERE id = :id")
_END: Final = text(
    """
UPDATE receiver.console_sessions AS ended SET ended_at = now(), tokens = NULL
FROM receiver.console_sessions AS before
WHERE ended.token_hash = :token_hash AND before.id = ended.id
RETURNING before.tokens
"""
)


class SessionEnded(ReceiverError):
    """A session ended that its user did not end. The text is for the user."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who signs in, and what the session depends on."""

    name: str
    role: Role
    credential: bytes
    subject: str | None = None
    tokens: Tokens | None = None

    @classmethod
    def of_user(cls, user: OpsUser) -> Account:
        """Return the account of a user with a password."""
        return cls(user.name, user.role, _credential(user))

    @classmethod
    def of_member(cls, member: Member, provider: OpenIDProvider, users: Mapping[str, OpsUser]) -> Account:
        """Return the account of a user whom an OpenID provider confirmed; another one than any of *users*."""
        name = f"{member.name} ({provider.host})" if member.name in users else member.name
        return cls(name, member.role, _credential_at(provider), member.subject, member.tokens)


class SignedIn(UserMixin):  # type: ignore[misc]  # Flask-Login has no types
    """Who is looking at the console."""

    def __init__(self, name: str, role: Role, token: str, signed_in_at: datetime | None) -> None:
        self.name = name
        self.role = role
        self.token = token
        self.signed_in_at = signed_in_at

    @property
    def may_operate(self) -> bool:
        """Whether the user may replay and cancel."""
        return self.role is Role.OPERATOR

    def get_id(self) -> str:
        """Return what the browser keeps, signed: the session's token."""
        return self.token


@dataclass(frozen=True, slots=True)
class Sessions:
    """The sessions of all users, whichever way they signed in."""

    engine: Engine
    encryption: Encryption
    users: Mapping[str, OpsUser]
    provider: OpenIDProvider | None

    def begin(self, connection: Connection, account: Account, address: str) -> SignedIn:
        """Record a sign-in from *address*, and return the session that begins."""
        token = secrets.token_urlsafe(32)
        connection.execute(_DELETE_OLD, {"kept": KEPT})
        connection.execute(_DELETE_OLD_TOKENS, {"idle": IDLE, "longest": LONGEST})
        connection.execute(
            _BEGIN,
            {
                "token_hash": _hash(token),
                "user_name": account.name,
                "credential": account.credential,
                "subject": account.subject,
                "role": None if account.subject is None else account.role,
                "tokens": None if account.tokens is None else self._encrypted(account.tokens),
                "address": address,
                "network": network_of(address),
                "confirm_every": CONFIRM_EVERY,
            },
        )
        return SignedIn(account.name, account.role, token, None)

    def find(self, token: str, *, seen: bool = True) -> SignedIn | None:
        """Return the session, unless it ended: signed out, idle, too old, its user gone, or role or password changed.

        *seen*: whether the user does something, so that the session is idle from now on.
        Raises ``SessionEnded`` when it ends now, by what the OpenID provider says.
        """
        with self.engine.begin() as connection:
            limits = {"idle": IDLE, "longest": LONGEST, "unconfirmed": UNCONFIRMED}
            found = connection.execute(_FIND, {"token_hash": _hash(token), **limits}).one_or_none()
            if found is None or not self._still_valid(found):
                return None
            if found.stale and seen:
                connection.execute(_SEEN, {"id": found.id})
            # one request asks, and moves the time ahead first: a refresh token may be used only once
            asks = found.due and connection.execute(_ASK, {"id": found.id, "ask_again_after": ASK_AGAIN_AFTER}).rowcount
        if found.subject is None:
            role = self.users[found.user_name].role
        elif asks:
            role = self._confirm(found)  # with no connection held
        elif found.overdue:
            raise ServiceUnavailable("Your sign-in is being confirmed. Try again in a few seconds.")
        else:
            role = Role(found.role)
        return SignedIn(found.user_name, role, token, found.signed_in_at)

    def end(self, token: str) -> Tokens | None:
        """Sign out, and return the tokens of the OpenID provider that the session had."""
        with self.engine.begin() as connection:
            tokens = connection.execute(_END, {"token_hash": _hash(token)}).scalar_one_or_none()
        return None if tokens is None else self._decrypted(tokens)

    def _still_valid(self, found: Row[Any]) -> bool:
        """Return whether what the session depends on is still set as it was."""
        if found.subject is not None:
            return self.provider is not None and found.credential == _credential_at(self.provider)
        user = self.users.get(found.user_name)
        return user is not None and found.credential == _credential(user)

    def _confirm(self, found: Row[Any]) -> Role:
        """Return the role that the provider's groups give now. Raises ``SessionEnded``."""
        provider, tokens = self.provider, self._decrypted(found.tokens)
        if provider is None or tokens is None:
            raise self._ended(found, "tokens-unreadable", "Your session has ended. Sign in again.")
        host = provider.host
        try:
            member = provider.confirm(tokens, found.subject)
        except ProviderUnavailable as unavailable:
            log.warning("oidc.unavailable", provider=host, error=str(unavailable))
            if not found.overdue:
                return Role(found.role)
            minutes = int(UNCONFIRMED.total_seconds() // 60)
            words = f"{host} could not confirm your sign-in for {minutes} minutes. Sign in again once it answers."
            raise self._ended(found, "provider-unavailable", f"Your session has ended: {words}") from None
        except ProviderRefused as refused:
            words = f"{host} no longer confirms your sign-in. Sign in again."
            raise self._ended(found, str(refused), f"Your session has ended: {words}") from None
        except NoRole:
            raise self._ended(found, "no-role", f"Your session has ended: {how_to_get_a_role(provider)}") from None
        with self.engine.begin() as connection:
            connection.execute(
                _CONFIRM,
                {
                    "id": found.id,
                    "role": member.role,
                    "tokens": self._encrypted(member.tokens),
                    "confirm_every": CONFIRM_EVERY,
                },
            )
        return member.role

    def _ended(self, found: Row[Any], reason: str, words: str) -> SessionEnded:
        with self.engine.begin() as connection:
            connection.execute(_END_BY_ID, {"id": found.id})
        log.info("oidc.session_ended", session=found.id, reason=reason)
        return SessionEnded(words)

    def _encrypted(self, tokens: Tokens) -> bytes:
        return self.encryption.encrypt(msgspec.json.encode(tokens).decode())

    def _decrypted(self, stored: bytes | None) -> Tokens | None:
        try:
            return None if stored is None else msgspec.json.decode(self.encryption.decrypt(stored), type=Tokens)
        except (ConfigurationError, msgspec.DecodeError):
            return None


def how_to_get_a_role(provider: OpenIDProvider) -> str:
    """Return what helps a user without a role: which groups have one, and who gives them."""
    groups = ", ".join(f"{group} ({role})" for group, role in provider.roles.items())
    return f"none of your groups has a role here. Ask the administrators of {provider.host} for one of these: {groups}."


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _credential(user: OpsUser) -> bytes:
    return hashlib.sha256(f"{user.role}:{user.password_hash}".encode()).digest()


def _credential_at(provider: OpenIDProvider) -> bytes:
    parts = (provider.issuer, provider.client_id, *(f"{group}:{role}" for group, role in provider.roles.items()))
    return hashlib.sha256("\n".join(parts).encode()).digest()

"""What an OpenID provider answers, and the ways in which it can fail."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from receiver.errors import ReceiverError

if TYPE_CHECKING:
    from receiver.variables import Role


class ProviderUnavailable(ReceiverError):
    """The provider does not answer, or not as documented: nothing is known about the user."""

    retryable = True


class ProviderRefused(ReceiverError):
    """The provider does not confirm the user, or what it says cannot be trusted. The text is for the log."""


class NoRole(ReceiverError):
    """The provider confirms the user, and none of the user's groups has a role."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no group of {name} has a role")
        self.name = name


class Tokens(msgspec.Struct, frozen=True):
    """What a session keeps, encrypted, to ask the provider about its user."""

    id_token: str
    access_token: str
    refresh_token: str | None = None

    def __repr__(self) -> str:
        return "Tokens(***)"


@dataclass(frozen=True, slots=True)
class Member:
    """A user whom the provider confirms, with the role that the groups give."""

    subject: str
    name: str
    """The e-mail address, unless it is not verified; otherwise the user name, or the subject."""
    role: Role
    tokens: Tokens = field(repr=False)


class Metadata(msgspec.Struct, frozen=True):
    """What a provider publishes about itself, as far as it is used here."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    end_session_endpoint: str | None = None
    revocation_endpoint: str | None = None
    scopes_supported: list[str] | None = None
    token_endpoint_auth_methods_supported: list[str] | None = None

    def endpoints(self) -> list[str]:
        """Return the addresses that are there."""
        optional = (self.userinfo_endpoint, self.end_session_endpoint, self.revocation_endpoint)
        return [self.authorization_endpoint, self.token_endpoint, self.jwks_uri, *(each for each in optional if each)]


class KeyList(msgspec.Struct, frozen=True):
    """The keys that a provider signs with."""

    keys: list[dict[str, Any]]


class TokenAnswer(msgspec.Struct, frozen=True):
    """An answer of the token endpoint."""

    access_token: str
    id_token: str | None = None
    refresh_token: str | None = None

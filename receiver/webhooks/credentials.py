"""The ways in which OpenCard authenticates on a webhook, and the credentials of each."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from receiver.encryption import Encryption

END_OF_TIME: Final = datetime.max.replace(tzinfo=UTC)
"""When every token has expired."""


class AuthenticationType(StrEnum):
    """How OpenCard authenticates on a webhook in addition to signing."""

    NONE = "none"
    BASIC = "basic"
    CUSTOM = "custom"
    OAUTH = "oauth"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What OpenCard proves itself with on a webhook: of ``basic``, of ``custom`` or of ``oauth``, else empty."""

    basic_username: str = ""
    basic_password: str = field(default="", repr=False)
    custom_key: str = ""
    custom_value: str = field(default="", repr=False)
    oauth_client_id: str = ""
    oauth_client_secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Authentication:
    """A type with its credentials: one way of authenticating that was agreed on with OpenCard."""

    type: AuthenticationType
    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Expected:
    """What proves a webhook's deliveries at the moment *now*; *secrets* are all that are good, the current one first.

    *previous* is what is valid besides *authentication_type* and *credentials* while OpenCard may still use it.
    *webhook_id* and *now* matter to tokens alone; without them, none is accepted.
    """

    secrets: tuple[str, ...] = field(repr=False)
    authentication_type: AuthenticationType = AuthenticationType.NONE
    credentials: Credentials = field(default_factory=Credentials)
    previous: Authentication | None = None
    webhook_id: int = 0
    now: datetime = END_OF_TIME

    @property
    def current(self) -> Authentication:
        """The authentication that OpenCard uses, or will use."""
        return Authentication(self.authentication_type, self.credentials)


def encrypt_credentials(credentials: Credentials, encryption: Encryption) -> bytes | None:
    """Return *credentials* as they are stored in a column; ``None`` when there are none."""
    values = {name: value for name, value in asdict(credentials).items() if value}
    return encryption.encrypt(msgspec.json.encode(values).decode()) if values else None


def decrypt_credentials(stored: bytes | None, encryption: Encryption) -> Credentials:
    """Return what ``encrypt_credentials`` stored."""
    return Credentials() if stored is None else Credentials(**msgspec.json.decode(encryption.decrypt(stored)))

"""One webhook that this service manages, decrypted."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from receiver.webhooks.credentials import (
    Authentication,
    AuthenticationType,
    Credentials,
    Expected,
    decrypt_credentials,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from receiver.encryption import Encryption


@dataclass(frozen=True, slots=True)
class ManagedWebhook:
    """A webhook that this service manages, as its row says, secrets decrypted."""

    id: int
    opencard_webhook_id: int | None
    organization_id: int
    organization_reference_id: str
    endpoint_key: str
    secret: str = field(repr=False)
    authentication_type: AuthenticationType
    credentials: Credentials
    previous_secret: str | None = field(default=None, repr=False)
    previous_secret_expires_at: datetime | None = None
    previous_authentication: Authentication | None = None
    previous_credentials_expires_at: datetime | None = None
    acknowledged_at: datetime | None = None
    """When OpenCard accepted the current secret and credentials; ``None`` while it may not know them."""
    active: bool | None = None
    deleted: bool = False
    """Whether OpenCard does not have it any more."""
    test: bool = False
    """Whether it is only for test deliveries."""
    groups: tuple[str, ...] = ()
    """The buyer parties as they were registered."""
    previous_keys: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The values of custom headers as they were registered, by name in lower case."""
    row_version: str = ""
    read_at: float = field(default_factory=time.monotonic, compare=False)
    """When it was read, on the monotonic clock."""

    @property
    def acknowledged(self) -> bool:
        """Whether OpenCard accepted the current secret and credentials."""
        return self.acknowledged_at is not None

    def expected(self, now: datetime) -> Expected:
        """Return what proves a delivery at *now* (aware): of what was replaced, that which OpenCard may still use."""
        good = [self.secret]
        if self.previous_secret is not None and self.previous_secret_is_good(now):
            good.append(self.previous_secret)
        previous = self.previous_authentication
        if not self._still_used(self.previous_credentials_expires_at, now):
            previous = None
        return Expected(tuple(good), self.authentication_type, self.credentials, previous, self.id, now)

    def previous_secret_is_good(self, now: datetime) -> bool:
        """Return whether deliveries may still be signed with the previous secret at *now* (aware)."""
        return self.previous_secret is not None and self._still_used(self.previous_secret_expires_at, now)

    @property
    def previous_custom_key(self) -> str:
        """The header that held credentials before they were replaced, whether or not they are still good."""
        return "" if self.previous_authentication is None else self.previous_authentication.credentials.custom_key

    def _still_used(self, expires_at: datetime | None, now: datetime) -> bool:
        if expires_at is None:  # it is given an end when OpenCard acknowledges what replaced it
            return self.acknowledged_at is None
        return now < expires_at


def decrypt_webhook(
    row: Mapping[str, Any],
    encryption: Encryption,
    *,
    previous_keys: tuple[str, ...] = (),
    headers: Mapping[str, bytes] | None = None,
) -> ManagedWebhook:
    """Return the webhook of a row of ``receiver.webhooks``, with what other tables have of it."""
    previous_secret = row["previous_secret"]
    previous_type = row["previous_authentication_type"]
    return ManagedWebhook(
        id=row["id"],
        opencard_webhook_id=row["opencard_webhook_id"],
        organization_id=row["organization_id"],
        organization_reference_id=row["organization_reference_id"],
        endpoint_key=row["endpoint_key"],
        secret=encryption.decrypt(row["secret"]),
        authentication_type=AuthenticationType(row["authentication_type"]),
        credentials=decrypt_credentials(row["credentials"], encryption),
        previous_secret=None if previous_secret is None else encryption.decrypt(previous_secret),
        previous_secret_expires_at=row["previous_secret_expires_at"],
        previous_authentication=None
        if previous_type is None
        else Authentication(
            AuthenticationType(previous_type), decrypt_credentials(row["previous_credentials"], encryption)
        ),
        previous_credentials_expires_at=row["previous_credentials_expires_at"],
        acknowledged_at=row["acknowledged_at"],
        active=row["active"],
        deleted=row["deleted_at"] is not None,
        test=row["test"],
        groups=tuple(row["registered_groups"]),
        previous_keys=previous_keys,
        headers={key: encryption.decrypt(value) for key, value in (headers or {}).items()},
        row_version=row.get("row_version", ""),
    )

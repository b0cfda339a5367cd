"""Finding the webhook a request belongs to, by endpoint key or by OAuth client."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
from psycopg.rows import dict_row

from receiver.deliveries.authentication import Authentication, AuthenticationType, Credentials, Expected
from receiver.deliveries.webhooks import ENDPOINT_KEY, encrypt_credentials
from receiver.errors import UnknownEndpoint

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg_pool import ConnectionPool

    from receiver.encryption import Encryption

CACHE_SECONDS: Final = 30.0
"""How long a web process trusts what it read; storing checks the row's version, so that staleness does no harm."""
REREAD_SECONDS: Final = 0.1
"""After a refusal, the webhook is read anew unless it was read this recently: its secret may just have been rotated."""

_COLUMNS: Final = """
SELECT id, organization_reference_id, secret, previous_secret, previous_secret_expires_at, authentication_type,
    credentials, previous_authentication_type, previous_credentials, previous_credentials_expires_at, acknowledged_at,
    xmin::text AS row_version
FROM receiver.webhooks
"""
_BY_KEY: Final = f"""{_COLUMNS} WHERE enabled AND (
    endpoint_key = %(key)s
    OR id = (SELECT webhook_id FROM receiver.previous_endpoint_keys WHERE endpoint_key = %(key)s)
)"""  # noqa: S608 - both parts stand here
_BY_CLIENT: Final = f"{_COLUMNS} WHERE enabled AND oauth_client_id = %(client_id)s"


@dataclass(frozen=True, slots=True)
class Registered:
    """An enabled webhook as the endpoint needs it, secrets decrypted."""

    id: int
    organization_reference_id: str
    row_version: str
    secret: str = field(repr=False)
    previous_secret: str | None = field(repr=False)
    previous_secret_expires_at: datetime | None
    authentication_type: AuthenticationType
    credentials: Credentials
    previous_authentication: Authentication | None
    previous_credentials_expires_at: datetime | None
    acknowledged_at: datetime | None
    read_at: float
    """On the monotonic clock."""

    def expected(self, now: datetime) -> Expected:
        """Return what proves a delivery at *now* (aware): of what was replaced, that which OpenCard may still use."""
        good = [self.secret]
        if self.previous_secret is not None and self._still_used(self.previous_secret_expires_at, now):
            good.append(self.previous_secret)
        previous = self.previous_authentication
        if not self._still_used(self.previous_credentials_expires_at, now):
            previous = None
        return Expected(tuple(good), self.authentication_type, self.credentials, previous, self.id, now)

    @property
    def previous_custom_key(self) -> str:
        """The header that bore credentials before they were replaced, whether or not they are still good."""
        return "" if self.previous_authentication is None else self.previous_authentication.credentials.custom_key

    def _still_used(self, expires_at: datetime | None, now: datetime) -> bool:
        if expires_at is None:  # it is given an end when OpenCard acknowledges what replaced it
            return self.acknowledged_at is None
        return now < expires_at


class WebhookDirectory:
    """Finds webhooks, remembering by endpoint key for a while what was found; safe for threads."""

    def __init__(self, pool: ConnectionPool[Any], encryption: Encryption) -> None:
        self._pool = pool
        self._encryption = encryption
        self._known: dict[str, Registered] = {}
        self._lock = threading.Lock()
        self._nobody = _nobody(encryption)

    def find(self, endpoint_key: str) -> Registered:
        """Return the enabled webhook of *endpoint_key*, be it the current one or a previous one.

        Raises ``UnknownEndpoint``, and psycopg's errors when the database cannot be asked.
        """
        known = self._known.get(endpoint_key)
        if known is not None and time.monotonic() - known.read_at < CACHE_SECONDS:
            return known
        return self.read(endpoint_key)

    def reread(self, webhook: Registered, endpoint_key: str) -> Registered | None:
        """Return the webhook as it is now, or ``None`` when *webhook* was read so recently that it must be right."""
        if time.monotonic() - webhook.read_at < REREAD_SECONDS:
            return None
        return self.read(endpoint_key)

    def read(self, endpoint_key: str) -> Registered:
        """Like ``find``, but from the database."""
        if not ENDPOINT_KEY.fullmatch(endpoint_key):
            raise UnknownEndpoint
        row = self._row(_BY_KEY, {"key": endpoint_key})
        with self._lock:
            self._known.pop(endpoint_key, None)
            if row is None:
                raise UnknownEndpoint
            registered = self._known[endpoint_key] = self._decrypted(row)
        return registered

    def read_by_client(self, client_id: str) -> Registered:
        """Return the enabled webhook that has or had this OAuth client, from the database.

        When there is none, returns one that nobody can prove to be, after the same work: an answer to a stranger must
        not tell, by its time either, which clients there are. Raises psycopg's errors when the database cannot be
        asked.
        """
        return self._decrypted(self._row(_BY_CLIENT, {"client_id": client_id}) or self._nobody)

    def _row(self, query: str, parameters: dict[str, str]) -> dict[str, Any] | None:
        with self._pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            row: dict[str, Any] | None = cursor.execute(query, parameters).fetchone()
        return row

    def _decrypted(self, row: dict[str, Any]) -> Registered:
        previous_secret = row["previous_secret"]
        previous_type = row["previous_authentication_type"]
        return Registered(
            id=row["id"],
            organization_reference_id=row["organization_reference_id"],
            row_version=row["row_version"],
            secret=self._encryption.decrypt(row["secret"]),
            previous_secret=None if previous_secret is None else self._encryption.decrypt(previous_secret),
            previous_secret_expires_at=row["previous_secret_expires_at"],
            authentication_type=AuthenticationType(row["authentication_type"]),
            credentials=self._credentials(row["credentials"]),
            previous_authentication=None
            if previous_type is None
            else Authentication(AuthenticationType(previous_type), self._credentials(row["previous_credentials"])),
            previous_credentials_expires_at=row["previous_credentials_expires_at"],
            acknowledged_at=row["acknowledged_at"],
            read_at=time.monotonic(),
        )

    def _credentials(self, stored: bytes | None) -> Credentials:
        return Credentials() if stored is None else Credentials(**msgspec.json.decode(self._encryption.decrypt(stored)))


def _nobody(encryption: Encryption) -> dict[str, Any]:
    """Return a row like that of a webhook with an OAuth client, whose secret is forgotten at once."""
    client = Credentials(oauth_client_id=secrets.token_urlsafe(32), oauth_client_secret=secrets.token_urlsafe(32))
    return {
        "id": 0,
        "organization_reference_id": "",
        "row_version": "",
        "secret": encryption.encrypt(secrets.token_urlsafe(32)),
        "previous_secret": None,
        "previous_secret_expires_at": None,
        "authentication_type": AuthenticationType.OAUTH.value,
        "credentials": encrypt_credentials(client, encryption),
        "previous_authentication_type": None,
        "previous_credentials": None,
        "previous_credentials_expires_at": None,
        "acknowledged_at": None,
    }

"""The webhooks in care: registering one, listing them, and finding the one an endpoint key belongs to."""

from __future__ import annotations

import re
import secrets
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
from psycopg.rows import dict_row
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError

from receiver.deliveries.authentication import AuthenticationType, Credentials, Expected
from receiver.deliveries.models import Webhook
from receiver.errors import OperationRefused, UnknownEndpoint

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg_pool import ConnectionPool
    from sqlalchemy import Connection

    from receiver.encryption import Encryption

ENDPOINT_PATH: Final = "/hooks/opencard/"
ENDPOINT_KEY: Final = re.compile(r"[A-Za-z0-9_-]{32,128}", re.ASCII)
ENDPOINT_KEY_BYTES: Final = 32
HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^`|~-]+", re.ASCII)
"""Names of headers that arrive: gunicorn and many proxies drop those with an underscore."""
CACHE_SECONDS: Final = 30.0
"""How long a web process trusts what it read; storing checks the row's version, so that staleness does no harm."""
REREAD_SECONDS: Final = 0.1
"""After a refusal, the webhook is read anew unless it was read this recently: its secret may just have been rotated."""

_BY_KEY: Final = """
SELECT id, organization_reference_id, secret, previous_secret, previous_secret_expires_at, authentication_type,
    credentials, xmin::text AS row_version
FROM receiver.webhooks WHERE endpoint_key = %s AND enabled
"""


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
    read_at: float
    """On the monotonic clock."""

    def expected(self, now: datetime) -> Expected:
        """Return what proves a delivery at *now* (aware)."""
        good = [self.secret]
        if (
            self.previous_secret is not None
            and self.previous_secret_expires_at is not None
            and now < self.previous_secret_expires_at
        ):
            good.append(self.previous_secret)
        return Expected(tuple(good), self.authentication_type, self.credentials)


class WebhookDirectory:
    """Finds webhooks by endpoint key, remembering them for a while; safe for threads."""

    def __init__(self, pool: ConnectionPool[Any], encryption: Encryption) -> None:
        self._pool = pool
        self._encryption = encryption
        self._known: dict[str, Registered] = {}
        self._lock = threading.Lock()

    def find(self, endpoint_key: str) -> Registered:
        """Return the enabled webhook of *endpoint_key*.

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
        with self._pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(_BY_KEY, (endpoint_key,)).fetchone()
        with self._lock:
            self._known.pop(endpoint_key, None)
            if row is None:
                raise UnknownEndpoint
            registered = self._known[endpoint_key] = self._decrypted(row)
        return registered

    def _decrypted(self, row: dict[str, Any]) -> Registered:
        decrypt = self._encryption.decrypt
        previous = row["previous_secret"]
        stored = row["credentials"]
        return Registered(
            id=row["id"],
            organization_reference_id=row["organization_reference_id"],
            row_version=row["row_version"],
            secret=decrypt(row["secret"]),
            previous_secret=None if previous is None else decrypt(previous),
            previous_secret_expires_at=row["previous_secret_expires_at"],
            authentication_type=AuthenticationType(row["authentication_type"]),
            credentials=Credentials() if stored is None else Credentials(**msgspec.json.decode(decrypt(stored))),
            read_at=time.monotonic(),
        )


@dataclass(frozen=True, slots=True)
class Adoption:
    """A webhook that was made elsewhere, to be taken into care."""

    organization_reference_id: str
    organization_id: int
    opencard_webhook_id: int
    secret: str = field(repr=False)
    authentication_type: AuthenticationType
    credentials: Credentials

    def problems(self) -> list[str]:
        """Return what is wrong with it, one line each, by option name; empty when nothing is."""
        wrong = []
        if not self.organization_reference_id:
            wrong.append("--organization is empty: give the EMS's own id of the organization")
        if not self.secret:
            wrong.append("--secret is empty: deliveries and the challenge are proven with it")
        needed = {
            AuthenticationType.BASIC: ("basic_username", "basic_password"),
            AuthenticationType.CUSTOM: ("custom_key", "custom_value"),
            AuthenticationType.NONE: (),
        }[self.authentication_type]
        for name, value in asdict(self.credentials).items():
            option = "--" + name.replace("_", "-")
            if name in needed and not value:
                wrong.append(f"{option} is missing: --authentication-type {self.authentication_type} needs it")
            if name not in needed and value:
                wrong.append(f"{option} does not go with --authentication-type {self.authentication_type}")
        if self.credentials.custom_key and not HEADER_NAME.fullmatch(self.credentials.custom_key):
            wrong.append("--custom-key is not a header that arrives: use letters, digits and hyphens, no underscore")
        return wrong


def adopt(connection: Connection, adoption: Adoption, encryption: Encryption) -> dict[str, Any]:
    """Store *adoption* with a new endpoint key and return the webhook's public fields.

    Raises ``OperationRefused`` when the webhook is already in care.
    """
    stored_credentials = None
    if adoption.authentication_type is not AuthenticationType.NONE:
        given = {name: value for name, value in asdict(adoption.credentials).items() if value}
        stored_credentials = encryption.encrypt(msgspec.json.encode(given).decode())
    try:
        webhook_id = connection.execute(
            insert(Webhook)
            .values(
                opencard_webhook_id=adoption.opencard_webhook_id,
                organization_id=adoption.organization_id,
                organization_reference_id=adoption.organization_reference_id,
                endpoint_key=secrets.token_urlsafe(ENDPOINT_KEY_BYTES),
                secret=encryption.encrypt(adoption.secret),
                authentication_type=adoption.authentication_type.value,
                credentials=stored_credentials,
                acknowledged_at=func.now(),  # OpenCard has them already: that is where they come from
            )
            .returning(Webhook.id)
        ).scalar_one()
    except IntegrityError:
        raise OperationRefused(
            f"webhook {adoption.opencard_webhook_id} is in care already: receiver webhooks list shows it"
        ) from None
    return show_webhook(connection, webhook_id)


PUBLIC_COLUMNS: Final = (
    Webhook.id,
    Webhook.opencard_webhook_id,
    Webhook.organization_id,
    Webhook.organization_reference_id,
    Webhook.endpoint_key,
    Webhook.authentication_type,
    Webhook.enabled,
    Webhook.previous_secret_expires_at,
    Webhook.created_at,
    Webhook.updated_at,
)
"""What may be shown; secrets and credentials are not among it."""


def list_webhooks(connection: Connection, *, organization: str | None = None) -> list[dict[str, Any]]:
    """Return the public fields of the webhooks in care, oldest first; of one organization, if given."""
    query = select(*PUBLIC_COLUMNS).order_by(Webhook.id)
    if organization is not None:
        query = query.where(Webhook.organization_reference_id == organization)
    return [dict(row) for row in connection.execute(query).mappings()]


def show_webhook(connection: Connection, webhook_id: int) -> dict[str, Any]:
    """Return the public fields of one webhook, by this service's id. Raises ``OperationRefused`` for an unknown one."""
    row = connection.execute(select(*PUBLIC_COLUMNS).where(Webhook.id == webhook_id)).mappings().one_or_none()
    if row is None:
        raise OperationRefused(f"there is no webhook {webhook_id}: receiver webhooks list shows which there are")
    return dict(row)


def endpoint_url(public_url: str, endpoint_key: str) -> str:
    """Return the address that OpenCard delivers to."""
    return f"{public_url}{ENDPOINT_PATH}{endpoint_key}"

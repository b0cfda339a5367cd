"""Finding the webhook a request belongs to, by endpoint key or by OAuth client."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from psycopg.rows import dict_row

from receiver.errors import UnknownEndpoint
from receiver.webhooks.addresses import ENDPOINT_KEY
from receiver.webhooks.credentials import AuthenticationType, Credentials, encrypt_credentials
from receiver.webhooks.managed import decrypt_webhook
from receiver.webhooks.models import Webhook

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

    from receiver.encryption import Encryption
    from receiver.webhooks.managed import ManagedWebhook

CACHE_SECONDS: Final = 30.0
"""How long a web process trusts what it read; storing checks the row's version, so that staleness does no harm."""
REREAD_SECONDS: Final = 0.1
"""After a refusal, the webhook is read again unless that was this recent: its secret may just have been rotated."""

_COLUMNS: Final = "SELECT *, xmin::text AS row_version FROM receiver.webhooks"
_BY_KEY: Final = f"""{_COLUMNS} WHERE enabled AND (
    endpoint_key = %(key)s
    OR id = (SELECT webhook_id FROM receiver.previous_endpoint_keys WHERE endpoint_key = %(key)s)
)"""  # noqa: S608 - both parts are constants
_BY_CLIENT: Final = f"{_COLUMNS} WHERE enabled AND oauth_client_id = %(client_id)s"


class WebhookDirectory:
    """Finds webhooks, remembering by endpoint key for a while what was found; safe for threads."""

    def __init__(self, pool: ConnectionPool[Any], encryption: Encryption) -> None:
        self._pool = pool
        self._encryption = encryption
        self._known: dict[str, ManagedWebhook] = {}
        self._lock = threading.Lock()
        self._no_webhook = _no_webhook(encryption)

    def find(self, endpoint_key: str) -> ManagedWebhook:
        """Return the enabled webhook of *endpoint_key*, be it the current one or a previous one.

        Raises ``UnknownEndpoint``, and psycopg's errors when the database cannot be asked.
        """
        known = self._known.get(endpoint_key)
        if known is not None and time.monotonic() - known.read_at < CACHE_SECONDS:
            return known
        return self.read(endpoint_key)

    def reread(self, webhook: ManagedWebhook, endpoint_key: str) -> ManagedWebhook | None:
        """Return the webhook as it is now, or ``None`` when *webhook* was read so recently that it must be right."""
        if time.monotonic() - webhook.read_at < REREAD_SECONDS:
            return None
        return self.read(endpoint_key)

    def read(self, endpoint_key: str) -> ManagedWebhook:
        """Like ``find``, but from the database."""
        if not ENDPOINT_KEY.fullmatch(endpoint_key):
            raise UnknownEndpoint
        began = time.monotonic()  # an answer that is late may show what was changed since
        row = self._row(_BY_KEY, {"key": endpoint_key})
        with self._lock:
            self._known.pop(endpoint_key, None)
            if row is None:
                raise UnknownEndpoint
            webhook = self._known[endpoint_key] = replace(decrypt_webhook(row, self._encryption), read_at=began)
        return webhook

    def read_by_client(self, client_id: str) -> ManagedWebhook:
        """Return the enabled webhook that has or had this OAuth client, from the database.

        When there is none, returns one whose proof always fails, after the same work: an answer to a stranger must
        not reveal, not even by its timing, which clients exist. Raises psycopg's errors when the database cannot be
        asked.
        """
        return decrypt_webhook(self._row(_BY_CLIENT, {"client_id": client_id}) or self._no_webhook, self._encryption)

    def _row(self, query: str, parameters: dict[str, str]) -> dict[str, Any] | None:
        with self._pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            row: dict[str, Any] | None = cursor.execute(query, parameters).fetchone()
        return row


def _no_webhook(encryption: Encryption) -> dict[str, Any]:
    """Return a row like that of a webhook with an OAuth client, whose secret is not kept anywhere."""
    client = Credentials(oauth_client_id=secrets.token_urlsafe(32), oauth_client_secret=secrets.token_urlsafe(32))
    return {
        **dict.fromkeys(column.name for column in Webhook.__table__.columns),
        "id": 0,
        "secret": encryption.encrypt(secrets.token_urlsafe(32)),
        "authentication_type": AuthenticationType.OAUTH.value,
        "credentials": encrypt_credentials(client, encryption),
        "registered_groups": (),
    }

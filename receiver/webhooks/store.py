"""The stored webhooks, and each change to them: one function, committed when it returns.

The order of these commits and of the calls to OpenCard is what makes an interrupted run harmless: see
``receiver.bootstrap.apply``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from receiver.webhooks.credentials import encrypt_credentials
from receiver.webhooks.directory import REREAD_SECONDS
from receiver.webhooks.generate import new_credentials, new_endpoint_key, new_secret
from receiver.webhooks.managed import decrypt_webhook
from receiver.webhooks.models import PreviousEndpointKey, Webhook, WebhookHeader

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from sqlalchemy import ColumnElement, Connection, Engine
    from sqlalchemy.orm import InstrumentedAttribute

    from receiver.encryption import Encryption
    from receiver.webhooks.credentials import AuthenticationType
    from receiver.webhooks.managed import ManagedWebhook

    Attribute = InstrumentedAttribute[Any]


class WebhookStore:
    """The managed webhooks. Every method that changes something has committed when it returns."""

    def __init__(self, engine: Engine, encryption: Encryption) -> None:
        self._engine = engine
        self._encryption = encryption

    def all(self) -> list[ManagedWebhook]:
        """Return every managed webhook, test webhooks aside, oldest first."""
        with self._engine.connect() as connection:
            return [webhook for webhook in self._read(connection) if not webhook.test]

    def tests(self) -> list[ManagedWebhook]:
        """Return every test webhook, oldest first."""
        with self._engine.connect() as connection:
            return [webhook for webhook in self._read(connection) if webhook.test]

    def get(self, webhook_id: int) -> ManagedWebhook:
        """Return the webhook with this service's id."""
        with self._engine.connect() as connection:
            (webhook,) = self._read(connection, webhook_id)
            return webhook

    def add(
        self,
        *,
        organization_id: int,
        organization_reference_id: str,
        authentication_type: AuthenticationType,
        given: Mapping[str, str],
        opencard_webhook_id: int | None = None,
        test: bool = False,
    ) -> ManagedWebhook:
        """Make a webhook with a new endpoint key and secret, and with new credentials except those that are *given*."""
        credentials = new_credentials(authentication_type, given)
        with self._engine.begin() as connection:
            webhook_id = connection.execute(
                insert(Webhook)
                .values(
                    opencard_webhook_id=opencard_webhook_id,
                    organization_id=organization_id,
                    organization_reference_id=organization_reference_id,
                    endpoint_key=new_endpoint_key(),
                    secret=self._encryption.encrypt(new_secret()),
                    authentication_type=authentication_type.value,
                    credentials=encrypt_credentials(credentials, self._encryption),
                    oauth_client_id=credentials.oauth_client_id or None,
                    test=test,
                )
                .returning(Webhook.id)
            ).scalar_one()
        return self.get(webhook_id)

    def replace_credentials(
        self, webhook: ManagedWebhook, kind: AuthenticationType, given: Mapping[str, str]
    ) -> ManagedWebhook:
        """Add new credentials to the current ones, which stay valid until OpenCard has taken the new."""
        credentials = new_credentials(kind, given)
        # where a replacement is open already, OpenCard has what that one replaced, and may not know the current ones
        is_open = Webhook.previous_authentication_type.is_not(None) & Webhook.previous_credentials_expires_at.is_(None)
        return self._replace(
            webhook,
            previous_authentication_type=case(
                (is_open, Webhook.previous_authentication_type), else_=Webhook.authentication_type
            ),
            previous_credentials=case((is_open, Webhook.previous_credentials), else_=Webhook.credentials),
            previous_credentials_expires_at=None,
            authentication_type=kind.value,
            credentials=encrypt_credentials(credentials, self._encryption),
            # of the previous credentials, which are good for a while, the id is still needed
            oauth_client_id=credentials.oauth_client_id or Webhook.oauth_client_id,
            acknowledged_at=None,
        )

    def replace_secret(self, webhook: ManagedWebhook) -> ManagedWebhook:
        """Add a new secret to the current one, which stays valid until some time after OpenCard has taken the new."""
        return self._replace(
            webhook,
            previous_secret=Webhook.secret,
            previous_secret_expires_at=None,
            secret=self._encryption.encrypt(new_secret()),
            acknowledged_at=None,
        )

    def acknowledge(self, webhook: ManagedWebhook, *, opencard_webhook_id: int, overlap: timedelta) -> ManagedWebhook:
        """Note that OpenCard has everything as stored here; what it replaces is valid for *overlap* from now on.

        Another webhook that had the same id at OpenCard is deleted there: ids repeat only after OpenCard lost them all.
        """
        until = func.now() + overlap
        with self._engine.begin() as connection:
            connection.execute(
                update(Webhook)
                .where(Webhook.opencard_webhook_id == opencard_webhook_id, Webhook.id != webhook.id)
                .values(opencard_webhook_id=None, active=False, deleted_at=func.now(), updated_at=func.now())
            )
        self._update(
            webhook,
            opencard_webhook_id=opencard_webhook_id,
            deleted_at=None,
            acknowledged_at=func.now(),
            previous_secret_expires_at=_ends(Webhook.previous_secret, Webhook.previous_secret_expires_at, until),
            previous_credentials_expires_at=_ends(
                Webhook.previous_authentication_type, Webhook.previous_credentials_expires_at, until
            ),
        )
        return self.get(webhook.id)

    def note_facts(self, webhook: ManagedWebhook, *, organization_id: int, active: bool | None) -> None:
        """Note what OpenCard says of the webhook at its current URL, unless that is known already.

        Once it is active there, its previous endpoint keys are good no more.
        """
        ends = webhook.previous_keys if active else ()
        known = (webhook.organization_id, webhook.active, webhook.deleted)
        if (organization_id, active, False) == known and not ends:
            return
        with self._engine.begin() as connection:
            connection.execute(
                update(Webhook)
                .where(Webhook.id == webhook.id)
                .values(organization_id=organization_id, active=active, deleted_at=None, updated_at=func.now())
            )
            connection.execute(delete(PreviousEndpointKey).where(PreviousEndpointKey.endpoint_key.in_(ends)))

    def note_deleted(self, webhook: ManagedWebhook) -> None:
        """Note that OpenCard does not have the webhook any more."""
        self._update(webhook, deleted_at=func.now(), active=False)

    def note_groups(self, webhook: ManagedWebhook, groups: tuple[str, ...]) -> ManagedWebhook:
        """Remember the buyer parties that are registered."""
        self._update(webhook, registered_groups=list(groups))
        return self.get(webhook.id)

    def replace_endpoint_key(self, webhook: ManagedWebhook) -> ManagedWebhook:
        """Give the webhook a new endpoint key; the current one stays good until it is active under the new."""
        with self._engine.begin() as connection:
            connection.execute(
                insert(PreviousEndpointKey).values(endpoint_key=webhook.endpoint_key, webhook_id=webhook.id)
            )
            connection.execute(
                update(Webhook)
                .where(Webhook.id == webhook.id)
                .values(endpoint_key=new_endpoint_key(), active=False, updated_at=func.now())
            )
        return self.get(webhook.id)

    def note_header(self, webhook: ManagedWebhook, key: str, value: str) -> None:
        """Remember the value that a custom header was registered with."""
        encrypted = self._encryption.encrypt(value)
        with self._engine.begin() as connection:
            connection.execute(
                upsert(WebhookHeader)
                .values(webhook_id=webhook.id, key=key.lower(), value=encrypted)
                .on_conflict_do_update(index_elements=["webhook_id", "key"], set_={"value": encrypted})
            )

    def forget_header(self, webhook: ManagedWebhook, key: str) -> None:
        """Forget a custom header that is registered no more."""
        with self._engine.begin() as connection:
            connection.execute(
                delete(WebhookHeader).where(WebhookHeader.webhook_id == webhook.id, WebhookHeader.key == key.lower())
            )

    def _replace(self, webhook: ManagedWebhook, **values: Any) -> ManagedWebhook:  # noqa: ANN401 - of a row's columns
        """Change what proves a delivery; return when no web process refuses by what it read before the change."""
        self._update(webhook, **values)
        time.sleep(REREAD_SECONDS)
        return self.get(webhook.id)

    def _update(self, webhook: ManagedWebhook, **values: Any) -> None:  # noqa: ANN401 - of a row's columns
        with self._engine.begin() as connection:
            connection.execute(update(Webhook).where(Webhook.id == webhook.id).values(**values, updated_at=func.now()))

    def _read(self, connection: Connection, webhook_id: int | None = None) -> list[ManagedWebhook]:
        webhooks = select(Webhook.__table__)
        keys = select(PreviousEndpointKey.webhook_id, PreviousEndpointKey.endpoint_key)
        headers = select(WebhookHeader.webhook_id, WebhookHeader.key, WebhookHeader.value)
        if webhook_id is not None:
            webhooks = webhooks.where(Webhook.id == webhook_id)
            keys = keys.where(PreviousEndpointKey.webhook_id == webhook_id)
            headers = headers.where(WebhookHeader.webhook_id == webhook_id)
        previous_keys = connection.execute(keys.order_by(PreviousEndpointKey.replaced_at)).all()
        registered_headers = connection.execute(headers).all()
        return [
            decrypt_webhook(
                dict(row),
                self._encryption,
                previous_keys=tuple(key for owner, key in previous_keys if owner == row["id"]),
                headers={key: value for owner, key, value in registered_headers if owner == row["id"]},
            )
            for row in connection.execute(webhooks.order_by(Webhook.id)).mappings()
        ]


def _ends(previous: Attribute, expires_at: Attribute, until: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the end of what is *previous*, if it is open still: an earlier replacement keeps its own."""
    return case((previous.is_not(None) & expires_at.is_(None), until), else_=expires_at)

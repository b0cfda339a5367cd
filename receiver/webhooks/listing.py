"""The managed webhooks as they may be shown: without secrets and credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from receiver.errors import OperationRefused
from receiver.webhooks.models import Webhook

if TYPE_CHECKING:
    from sqlalchemy import Connection

PUBLIC_COLUMNS: Final = (
    Webhook.id,
    Webhook.opencard_webhook_id,
    Webhook.organization_id,
    Webhook.organization_reference_id,
    Webhook.endpoint_key,
    Webhook.authentication_type,
    Webhook.enabled,
    Webhook.active,
    Webhook.test,
    Webhook.previous_secret_expires_at,
    Webhook.created_at,
    Webhook.updated_at,
    Webhook.deleted_at,
)


def list_webhooks(connection: Connection, *, organization: str | None = None) -> list[dict[str, Any]]:
    """Return the public fields of the managed webhooks, oldest first; of one organization, if given."""
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

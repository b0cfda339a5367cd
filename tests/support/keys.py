"""Webhooks whose secrets are encrypted with given keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet
from sqlalchemy import insert, select

from receiver.encryption import Encryption
from receiver.ops.keys import encrypted_tables
from receiver.webhooks.models import Webhook, WebhookHeader

if TYPE_CHECKING:
    from sqlalchemy import Engine

OLD, NEW, FOREIGN = (Fernet.generate_key().decode() for _ in range(3))
BEFORE, AFTER, LOST = Encryption([OLD]), Encryption([NEW, OLD]), Encryption([FOREIGN])


def add_webhook(engine: Engine, number: int = 1, encryption: Encryption = BEFORE, **columns: Any) -> int:
    """Store a webhook with a secret in every column that may hold one, and one header."""
    secrets = {
        name: encryption.encrypt(f"{name} {number}")
        for name in ("secret", "previous_secret", "credentials", "previous_credentials")
    }
    with engine.begin() as connection:
        webhook_id = connection.execute(
            insert(Webhook)
            .values(
                opencard_webhook_id=number,
                organization_id=1,
                organization_reference_id="acme",
                endpoint_key=f"key-{number}",
                **{**secrets, **columns},
            )
            .returning(Webhook.id)
        ).scalar_one()
        header = {"webhook_id": webhook_id, "key": "X-Key", "value": encryption.encrypt(f"value {number}")}
        connection.execute(insert(WebhookHeader).values(header))
    return webhook_id


def stored(engine: Engine) -> dict[str, list[bytes]]:
    """Return every encrypted value there is, by column."""
    with engine.connect() as connection:
        return {
            f"{table.fullname}.{column.name}": list(
                connection.execute(select(column).where(column.is_not(None)).order_by(*table.primary_key)).scalars()
            )
            for table, columns in encrypted_tables()
            for column in columns
        }

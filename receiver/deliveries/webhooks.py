"""The managed webhooks: taking one, listing them, and the addresses that OpenCard calls for them."""

from __future__ import annotations

import re
import secrets
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError

from receiver.deliveries.authentication import AuthenticationType, Credentials
from receiver.deliveries.header_rules import credential_problem, value_problem
from receiver.deliveries.models import Webhook
from receiver.errors import OperationRefused

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from receiver.encryption import Encryption

ENDPOINT_PATH: Final = "/hooks/opencard/"
TOKEN_PATH: Final = "/hooks/oauth/token"  # noqa: S105 - an address
ENDPOINT_KEY: Final = re.compile(r"[A-Za-z0-9_-]{32,128}", re.ASCII)
ENDPOINT_KEY_BYTES: Final = 32

ADOPTABLE: Final = {
    AuthenticationType.NONE: (),
    AuthenticationType.BASIC: ("basic_username", "basic_password"),
    AuthenticationType.CUSTOM: ("custom_key", "custom_value"),
}
"""Which authentication a webhook that was made elsewhere may have, and the credentials that go with each."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """A webhook that was made elsewhere, to be adopted."""

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
        elif problem := value_problem(self.secret):
            wrong.append(f"--secret: {problem}")
        needed = ADOPTABLE.get(self.authentication_type)
        if needed is None:
            wrong.append(
                f"--authentication-type {self.authentication_type} cannot be adopted: OpenCard gets its tokens here, "
                "with credentials that this service must have made; receiver bootstrap registers such webhooks"
            )
            return wrong
        for name, value in asdict(self.credentials).items():
            option = "--" + name.replace("_", "-")
            if name in needed and not value:
                wrong.append(f"{option} is missing: --authentication-type {self.authentication_type} needs it")
            if name not in needed and value:
                wrong.append(f"{option} does not go with --authentication-type {self.authentication_type}")
            elif value and (problem := credential_problem(name, value)):
                wrong.append(f"{option}: {problem}")
        return wrong


def adopt(connection: Connection, adoption: Adoption, encryption: Encryption) -> dict[str, Any]:
    """Store *adoption* with a new endpoint key and return the webhook's public fields.

    Raises ``OperationRefused`` when the webhook is managed already.
    """
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
                credentials=encrypt_credentials(adoption.credentials, encryption),
                acknowledged_at=func.now(),  # OpenCard has them already: that is where they come from
            )
            .returning(Webhook.id)
        ).scalar_one()
    except IntegrityError:
        raise OperationRefused(
            f"webhook {adoption.opencard_webhook_id} is managed already: receiver webhooks list shows it"
        ) from None
    return show_webhook(connection, webhook_id)


def encrypt_credentials(credentials: Credentials, encryption: Encryption) -> bytes | None:
    """Return *credentials* as they are stored in a column; ``None`` when there are none."""
    given = {name: value for name, value in asdict(credentials).items() if value}
    return encryption.encrypt(msgspec.json.encode(given).decode()) if given else None


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
"""What may be shown; secrets and credentials are not among it."""


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


def endpoint_url(public_url: str, endpoint_key: str) -> str:
    """Return the address that OpenCard delivers to."""
    return f"{public_url}{ENDPOINT_PATH}{endpoint_key}"


def token_url(public_url: str) -> str:
    """Return the address that OpenCard gets tokens from, for ``oauth_access_token_url``."""
    return f"{public_url}{TOKEN_PATH}"

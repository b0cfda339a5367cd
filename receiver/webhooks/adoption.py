"""Adopting a webhook that was registered elsewhere."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, insert
from sqlalchemy.exc import IntegrityError

from receiver.errors import OperationRefused
from receiver.webhooks.credentials import AuthenticationType, Credentials, encrypt_credentials
from receiver.webhooks.generate import new_endpoint_key
from receiver.webhooks.header_rules import credential_problem, value_problem
from receiver.webhooks.listing import show_webhook
from receiver.webhooks.models import Webhook

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from receiver.encryption import Encryption

ADOPTABLE: Final = {
    AuthenticationType.NONE: (),
    AuthenticationType.BASIC: ("basic_username", "basic_password"),
    AuthenticationType.CUSTOM: ("custom_key", "custom_value"),
}
"""Which authentication a webhook that was registered elsewhere may have, and the credentials that go with each."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """A webhook that was registered elsewhere, to be adopted."""

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
                endpoint_key=new_endpoint_key(),
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

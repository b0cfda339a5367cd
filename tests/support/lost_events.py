"""Events that OpenCard could not deliver: only its delivery log has them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from receiver.encryption import Encryption
from receiver.webhooks.adoption import Adoption, adopt
from receiver.webhooks.credentials import AuthenticationType, Credentials
from tests.support.factories import body, card_holder

if TYPE_CHECKING:
    from tests.support.world import World


def lose(world: World, *references: str, organization: str = "acme", at: datetime | None = None) -> None:
    """Let OpenCard send events of new card holders that do not arrive."""
    state = world.provider.state
    ids = {each.reference_id: each.id for each in state.organizations()}
    (webhook,) = state.webhooks_of(ids[organization])
    for reference in references:
        content = body(card_holder(reference, organization))
        state.log_attempt(webhook.id, "card_holder.created", 503, at or datetime.now(UTC), content)


def add_managed(world: World, *references: str) -> None:
    """Have webhooks of new organizations registered, without the way over OpenCard's API."""
    encryption = Encryption(world.settings.encryption_keys)
    with world.engine.begin() as connection:
        for reference in references:
            organization = world.provider.state.add_organization(reference)
            webhook = world.provider.state.add_webhook(organization.id, "https://hooks.example.com", active=True)
            adoption = Adoption(
                organization_reference_id=reference,
                organization_id=organization.id,
                opencard_webhook_id=webhook.id,
                secret=webhook.secret,
                authentication_type=AuthenticationType.NONE,
                credentials=Credentials(),
            )
            adopt(connection, adoption, encryption)

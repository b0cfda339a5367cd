"""Steps of the tests of bootstrap."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import httpx

from receiver.bootstrap.rotation import Rotation, RotationResult
from receiver.encryption import Encryption
from receiver.events.catalogue import EVENT_FLAGS
from receiver.opencard.auth import Access
from receiver.reconcile.run import Reconciler
from receiver.sandbox.provider.billing import PRODUCT_OF
from receiver.tls import tls_context
from tests.support.factories import body, card_holder

if TYPE_CHECKING:
    from tests.support.world import World

DAY = timedelta(days=1)
FLAGS = {flag for flag in EVENT_FLAGS.values() if flag}
FREE = {flag for flag in FLAGS if flag.startswith(("tpa_", "card_holder_"))}


def reconciled(world: World) -> list[str]:
    """Return the organizations whose logs a run over all webhooks reads."""
    access = Access(world.api_url, "1", world.client.id, world.client.secret)
    reconciler = Reconciler(
        world.engine, Encryption(world.settings.encryption_keys), access, grace=timedelta(minutes=15)
    )
    outcomes = reconciler.run()
    assert [outcome.error for outcome in outcomes if outcome.error] == []
    return sorted(outcome.organization_reference_id for outcome in outcomes)


def allowed(products: frozenset[str] | None, undocumented: dict[str, str] | None = None) -> set[str]:
    """Return the flags that an organization with these products may have."""
    if products is None:
        return set(FREE)
    needs = {**PRODUCT_OF, **(undocumented or {})}
    return {flag for flag in FLAGS if needs.get(flag) is None or needs[flag] in products}


def deliver(world: World) -> int:
    """Deliver to what is registered, as OpenCard would, and return the answer's status."""
    webhook = world.registered()
    registration = webhook.registration(world.provider.state.organization(webhook.organization_id))
    content = body(card_holder())
    headers = registration.headers("card_holder.created", content)
    return httpx.post(webhook.url, content=content, headers=headers, verify=tls_context(), trust_env=False).status_code


def rotate(world: World, *webhook_ids: int, overlap: timedelta = DAY) -> RotationResult:
    """Rotate the secrets of these webhooks, or of all."""
    access = Access(world.api_url, str(world.client.account_id), world.client.id, world.client.secret)
    rotation = Rotation(
        world.engine, Encryption(world.settings.encryption_keys), access, world.public_url, transport=world.transport
    )
    return rotation.run(webhook_ids or [webhook.id for webhook in world.store.all()], overlap=overlap)

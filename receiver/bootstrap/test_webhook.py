"""The test webhook of an organization: what OpenCard sends to it is stored and shown, and never applied.

It has no event flags, so that no real event is sent to it and no billing rejects it, and it is enabled only while a
test lasts. It is registered as the organization's own webhook is, and authenticates in the same way.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from receiver.bootstrap.apply import Applier, registration_fields
from receiver.bootstrap.concurrency import one_at_a_time
from receiver.bootstrap.desired import CREDENTIALS, Wanted
from receiver.bootstrap.flags import switches
from receiver.bootstrap.match import Care, Match, match
from receiver.bootstrap.plan import Extras, plan
from receiver.errors import OpenCardError
from receiver.opencard.webhooks import Organization

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from receiver.opencard.webhooks import Webhooks
    from receiver.webhooks.managed import ManagedWebhook
    from receiver.webhooks.store import WebhookStore

log = structlog.stdlib.get_logger(__name__)


@contextmanager
def enabled_test_webhook(
    engine: Engine, store: WebhookStore, api: Webhooks, webhook: ManagedWebhook, public_url: str
) -> Iterator[ManagedWebhook]:
    """Have the organization of *webhook* a test webhook that is enabled and active for the length of the block.

    Raises ``OperationRefused`` when it does not become active, or is to be registered while another command changes
    webhooks, and an ``OpenCardError`` when OpenCard does not take it.
    """
    wanted = _like(webhook)
    organization = Organization(webhook.organization_id, reference_id=webhook.organization_reference_id)
    stored = _stored(engine, store, webhook, wanted)
    care = Care([stored])
    found = match(care, webhook.organization_reference_id, api.of(organization.id), public_url=public_url)
    matched = Match(stored, found.registered)
    applier = Applier.of(api, store, public_url, organization, wanted, matched, Extras())
    try:
        applier.apply(plan(wanted, matched, Extras(), public_url=public_url, prune=False))
        applier.note_facts()
        yield store.get(stored.id)
    finally:
        _disable(applier)


def _like(webhook: ManagedWebhook) -> Wanted:
    """Return what is wanted of a test webhook: the same authentication, with credentials of its own, and no events."""
    given = {name: getattr(webhook.credentials, name) for name in ("basic_username", "custom_key")}
    return Wanted(
        events=frozenset(),
        authentication_type=webhook.authentication_type,
        credentials={name: given[name] for name in CREDENTIALS[webhook.authentication_type] if given.get(name)},
        all_events=False,
    )


def _stored(engine: Engine, store: WebhookStore, webhook: ManagedWebhook, wanted: Wanted) -> ManagedWebhook:
    """Return the organization's test webhook as it is stored, added if it is the first time."""
    reference = webhook.organization_reference_id
    for stored in store.tests():
        if stored.organization_reference_id == reference:
            return stored
    with one_at_a_time(engine):  # a bootstrap run that does not know it would disable it as a stranger
        return store.add(
            organization_id=webhook.organization_id,
            organization_reference_id=reference,
            authentication_type=wanted.authentication_type,
            given=wanted.credentials_given,
            test=True,
        )


def _disable(applier: Applier) -> None:
    """Disable the test webhook. Where that fails it does no harm, and the next test disables it."""
    stored, registered = applier.stored, applier.registered
    if stored is None or registered is None:
        return
    fields = registration_fields(stored, switches(()), public_url=applier.public_url, enabled=False)
    try:
        applier.api.update(applier.organization.id, registered.id, fields)
    except OpenCardError as error:
        log.warning("test_webhook.left_enabled", webhook_id=stored.id, error=str(error))

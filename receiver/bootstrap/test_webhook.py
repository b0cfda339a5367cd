"""The test webhook of an organization: its deliveries are stored and shown, and never applied.

It has no event flags, so that no real event is sent to it and no billing rejects it, and it is enabled only during a
test. It is registered and authenticates like the organization's own webhook.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from receiver.bootstrap.apply import Applier, registration_fields
from receiver.bootstrap.concurrency import one_at_a_time
from receiver.bootstrap.desired import CREDENTIALS, DesiredWebhook
from receiver.bootstrap.flags import flag_fields
from receiver.bootstrap.match import ManagedWebhooks, Match, match
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
    """Enable a test webhook for the organization of *webhook*, active for the duration of the block.

    Raises ``OperationRefused`` when it does not become active, or cannot be registered while another command changes
    webhooks, and an ``OpenCardError`` when OpenCard does not accept it.
    """
    desired = _desired_like(webhook)
    organization = Organization(webhook.organization_id, reference_id=webhook.organization_reference_id)
    stored = _get_or_add(engine, store, webhook, desired)
    managed = ManagedWebhooks([stored])
    found = match(managed, webhook.organization_reference_id, api.of(organization.id), public_url=public_url)
    matched = Match(stored, found.registered)
    applier = Applier.of(api, store, public_url, organization, desired, matched, Extras())
    try:
        applier.apply(plan(desired, matched, Extras(), public_url=public_url, prune=False))
        applier.note_facts()
        yield store.get(stored.id)
    finally:
        _disable(applier)


def _desired_like(webhook: ManagedWebhook) -> DesiredWebhook:
    """Return the desired test webhook: the same authentication with its own credentials, and no events."""
    kept = {name: getattr(webhook.credentials, name) for name in ("basic_username", "custom_key")}
    return DesiredWebhook(
        events=frozenset(),
        authentication_type=webhook.authentication_type,
        credentials={name: kept[name] for name in CREDENTIALS[webhook.authentication_type] if kept.get(name)},
        all_events=False,
    )


def _get_or_add(
    engine: Engine, store: WebhookStore, webhook: ManagedWebhook, desired: DesiredWebhook
) -> ManagedWebhook:
    """Return the organization's stored test webhook, added if there is none."""
    reference = webhook.organization_reference_id
    for stored in store.tests():
        if stored.organization_reference_id == reference:
            return stored
    with one_at_a_time(engine):  # a bootstrap run that does not know it would disable it as surplus
        return store.add(
            organization_id=webhook.organization_id,
            organization_reference_id=reference,
            authentication_type=desired.authentication_type,
            given=desired.given_credentials,
            test=True,
        )


def _disable(applier: Applier) -> None:
    """Disable the test webhook. A failure does no harm, and the next test disables it."""
    stored, registered = applier.stored, applier.registered
    if stored is None or registered is None:
        return
    fields = registration_fields(stored, flag_fields(()), public_url=applier.public_url, enabled=False)
    try:
        applier.api.update(applier.organization.id, registered.id, fields)
    except OpenCardError as error:
        log.warning("test_webhook.left_enabled", webhook_id=stored.id, error=str(error))

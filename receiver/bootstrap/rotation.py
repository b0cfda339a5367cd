"""Rotate the secrets of webhooks, each step safe to be interrupted.

The new secret is committed next to the old one before it is sent to OpenCard, and both are valid from then on; the old
one gets an expiry when OpenCard has accepted the new one. An interrupted rotation is finished by the next run, with
the secret that was already generated, or by bootstrap.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog

from receiver.bootstrap.apply import registration_fields
from receiver.bootstrap.concurrency import in_parallel, one_at_a_time
from receiver.bootstrap.flags import flag_fields, subscribe
from receiver.bootstrap.match import endpoint_key
from receiver.bootstrap.run import PARALLEL_ORGANIZATIONS
from receiver.errors import OperationRefused
from receiver.opencard import routes
from receiver.opencard.client import OpenCard
from receiver.opencard.tokens import StoredTokens
from receiver.opencard.webhooks import Organization, Webhooks
from receiver.progress import Progress
from receiver.webhooks.addresses import ENDPOINT_PATH
from receiver.webhooks.store import WebhookStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    import httpx
    from sqlalchemy import Engine

    from receiver.bootstrap.concurrency import OrganizationFailure
    from receiver.db import HeldLock
    from receiver.encryption import Encryption
    from receiver.opencard.auth import Access
    from receiver.opencard.webhooks import RegisteredWebhook
    from receiver.webhooks.managed import ManagedWebhook

log = structlog.stdlib.get_logger(__name__)

RUN_BOOTSTRAP: Final = "receiver bootstrap registers it"


@dataclass(frozen=True, slots=True)
class RotatedWebhook:
    """A webhook with a new secret."""

    id: int
    organization_reference_id: str
    opencard_webhook_id: int | None
    previous_secret_expires_at: datetime | None
    """Until when deliveries signed with the old one are accepted, too (aware)."""


@dataclass(frozen=True, slots=True)
class RotationResult:
    """Both lists are in the order of the webhooks."""

    rotated: list[RotatedWebhook]
    failures: list[OrganizationFailure]


class Rotation:
    """Replaces the secrets of webhooks, here and at OpenCard."""

    def __init__(
        self,
        engine: Engine,
        encryption: Encryption,
        access: Access,
        public_url: str,
        *,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._engine = engine
        self._store = WebhookStore(engine, encryption)
        self._tokens = StoredTokens(engine, encryption)
        self._access = access
        self._public_url = public_url
        self._transport = transport

    def run(
        self,
        webhook_ids: Sequence[int],
        *,
        overlap: timedelta,
        progress: Progress = Progress(),  # noqa: B008 - it is frozen
    ) -> RotationResult:
        """Rotate the secrets of these webhooks, by this service's ids; one's failure stops no other.

        The old secret stays valid for *overlap* after OpenCard has accepted the new one; without overlap it ends at
        once, and so does one of an earlier rotation. Raises ``OperationRefused`` when another command is changing
        webhooks, and an ``OpenCardError`` when there is no token.
        """
        with ExitStack() as stack:
            held = stack.enter_context(one_at_a_time(self._engine))
            api = Webhooks(
                stack.enter_context(self._client(routes.GET_WEBHOOK.scope, held)),
                stack.enter_context(self._client(routes.UPDATE_WEBHOOK.scope, held)),
            )
            progress.stage("rotating")
            progress.total(len(webhook_ids))

            def rotated(webhook: ManagedWebhook) -> RotatedWebhook:
                held.check()
                try:
                    return self._rotate(api, webhook, overlap)
                finally:
                    progress.advance()

            done, failures = in_parallel(
                rotated,
                [self._store.get(webhook_id) for webhook_id in dict.fromkeys(webhook_ids)],
                PARALLEL_ORGANIZATIONS,
                organization=lambda webhook: Organization(
                    webhook.organization_id, reference_id=webhook.organization_reference_id
                ),
            )
            return RotationResult([result for _, result in done], failures)

    def _client(self, scope: str, held: HeldLock) -> OpenCard:
        client = OpenCard(self._access, [scope], self._tokens, before_change=held.check, transport=self._transport)
        client.authenticate()  # before anything is changed, so that a missing scope is reported once
        return client

    def _rotate(self, api: Webhooks, webhook: ManagedWebhook, overlap: timedelta) -> RotatedWebhook:
        if webhook.opencard_webhook_id is None:
            raise OperationRefused(f"webhook {webhook.id} is not known to be registered at OpenCard: {RUN_BOOTSTRAP}")
        pending, good_until = _previous(webhook)
        if good_until is not None and overlap:
            raise OperationRefused(
                f"the secret of webhook {webhook.id} was rotated already, and its previous one is good until "
                f"{good_until:%Y-%m-%d %H:%M:%S %Z}: wait until then, or end it at once with --overlap 0"
            )
        registered = api.get(webhook.organization_id, webhook.opencard_webhook_id)
        self._check_is_ours(webhook, registered)
        if not pending:
            webhook = self._store.replace_secret(webhook)
        with_secret = webhook

        def send(flags: frozenset[str]) -> None:
            fields = registration_fields(
                with_secret,
                flag_fields(flags, registered.flags),
                public_url=registered.url.partition(ENDPOINT_PATH)[0] or self._public_url,
                enabled=registered.enabled is not False,
            )
            if registered.url:
                fields["url"] = registered.url  # the secret changes, and nothing else
            api.update(webhook.organization_id, registered.id, fields)

        _, rejected = subscribe(send, registered.flags_on, current=registered.flags_on)
        if rejected:
            log.warning("webhook.flags_rejected", webhook_id=webhook.id, flags=sorted(rejected))
        acknowledged = self._store.acknowledge(webhook, opencard_webhook_id=registered.id, overlap=overlap)
        log.info("webhook.secret_rotated", webhook_id=webhook.id, completed_an_earlier_run=pending)
        return RotatedWebhook(
            id=webhook.id,
            organization_reference_id=webhook.organization_reference_id,
            opencard_webhook_id=registered.id,
            previous_secret_expires_at=_in_utc(acknowledged.previous_secret_expires_at),
        )

    def _check_is_ours(self, webhook: ManagedWebhook, registered: RegisteredWebhook) -> None:
        keys = (webhook.endpoint_key, *webhook.previous_keys)
        if registered.url and endpoint_key(registered.url) not in keys:
            raise OperationRefused(
                f"webhook {webhook.id} is registered at OpenCard under a URL that is not this service's, "
                f"{registered.url}, where no service would know the new secret: {RUN_BOOTSTRAP} here"
            )


def _previous(webhook: ManagedWebhook) -> tuple[bool, datetime | None]:
    """Return whether an interrupted rotation has to be finished, and until when a finished one overlaps."""
    is_good, expires_at = (
        webhook.previous_secret_is_good(datetime.now(UTC)),
        _in_utc(webhook.previous_secret_expires_at),
    )
    return (is_good, None) if expires_at is None else (False, expires_at if is_good else None)


def _in_utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)

"""Asks OpenCard for a test delivery, waits for it, and reports it.

OpenCard is asked to send it to the test webhook of the organization. What arrives there is a test delivery, whatever it
says, and is never applied; the organization's own webhook is not touched.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.bootstrap.endpoint import challenge_endpoint
from receiver.bootstrap.test_webhook import enabled_test_webhook
from receiver.db import held_lock
from receiver.deliveries.models import TEST
from receiver.errors import OperationRefused, OutcomeUnknown, UnreadableAnswer
from receiver.locks import LockFamily, key_of
from receiver.opencard.client import OpenCard
from receiver.opencard.failures import HINTS
from receiver.opencard.scopes import scopes_for
from receiver.opencard.tokens import StoredTokens
from receiver.opencard.webhooks import Webhooks
from receiver.ops.sent_test import Report, reported
from receiver.webhooks.addresses import endpoint_url
from receiver.webhooks.store import WebhookStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx
    from sqlalchemy import Engine, Row

    from receiver.encryption import Encryption
    from receiver.opencard.auth import Access
    from receiver.webhooks.managed import ManagedWebhook

_LAST: Final = text("SELECT coalesce(max(id), 0) FROM receiver.stored_deliveries")
_NEXT: Final = text(
    "SELECT stored.id, coalesce(outcome.status, 'pending') AS status FROM receiver.stored_deliveries AS stored "
    "LEFT JOIN receiver.outcomes AS outcome ON outcome.delivery_id = stored.id "
    "WHERE stored.webhook_id = :webhook_id AND stored.id > :last ORDER BY stored.id LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class SendTestTimeouts:
    """How long a test is waited for, in seconds."""

    timeout: float
    poll: float = 0.1


@dataclass(frozen=True, slots=True)
class SendTest:
    """Tests the deliveries of organizations, with a token that can read and write webhooks and nothing else."""

    engine: Engine
    encryption: Encryption
    access: Access
    public_url: str
    transport: httpx.BaseTransport | None = None

    def run(self, webhook: ManagedWebhook, event: str, timeouts: SendTestTimeouts) -> Report:
        """Ask for a test delivery of *event*, a name in the catalogue, wait for it, and return the result.

        *webhook* is the organization's own: its test webhook authenticates as it does. Raises ``OperationRefused``
        when that is not registered, another test of the organization is under way or the test webhook does not become
        active, and an ``OpenCardError`` when OpenCard does not send a test. A request whose outcome is unknown is not
        repeated: the test may come all the same, and is waited for.
        """
        if webhook.opencard_webhook_id is None:
            raise OperationRefused(
                f"webhook {webhook.id} is not known to be registered at OpenCard: receiver bootstrap registers it"
            )
        store, tokens = WebhookStore(self.engine, self.encryption), StoredTokens(self.engine, self.encryption)
        with (
            self._one_at_a_time(webhook),
            OpenCard(self.access, scopes_for("webhooks test"), tokens, transport=self.transport) as client,
        ):
            client.authenticate()
            api = Webhooks(client)
            with enabled_test_webhook(self.engine, store, api, webhook, self.public_url) as test:
                last = self._last()
                doubt = _ask(api, test, event)
                arrived = self._wait(test, last, timeouts)
        if arrived is not None:
            with self.engine.connect() as connection:
                return reported(connection, test, event, arrived.id)
        return Report(test, event, error="\n".join([*doubt, self._silence(test, timeouts)]))

    @contextmanager
    def _one_at_a_time(self, webhook: ManagedWebhook) -> Iterator[None]:
        organization = webhook.organization_reference_id
        with held_lock(self.engine, key_of(LockFamily.TEST, organization)) as held:
            if not held:
                raise OperationRefused(
                    f"another test of organization {organization} is under way: wait for it, then run again"
                )
            yield

    def _last(self) -> int:
        with self.engine.connect() as connection:
            return int(connection.execute(_LAST).scalar_one())

    def _wait(self, test: ManagedWebhook, last: int, timeouts: SendTestTimeouts) -> Row[tuple[int, str]] | None:
        """Return the delivery that arrived, once a worker has ended it or the time is up; ``None`` if none did."""
        deadline = time.monotonic() + timeouts.timeout
        while True:
            with self.engine.connect() as connection:
                arrived = connection.execute(_NEXT, {"webhook_id": test.id, "last": last}).one_or_none()
            if (arrived is not None and arrived.status != "pending") or time.monotonic() >= deadline:
                return arrived
            time.sleep(timeouts.poll)

    def _silence(self, test: ManagedWebhook, timeouts: SendTestTimeouts) -> str:
        """Return what to look at when nothing arrived."""
        wrong = challenge_endpoint(endpoint_url(self.public_url, test.endpoint_key), test.secret)
        end = (
            f"The endpoint fails through PUBLIC_URL: {wrong}"
            if wrong is not None
            else f"The endpoint answers its challenge through PUBLIC_URL ({self.public_url}), so look at OpenCard's "
            "side: can it reach that address, and does it send tests to a webhook without event flags, as this one is?"
        )
        return (
            f"no test delivery arrived within {timeouts.timeout:g} s. {end} A delivery that was refused leaves nothing "
            "stored: the log of the web process then names the reason (delivery.refused). A test that arrives later is "
            f'ignored as well: receiver deliveries list --error "{TEST}" shows it.'
        )


def _ask(api: Webhooks, test: ManagedWebhook, event: str) -> list[str]:
    """Ask OpenCard for a test delivery, once; return what to say where it may or may not have been asked."""
    if test.opencard_webhook_id is None:
        raise AssertionError("a test webhook is registered before it is used")
    try:
        api.send_test(test.organization_id, test.opencard_webhook_id, event)
    except (OutcomeUnknown, UnreadableAnswer) as error:
        return [f"{str(error).removesuffix(HINTS[type(error)])}not repeated, because it may have been carried out"]
    return []

"""The steps of a delivery up to its answer: authenticate, store, wake a worker."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from logging import DEBUG
from time import monotonic
from typing import TYPE_CHECKING, Protocol

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from receiver.counters import count_refused_delivery
from receiver.deliveries.authentication import authenticate
from receiver.deliveries.challenge import answer_challenge
from receiver.deliveries.headers import evidence
from receiver.deliveries.store import ArrivedDelivery
from receiver.errors import (
    ConfigurationError,
    DeliveryRefused,
    MalformedRequest,
    NotAuthentic,
    NotJson,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.datastructures import Headers

    from receiver.settings import SignaturePolicy
    from receiver.webhooks.directory import WebhookDirectory
    from receiver.webhooks.managed import ManagedWebhook

CANNOT_STORE = (psycopg.Error, PoolTimeout, TimeoutError, ConfigurationError)
"""PostgreSQL is unavailable or slow, or the encryption keys do not fit the stored data: OpenCard should retry later."""

MAX_VERIFICATIONS = 2
"""How often a request is verified before it is answered 503: a second time when its webhook changed in between."""

log = structlog.stdlib.get_logger(__name__)


class DeliveryStore(Protocol):
    """The committer, or what records its work."""

    def store(self, arrived: ArrivedDelivery) -> bool:
        """Return ``True`` once *arrived* is committed; see ``Committer``."""


@dataclass(frozen=True, slots=True)
class Intake:
    """What ``receive`` depends on."""

    webhooks: WebhookDirectory
    committer: DeliveryStore
    signature_policy: SignaturePolicy
    wake_worker: Callable[[], None]


def receive(intake: Intake, endpoint_key: str, headers: Headers, read_body: Callable[[], bytes]) -> None:
    """Receive one delivery; when this returns, it is committed.

    Raises a ``DeliveryRefused``, which has the answer's status, and what *read_body* raises, for example for a body
    that is too large. The order of the checks reveals little to an unauthenticated sender: unknown and disabled
    endpoints get the same answer, and headers that are wrong or missing are reported only after authentication.
    """
    begun = monotonic()
    try:
        webhook = intake.webhooks.find(endpoint_key)
        try:
            body = read_body()
            for _ in range(MAX_VERIFICATIONS):
                webhook, verification = _verify(intake, endpoint_key, webhook, headers, body)
                arrived = _well_formed(headers, body, verification, webhook, begun)
                if intake.committer.store(arrived):
                    intake.wake_worker()
                    if log.isEnabledFor(DEBUG):  # checking the level costs a third of the call
                        log.debug("delivery.stored", webhook_id=webhook.id, bytes=len(body))
                    return
                webhook = intake.webhooks.read(endpoint_key)  # it was changed: verify against its current state
        except DeliveryRefused as refused:
            count_refused_delivery(webhook.id, refused.reason)
            raise
    except CANNOT_STORE as error:
        log.warning("delivery.not_stored", error=type(error).__name__, reason=str(error).partition("\n")[0])
        raise StoreUnavailable from error
    raise StoreUnavailable


def challenge(intake: Intake, endpoint_key: str, asked: str | None) -> str:
    """Return the ``X-Verify-Token`` for a challenge.

    Raises ``UnknownEndpoint``, ``MalformedRequest``, or ``StoreUnavailable`` when PostgreSQL is unavailable.
    """
    try:
        webhook = intake.webhooks.read(endpoint_key)
    except CANNOT_STORE as error:
        log.warning("challenge.not_answered", error=type(error).__name__, reason=str(error).partition("\n")[0])
        raise StoreUnavailable from error
    return answer_challenge(asked, webhook.secret)


def _verify(
    intake: Intake, endpoint_key: str, webhook: ManagedWebhook, headers: Headers, body: bytes
) -> tuple[ManagedWebhook, str]:
    """Return the webhook and the checks that passed; a cached webhook is read again before anything is refused."""
    now = datetime.now(UTC)
    try:
        return webhook, authenticate(body, headers, webhook.expected(now), intake.signature_policy)
    except NotAuthentic as refused:
        current = intake.webhooks.reread(webhook, endpoint_key)
        if current is None:
            log.info("delivery.refused", reason=refused.reason, webhook_id=webhook.id)
            raise
    try:
        return current, authenticate(body, headers, current.expected(now), intake.signature_policy)
    except NotAuthentic as refused:
        log.info("delivery.refused", reason=refused.reason, webhook_id=current.id)
        raise


def _well_formed(
    headers: Headers, body: bytes, verification: str, webhook: ManagedWebhook, begun: float
) -> ArrivedDelivery:
    media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise NotJson
    event = headers.get("X-Event", "").strip()
    if not event:
        raise MalformedRequest("the header X-Event is missing: it names the event", reason="no-event")
    return ArrivedDelivery(
        webhook=webhook,
        event=event,
        version=headers.get("X-Version"),
        body=body,
        headers=evidence(
            headers,
            custom_key=webhook.credentials.custom_key,
            previous_custom_key=webhook.previous_custom_key,
        ),
        verification=verification,
        at=begun,
    )

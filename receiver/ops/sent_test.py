"""The result of a test delivery: what arrived, and how it was parsed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import text

from receiver.errors import EventError
from receiver.events.content import UNREADABLE, decode, reference_of
from receiver.events.event import ClaimedDelivery
from receiver.events.parse import parse

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, RowMapping

    from receiver.events.event import Event
    from receiver.webhooks.managed import ManagedWebhook

_DELIVERY: Final = text(
    """
SELECT delivery.id, delivery.event, delivery.version, delivery.verification, delivery.received_at, delivery.status,
    delivery.body, delivery.source, delivery.occurred_at, delivery.attempts, webhook.organization_reference_id
FROM receiver.deliveries AS delivery JOIN receiver.webhooks AS webhook ON webhook.id = delivery.webhook_id
WHERE delivery.id = :id
"""
)


@dataclass(frozen=True, slots=True)
class ReceivedTest:
    """The test delivery, as it is stored."""

    id: int
    event: str
    version: str | None
    verification: str
    received_at: datetime
    status: str


@dataclass(frozen=True, slots=True)
class ParsedEvent:
    """The event in the test delivery."""

    event: str
    organization_reference_id: str
    """The one that the payload names; an example's may be another than the webhook's."""
    card_holder_reference_id: str | None
    transaction_id: str | None

    @classmethod
    def of(cls, event: Event) -> ParsedEvent:
        """Return what *event* says."""
        return cls(event.name, event.organization_reference_id, event.card_holder_reference_id, event.transaction_id)


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a test."""

    webhook: ManagedWebhook
    event: str
    delivery: ReceivedTest | None = None
    parsed: ParsedEvent | None = None
    error: str | None = None
    """Why no test arrived, or why it was not parsed."""
    body: bytes | None = field(default=None, repr=False)


def reported(connection: Connection, webhook: ManagedWebhook, event: str, delivery_id: int) -> Report:
    """Return the report of a test that arrived as this delivery."""
    row = connection.execute(_DELIVERY, {"id": delivery_id}).mappings().one()
    parsed, error = _parsed(row)
    return Report(
        webhook,
        event,
        delivery=ReceivedTest(**{name: row[name] for name in ReceivedTest.__slots__}),
        parsed=parsed,
        error=error,
        body=row["body"],
    )


def _parsed(row: RowMapping) -> tuple[ParsedEvent | None, str | None]:
    """Return what the delivery says, or why it makes no sense. An example may name whatever organization it likes."""
    real = ClaimedDelivery(
        id=row["id"],
        organization_reference_id=_named_organization(row["body"]) or row["organization_reference_id"],
        event=row["event"],
        version=row["version"],
        body=row["body"],
        source=row["source"],
        occurred_at=row["occurred_at"],
        attempts=row["attempts"],
    )
    try:
        return ParsedEvent.of(parse(real)), None
    except EventError as error:
        return None, str(error)


def _named_organization(body: bytes) -> str | None:
    """Return the organization that a payload names, ``None`` when it names none."""
    try:
        return reference_of(decode(body), "organization")
    except UNREADABLE:
        return None


def as_fields(report: Report) -> dict[str, Any]:
    """Return a report as machines read it."""
    return {
        "webhook_id": report.webhook.id,
        "organization_reference_id": report.webhook.organization_reference_id,
        "opencard_webhook_id": report.webhook.opencard_webhook_id,
        "event": report.event,
        "delivery": report.delivery,
        "parsed": report.parsed,
        "error": report.error,
        "payload": None if report.body is None else _as_json(report.body),
    }


def _as_json(body: bytes) -> msgspec.Raw | str:
    """Return a body as part of a JSON document: its numbers as they were sent, or the text of what is no JSON."""
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode(errors="replace")
    return msgspec.Raw(body)

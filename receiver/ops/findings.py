"""What needs attention at one moment. ``receiver.ops.issues`` gives each finding a history and an owner."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class Severity(IntEnum):
    """The severities of findings, the lowest first."""

    WARNING = 1
    """Needs attention during working hours."""
    CRITICAL = 2
    """Needs attention now: purchases are missing or late until an operator acts."""


class FindingKind(StrEnum):
    """The causes that are distinguished. A finding is one kind of trouble with one subject."""

    STORAGE = "storage-failing"
    BACKLOG = "backlog-old"
    WORKER_DIED = "worker-died"
    FEED_LOCK = "feed-lock-held"
    EPOCH = "epoch-changed"
    REDIS = "redis-unreachable"
    REFUSED = "deliveries-refused"
    DEAD = "deliveries-dead"
    QUARANTINED = "deliveries-quarantined"
    UNKNOWN_FORMAT = "deliveries-ignored"
    UNKNOWN_VERSION = "version-unknown"
    CONSUMER_STOPPED = "consumer-stopped"
    INVOICE = "invoice-differs"
    WEBHOOK_INACTIVE = "webhook-inactive"
    WITHOUT_WEBHOOK = "organization-without-webhook"
    BOOTSTRAP = "bootstrap-failing"
    RECONCILE = "reconcile-failing"
    NOT_RECONCILED = "not-reconciled"
    UNRECOVERABLE = "events-unrecoverable"
    UNCONFIRMED = "deliveries-unconfirmed"
    RECEIPTS_LATE = "receipts-not-downloaded"
    RECEIPTS_LOST = "receipts-lost"
    RECEIPTS_REFUSED = "receipts-refused"
    RETENTION = "retention-failing"


WARNINGS = frozenset(
    {
        FindingKind.WORKER_DIED,
        FindingKind.EPOCH,
        FindingKind.BOOTSTRAP,
        FindingKind.UNCONFIRMED,
        FindingKind.UNKNOWN_VERSION,
        FindingKind.CONSUMER_STOPPED,
        FindingKind.INVOICE,
        FindingKind.RECEIPTS_LATE,
        FindingKind.RECEIPTS_REFUSED,
        FindingKind.RETENTION,
    }
)
"""The kinds that are not critical."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that needs attention."""

    kind: FindingKind
    text: str
    """A sentence for people. No personal data."""
    subject: str = ""
    """What is affected, such as ``webhook 12``; empty for the service. Kind and subject identify the cause."""
    organization_reference_id: str | None = None
    count: int = 1
    """How many deliveries, events or files are affected."""
    since: datetime | None = None
    """When it began, where that is known: it may be found later."""
    command: str = ""
    """What to run about it, if a command shows more or ends it."""
    example_delivery_id: int | None = None
    """One of the deliveries that are affected."""

    @property
    def severity(self) -> Severity:
        """Its severity, which its kind decides."""
        return Severity.WARNING if self.kind in WARNINGS else Severity.CRITICAL

    def __str__(self) -> str:
        """Return the sentence and the commands."""
        steps = [self.text]
        if self.example_delivery_id is not None:
            steps.append(show_command(self.example_delivery_id))
        if self.command:
            steps.append(f"fix the cause, then {self.command}" if self.kind is FindingKind.DEAD else self.command)
        return "; ".join(steps)


def show_command(delivery_id: int) -> str:
    """Return the command that shows a delivery."""
    return f"receiver deliveries show {delivery_id}"

"""The status of the service: the backlog, inactive webhooks, and up to when each delivery log has been checked.

``receiver status`` and ``GET /metrics`` show the same numbers. Nothing here reads a whole table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from shlex import quote
from typing import TYPE_CHECKING, Final

from receiver.deliveries.models import TEST
from receiver.ops.consumers import ConsumerLag, find_stopped_consumers, read_consumers
from receiver.ops.deliveries.filter import is_resolved
from receiver.ops.feed_epochs import EpochState, find_new_epoch, read_feed_epoch
from receiver.ops.feed_lock import FeedLock, find_held_lock, read_feed_lock
from receiver.ops.findings import Finding, FindingKind
from receiver.ops.invoices import DifferentInvoice, find_different_invoices, read_different_invoices
from receiver.ops.receipts import ReceiptsState, read_receipts
from receiver.ops.refused import RefusalCount, find_refused, read_refused
from receiver.ops.retention.record import LastRetentionRun, Query, last_retention_run
from receiver.ops.unknown import UnknownFormats, find_unknown, read_unknown
from receiver.ops.worker_deaths import WorkerDeaths, find_worker_deaths, read_worker_deaths

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

WAITING: Final = ("pending", "failed")
"""Statuses of deliveries that wait for a worker."""
NOT_APPLIED: Final = ("dead", "quarantined", "ignored")
"""Statuses of deliveries that need attention."""
STALE_INTERVALS: Final = 3
"""The number of intervals without a successful run after which a webhook counts as not checked."""
STALE_AT_LEAST: Final = timedelta(minutes=1)
BACKLOG_OLD: Final = timedelta(minutes=5)
"""Age at which a waiting delivery needs attention; usually they are processed within seconds."""
RETENTION_STALE: Final = timedelta(days=2)
"""Time without a successful run of retention that needs attention; it runs every few minutes."""

# ids grow with time, nearly: the smallest is the oldest, give or take the length of a transaction
_WAITING: Final = """
SELECT waiting.status, waiting.number, stored.received_at AS oldest
FROM (
    SELECT coalesce(outcome.status, 'pending') AS status, count(*) AS number, min(queued.delivery_id) AS first
    FROM receiver.queue AS queued
    LEFT JOIN receiver.outcomes AS outcome ON outcome.delivery_id = queued.delivery_id AND outcome.status = 'failed'
    GROUP BY 1
) AS waiting
LEFT JOIN receiver.stored_deliveries AS stored ON stored.id = waiting.first
"""
_NOT_APPLIED: Final = f"""
SELECT held.status, held.number, stored.received_at AS oldest
FROM (
    SELECT status, count(*) AS number, min(delivery_id) AS first
    FROM receiver.outcomes AS outcome
    WHERE status IN ('dead', 'quarantined', 'ignored') AND error IS DISTINCT FROM '{TEST}'
        AND NOT {is_resolved("outcome.delivery_id")}
    GROUP BY status
) AS held
LEFT JOIN receiver.stored_deliveries AS stored ON stored.id = held.first
"""  # noqa: S608 - a constant
_REPLAYS: Final = """
SELECT id AS replay_id, requested_by, created_at, selected
FROM receiver.replays WHERE ended_at IS NULL AND cancelled_at IS NULL ORDER BY id
"""
_WEBHOOKS: Final = """
SELECT webhook.id AS webhook_id, webhook.opencard_webhook_id, webhook.organization_reference_id, webhook.active,
    webhook.created_at, state.checked_until, coalesce(state.recovered, 0) AS recovered,
    coalesce(state.unconfirmed, 0) AS unconfirmed, coalesce(state.unrecoverable, 0) AS unrecoverable, state.last_error
FROM receiver.webhooks AS webhook LEFT JOIN receiver.reconcile_state AS state ON state.webhook_id = webhook.id
WHERE webhook.enabled AND webhook.deleted_at IS NULL AND NOT webhook.test
ORDER BY webhook.organization_reference_id, webhook.id
"""


_ORGANIZATIONS: Final = """
SELECT organization.organization_reference_id, organization.organization_id, organization.error,
    count(webhook.id) > 0 AS has_webhook,
    count(webhook.id) FILTER (WHERE webhook.active AND webhook.opencard_webhook_id IS NOT NULL) > 0 AS is_active
FROM receiver.organizations AS organization
LEFT JOIN receiver.webhooks AS webhook
    ON webhook.organization_id = organization.organization_id AND webhook.enabled AND webhook.deleted_at IS NULL
        AND NOT webhook.test
WHERE organization.deleted_at IS NULL AND NOT organization.left_out
GROUP BY organization.organization_id
HAVING organization.error IS NOT NULL
    OR count(*) FILTER (WHERE webhook.active AND webhook.opencard_webhook_id IS NOT NULL) = 0
ORDER BY organization.organization_reference_id, organization.organization_id
"""
_ISSUES: Final = """
SELECT kind, severity, count(*) AS number FROM receiver.issues WHERE state = 'open'
GROUP BY kind, severity ORDER BY kind
"""
_BOOTSTRAP: Final = """
SELECT error, CASE WHEN error IS NULL THEN ended_at END AS read_at FROM receiver.applied_configuration
"""


@dataclass(frozen=True, slots=True)
class UnservedOrganization:
    """An organization of the account that has no active webhook, or for which the last bootstrap failed."""

    organization_reference_id: str | None
    organization_id: int
    error: str | None
    """The failure of the last bootstrap for it."""
    has_webhook: bool
    is_active: bool
    """Whether OpenCard delivers to one of its webhooks."""


@dataclass(frozen=True, slots=True)
class OpenIssues:
    """How many issues of a kind are open, acknowledged ones left out."""

    kind: str
    severity: int
    number: int


@dataclass(frozen=True, slots=True)
class StatusCount:
    """The number of deliveries of one status, and when the oldest of them was received."""

    number: int = 0
    oldest: datetime | None = None


@dataclass(frozen=True, slots=True)
class ActiveReplay:
    """A replay that is under way."""

    replay_id: int
    requested_by: str
    created_at: datetime
    selected: int
    """How many deliveries so far."""


@dataclass(frozen=True, slots=True)
class WebhookStatus:
    """The status of one webhook, and of the comparison with its delivery log."""

    webhook_id: int
    opencard_webhook_id: int | None
    organization_reference_id: str
    active: bool | None
    """Whether OpenCard last said that the challenge has passed; ``None`` if it never said."""
    created_at: datetime
    checked_until: datetime | None
    """Up to when the log has been compared with what is stored."""
    recovered: int
    unconfirmed: int
    unrecoverable: int
    last_error: str | None
    """Why the last run failed; ``None`` when it did not."""


@dataclass(frozen=True, slots=True)
class OrganizationStatus:
    """The same of all webhooks of an organization together: it is checked as far as the least of them."""

    organization_reference_id: str
    checked_until: datetime | None
    recovered: int
    unconfirmed: int
    unrecoverable: int
    last_error: str | None

    @classmethod
    def of(cls, reference: str, webhooks: Iterable[WebhookStatus]) -> OrganizationStatus:
        """Return the state of all of them together."""
        each = list(webhooks)
        checked = [webhook.checked_until for webhook in each if webhook.checked_until is not None]
        errors = [webhook.last_error for webhook in each if webhook.last_error is not None]
        return cls(
            organization_reference_id=reference,
            checked_until=min(checked) if len(checked) == len(each) else None,
            recovered=sum(webhook.recovered for webhook in each),
            unconfirmed=sum(webhook.unconfirmed for webhook in each),
            unrecoverable=sum(webhook.unrecoverable for webhook in each),
            last_error="; ".join(dict.fromkeys(errors)) or None,
        )


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """The status of the service *at* a time, by the database's clock."""

    at: datetime
    deliveries: Mapping[str, StatusCount]
    """By status: those that wait for a worker, and those that need attention and were not resolved."""
    webhooks: tuple[WebhookStatus, ...]
    """Those whose deliveries are taken here."""
    replays: tuple[ActiveReplay, ...] = ()
    """Those that are under way."""
    retention: LastRetentionRun | None = None
    receipts: ReceiptsState | None = None
    unserved: tuple[UnservedOrganization, ...] = ()
    """As far as bootstrap has found the account's organizations."""
    bootstrap_error: str | None = None
    """Why the scheduler's last bootstrap ended early; ``None`` when it did not."""
    bootstrap_read_at: datetime | None = None
    """When it last read all webhooks at OpenCard; ``None`` when it failed or has not run."""
    feed_lock: FeedLock | None = None
    feed_epoch: EpochState | None = None
    """``None`` as long as none has begun."""
    unknown: UnknownFormats = field(default_factory=UnknownFormats)
    consumers: tuple[ConsumerLag, ...] = ()
    """Readers of the feed that say how far they are."""
    invoices: tuple[DifferentInvoice, ...] = ()
    """Invoices that do not agree with the ledger."""
    refused: tuple[RefusalCount, ...] = ()
    issues: tuple[OpenIssues, ...] = ()
    """As the scheduler found them last."""
    worker_deaths: WorkerDeaths = field(default_factory=WorkerDeaths)

    @property
    def without_webhook(self) -> list[UnservedOrganization]:
        """The organizations to which OpenCard delivers nothing."""
        return [organization for organization in self.unserved if not organization.is_active]

    @property
    def failures(self) -> int:
        """How many deliveries are failed, dead, quarantined or ignored, test deliveries left out."""
        return sum(self.deliveries[status].number for status in ("failed", *NOT_APPLIED))

    @property
    def oldest_waiting(self) -> datetime | None:
        """When the oldest delivery was received that waits for a worker."""
        times = [each.oldest for status in WAITING if (each := self.deliveries[status]).oldest is not None]
        return min(times) if times else None

    @property
    def inactive(self) -> list[WebhookStatus]:
        """Those to which OpenCard said it delivers nothing."""
        return [webhook for webhook in self.webhooks if webhook.active is False]

    @property
    def organizations(self) -> list[OrganizationStatus]:
        """Each organization, in order of its name."""
        by_name: dict[str, list[WebhookStatus]] = {}
        for webhook in self.webhooks:
            by_name.setdefault(webhook.organization_reference_id, []).append(webhook)
        return [OrganizationStatus.of(name, webhooks) for name, webhooks in by_name.items()]


def read_status(query: Query) -> ServiceStatus:
    """Read the current status of the service."""
    (row,) = query("SELECT clock_timestamp() AS at")
    bootstrap = next(iter(query(_BOOTSTRAP)), {})
    deliveries = dict.fromkeys((*WAITING, *NOT_APPLIED), StatusCount())
    for counting in (_WAITING, _NOT_APPLIED):
        deliveries |= {each["status"]: StatusCount(each["number"], each["oldest"]) for each in query(counting)}
    return ServiceStatus(
        row["at"],
        deliveries,
        tuple(WebhookStatus(**each) for each in query(_WEBHOOKS)),
        tuple(ActiveReplay(**each) for each in query(_REPLAYS)),
        last_retention_run(query),
        read_receipts(query),
        tuple(UnservedOrganization(**each) for each in query(_ORGANIZATIONS)),
        bootstrap.get("error"),
        bootstrap.get("read_at"),
        read_feed_lock(query),
        read_feed_epoch(query),
        read_unknown(query),
        read_consumers(query),
        read_different_invoices(query),
        read_refused(query),
        tuple(OpenIssues(**each) for each in query(_ISSUES)),
        read_worker_deaths(query),
    )


def find(service: ServiceStatus, *, interval: timedelta | None) -> Iterable[Finding]:
    """Yield what needs attention; *interval* is that of the runs of reconcile, ``None`` if none are wanted."""
    yield from find_unknown(service.unknown)
    yield from find_stopped_consumers(service.consumers, service.at)
    yield from find_different_invoices(service.invoices)
    yield from find_refused(service.refused)
    yield from _find_backlog(service)
    yield from find_worker_deaths(service.worker_deaths)
    yield from find_held_lock(service.feed_lock)
    yield from find_new_epoch(service.feed_epoch)
    yield from _find_in_retention(service)
    yield from _find_in_organizations(service)
    for webhook in service.webhooks:
        yield from find_in_webhook(webhook, service.at, interval)


def _find_backlog(service: ServiceStatus) -> Iterable[Finding]:
    pending = service.deliveries["pending"]
    if pending.oldest is not None and pending.oldest < service.at - BACKLOG_OLD:
        waiting = _count(pending.number, "pending delivery", "pending deliveries")
        text = f"{waiting}, the oldest received at {pending.oldest:%Y-%m-%d %H:%M:%S} UTC: is a worker running?"
        yield Finding(FindingKind.BACKLOG, text, count=pending.number)


def _find_in_organizations(service: ServiceStatus) -> Iterable[Finding]:
    if service.bootstrap_error is not None:
        text = f"bootstrap: the scheduler's last run failed: {service.bootstrap_error}"
        yield Finding(FindingKind.BOOTSTRAP, text)
    for each in service.unserved:
        name = each.organization_reference_id or f"with OpenCard's id {each.organization_id}"
        about = (f"organization {name}", each.organization_reference_id)
        if not each.has_webhook:
            text = f"organization {name} has no webhook, and OpenCard sends nothing about it"
            text = f"{text}: {each.error}" if each.error else text
            yield Finding(FindingKind.WITHOUT_WEBHOOK, text, *about, command="receiver bootstrap")
        elif each.error is not None:
            yield Finding(FindingKind.BOOTSTRAP, f"organization {name}: {each.error}", *about)


def _find_in_retention(service: ServiceStatus) -> Iterable[Finding]:
    last = service.retention
    if last is None:
        return
    well = last.succeeded_at or last.started_at
    if last.error is not None:
        yield Finding(FindingKind.RETENTION, f"retention: the last run failed: {last.error}")
    elif well < service.at - RETENTION_STALE:
        since = f"no run has succeeded since {well:%Y-%m-%d %H:%M:%S} UTC"
        yield Finding(FindingKind.RETENTION, f"retention: {since}: is the scheduler running?")


def find_in_webhook(webhook: WebhookStatus, at: datetime, interval: timedelta | None) -> Iterable[Finding]:
    """Yield what needs attention with one webhook, by what is known of it at a time."""
    organization = webhook.organization_reference_id
    bootstrap = f"receiver bootstrap --organization {quote(organization)}"

    def finding(kind: FindingKind, text: str, count: int = 1, command: str = "") -> Finding:
        subject = f"webhook {webhook.webhook_id}"
        return Finding(kind, f"{subject} ({organization}): {text}", subject, organization, count, command=command)

    if webhook.opencard_webhook_id is None:
        yield finding(FindingKind.WEBHOOK_INACTIVE, "not registered at OpenCard", command=bootstrap)
    elif webhook.active is False:
        text = "not active, OpenCard sends nothing to it: register it again, which triggers a new challenge"
        yield finding(FindingKind.WEBHOOK_INACTIVE, text, command=bootstrap)
    if webhook.unrecoverable:
        events = _count(webhook.unrecoverable, "lost event")
        text = f"{events} cannot be recovered, because the delivery log has no payload: ask OpenCard for the data"
        yield finding(FindingKind.UNRECOVERABLE, text, webhook.unrecoverable)
    if webhook.unconfirmed:
        stored = _count(webhook.unconfirmed, "stored delivery", "stored deliveries")
        listed = f"receiver deliveries list --unconfirmed --organization {quote(organization)}"
        text = f"{stored} not in OpenCard's log: possibly forged, or a gap in the log"
        yield finding(FindingKind.UNCONFIRMED, text, webhook.unconfirmed, listed)
    if webhook.last_error is not None:
        again = f"receiver reconcile --organization {quote(organization)}"
        yield finding(FindingKind.RECONCILE, f"the last run failed: {webhook.last_error}", command=again)
    if interval is not None:
        since = webhook.checked_until or webhook.created_at
        if since < at - max(STALE_INTERVALS * interval, STALE_AT_LEAST):
            done = f"not checked since {since:%Y-%m-%d %H:%M:%S} UTC" if webhook.checked_until else "never checked"
            yield finding(FindingKind.NOT_RECONCILED, f"{done}: are the scheduler and a worker running?")


def _count(number: int, one: str, several: str | None = None) -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"

"""What needs attention: one list for ``receiver status``, the console and the issues."""

from __future__ import annotations

from datetime import timedelta
from shlex import quote
from typing import TYPE_CHECKING, Final

from receiver.ops.findings import Finding, FindingKind
from receiver.ops.receipts import find_in_receipts
from receiver.ops.status import find
from receiver.settings import unset_for_api

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from receiver.ops.activity import FailureGroup
    from receiver.ops.status import ServiceStatus
    from receiver.ops.workers import Workers
    from receiver.settings import Settings

LONGEST_SUBJECT: Final = 500
"""Characters of an error by which a cause is known again."""
MAX_CAUSES: Final = 50
"""How many causes of dead deliveries are findings of their own, the largest; more are one finding together."""


def reconcile_interval(settings: Settings) -> timedelta | None:
    """Return how often webhooks are reconciled; ``None`` where no runs are wanted, or none can be."""
    if not settings.reconcile_interval or unset_for_api(settings):
        return None
    return timedelta(seconds=settings.reconcile_interval)


def what_needs_attention(
    service: ServiceStatus,
    settings: Settings,
    *,
    failures: Sequence[FailureGroup],
    refusal: str | None,
    workers: Workers | None,
) -> list[Finding]:
    """Return what needs attention, the worst first.

    *failures*: see ``failures_by_error``; *refusal*: see ``storage_error``; *workers*: ``None`` where Redis is
    not configured.
    """
    missing = unset_for_api(settings)
    found = [*_find_in_failures(failures), *find(service, interval=reconcile_interval(settings))]
    if refusal is not None:
        found.append(
            Finding(FindingKind.STORAGE, f"PostgreSQL does not store deliveries, OpenCard gets 503: {refusal}")
        )
    if workers is not None and not workers.reachable:
        text = "Redis (REDIS_URL) cannot be reached or refuses writes: deliveries are stored, but not processed"
        found.append(Finding(FindingKind.REDIS, text))
    if service.receipts is not None:
        found += find_in_receipts(service.receipts, missing=missing)
    if missing and settings.reconcile_interval and service.webhooks:  # one finding, and not one for each webhook
        found.append(Finding(FindingKind.NOT_RECONCILED, f"webhooks are not reconciled: {missing}"))
    return sorted(found, key=lambda each: -each.severity)


def _find_in_failures(failures: Sequence[FailureGroup]) -> Iterable[Finding]:
    for kind, status in ((FindingKind.DEAD, "dead"), (FindingKind.QUARANTINED, "quarantined")):
        groups = [group for group in failures if group.status == status]
        for group in groups[:MAX_CAUSES]:
            several = "delivery" if group.number == 1 else "deliveries"
            of_cause = _options(status, group)
            yield Finding(
                kind,
                f"{group.number} {status} {several} of {group.event}: {group.error}",
                f"{group.event}: {group.error}"[:LONGEST_SUBJECT],
                group.organizations[0] if group.number_of_organizations == 1 else None,
                group.number,
                command=f"receiver replay {of_cause} --reason TEXT"
                if kind is FindingKind.DEAD
                else f"receiver deliveries list {of_cause}",
                example_delivery_id=group.example_id,
            )
        rest = groups[MAX_CAUSES:]
        if rest:
            number = sum(group.number for group in rest)
            text = f"{number} {status} deliveries for {len(rest)} other reasons"
            listed = f"receiver deliveries list --status {status}"
            yield Finding(kind, text, "other reasons", count=number, command=listed)


def _options(status: str, group: FailureGroup) -> str:
    """Return the options of ``replay`` and ``deliveries list`` that select a group."""
    error = f" --error {quote(group.error)}" if group.error else ""
    return f"--status {status} --event {quote(group.event)}{error}"

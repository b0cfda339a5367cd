"""What needs attention: one list for ``receiver status`` and for the console."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from receiver.ops.receipts import needs_attention as receipts_need
from receiver.ops.status import what_needs_a_person
from receiver.settings import unset_for_api

if TYPE_CHECKING:
    from receiver.ops.status import Standing
    from receiver.ops.workers import Workers
    from receiver.settings import Settings


def reconcile_interval(settings: Settings) -> timedelta | None:
    """Return how often webhooks are reconciled; ``None`` where no runs are wanted, or none can be."""
    if not settings.reconcile_interval or unset_for_api(settings):
        return None
    return timedelta(seconds=settings.reconcile_interval)


def what_needs_attention(
    standing: Standing, settings: Settings, *, refusal: str | None, workers: Workers | None
) -> list[str]:
    """Return what needs attention, a line each.

    *refusal*: see ``why_nothing_is_stored``; *workers*: ``None`` where Redis is not configured.
    """
    missing = unset_for_api(settings)
    said = [] if refusal is None else [f"PostgreSQL does not store deliveries, OpenCard gets 503: {refusal}"]
    said += what_needs_a_person(standing, interval=reconcile_interval(settings))
    if standing.receipts is not None:
        said += receipts_need(standing.receipts, missing=missing)
    if missing and settings.reconcile_interval and standing.webhooks:  # one line, and not one for each webhook
        said.append(f"webhooks are not reconciled: {missing}")
    if workers is not None and not workers.reachable:
        said.append("Redis (REDIS_URL) cannot be reached or refuses writes: deliveries are taken, but not processed")
    return said

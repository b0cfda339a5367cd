"""What a process counts, in memory: deliveries, requests, batches, calls, and what went wrong with each.

Counting costs a few microseconds and touches nothing but memory; ``receiver.counter_store`` adds up the counts of all
processes together in PostgreSQL. Labels have few values, all of them known here or to the calling code: requests from
outside cannot add new ones.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.metrics_core import Metric

Sample: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""A number's name and its labels, in order of their names."""

OTHER: Final = "other"
"""Label of everything that has no name of its own."""

_registry: Final = CollectorRegistry()
_SHORT: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LONG: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

REQUESTS: Final = Counter(
    "receiver_requests",
    "Answered requests, by route (delivery, challenge, token, other), status and reason.",
    ["route", "status", "reason"],
    registry=_registry,
)
REFUSED: Final = Counter(
    "receiver_deliveries_refused",
    "Refused deliveries, by webhook (this service's id) and reason.",
    ["webhook_id", "reason"],
    registry=_registry,
)
STORE_SECONDS: Final = Histogram(
    "receiver_store_seconds",
    "Seconds from a delivery's arrival until it is committed.",
    buckets=_SHORT,
    registry=_registry,
)
ATTEMPTS: Final = Counter(
    "receiver_processing_attempts",
    "Attempts to process a delivery, by event and resulting status; one that is processed again counts again.",
    ["event", "outcome"],
    registry=_registry,
)
VISIBLE_SECONDS: Final = Histogram(
    "receiver_visible_seconds",
    "Seconds from a delivery's arrival until the tables of ems show it; of deliveries applied at the first attempt.",
    buckets=_LONG,
    registry=_registry,
)
BATCH_SECONDS: Final = Histogram(
    "receiver_batch_seconds",
    "Seconds from the claim of a batch until its outcome is committed.",
    buckets=_LONG,
    registry=_registry,
)
BATCH_DELIVERIES: Final = Histogram(
    "receiver_batch_deliveries", "Deliveries in a batch.", buckets=_SIZES, registry=_registry
)
BATCHES_FAILED: Final = Counter(
    "receiver_batches_failed",
    "Batches that failed, so that their deliveries are processed one at a time.",
    registry=_registry,
)
FEED_LOCK_TIMEOUTS: Final = Counter(
    "receiver_feed_lock_timeouts",
    "Batches that workers gave up, to try them again, because another process held the feed's lock for too long.",
    registry=_registry,
)
WAKE_UPS_FAILED: Final = Counter(
    "receiver_wake_ups_failed",
    "Wake-ups of a worker that failed because Redis could not be reached.",
    registry=_registry,
)
OPENCARD_REQUESTS: Final = Counter(
    "receiver_opencard_requests",
    "Requests to OpenCard's API, by method, route and status; the status is none if there was no answer.",
    ["method", "route", "status"],
    registry=_registry,
)
RECONCILE_RUNS: Final = Counter(
    "receiver_reconcile_runs",
    "Reconcile runs, by outcome: ended, failed, or busy because another run was in progress.",
    ["outcome"],
    registry=_registry,
)
RETENTION_REMOVED: Final = Counter(
    "receiver_retention_removed",
    "What retention deleted, by kind.",
    ["kind"],
    registry=_registry,
)
RECONCILE_SECONDS: Final = Histogram(
    "receiver_reconcile_seconds",
    "Seconds of a reconcile run.",
    buckets=_LONG,
    registry=_registry,
)
SIGN_INS_FAILED: Final = Counter(
    "receiver_sign_ins_failed", "Attempts to sign in to the console that failed.", registry=_registry
)

# what an alarm watches is there from the beginning, so that its first increase is seen
for _labels in (
    ("delivery", "200", "stored"),
    ("delivery", "401", "signature-wrong"),
    ("delivery", "503", "store-unavailable"),
    ("delivery", "500", "internal-error"),
    ("challenge", "200", "answered"),
    ("challenge", "503", "store-unavailable"),
):
    REQUESTS.labels(*_labels)
for _outcome in ("ended", "failed"):
    RECONCILE_RUNS.labels(_outcome)


def count_request(route: str, status: int, reason: str) -> None:
    """Count an answered request; *reason* is a short constant."""
    REQUESTS.labels(route, str(int(status)), reason).inc()


def count_refused_delivery(webhook_id: int, reason: str) -> None:
    """Count a refused delivery whose webhook is known; *reason* is a short constant."""
    REFUSED.labels(str(webhook_id), reason).inc()


def count_failed_sign_in() -> None:
    """Count a failed sign-in to the console."""
    SIGN_INS_FAILED.inc()


def count_opencard_request(method: str, route: str, status: int | None) -> None:
    """Count a request to OpenCard's API; *route* is its template, without ids. ``None``: there was no answer."""
    OPENCARD_REQUESTS.labels(method, route, "none" if status is None else str(status)).inc()


def families() -> Iterable[Metric]:
    """Return everything that is counted, with its kind and its explanation."""
    return _registry.collect()


def samples(metric: Metric) -> dict[Sample, float]:
    """Return the numbers of a family; not when it was created, which differs from process to process."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


class UnstoredCounts:
    """The counts of this process since they were last stored."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[Sample, float] = {}

    def take(self) -> dict[Sample, float]:
        """Return what was counted since the last call; it is the caller's to keep from then on."""
        with self._lock:
            counted = {key: value for metric in families() for key, value in samples(metric).items()}
            new = {key: value - self._taken.get(key, 0) for key, value in counted.items()}
            self._taken = counted
        return {key: value for key, value in new.items() if value}


unstored_counts: Final = UnstoredCounts()
"""The counts of this process that are not in PostgreSQL yet."""

"""What happened to one delivery, in order of time. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from receiver.ops.deliveries import verified_by

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from receiver.ops.deliveries import DeliveryDetails, LogEntry

APPLIED: Final = {
    "processed": "Applied",
    "duplicate": "Applied already: nothing changed",
    "ignored": "Nothing to apply",
}

DECIDED: Final = {"accepted": "Accepted as genuine", "retracted": "Retracted as forged"}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened; without a time it has not happened yet."""

    at: datetime | None
    text: str
    mark: str = "done"
    """``done``, ``wrong`` or ``waits``; empty for what only surrounds it."""
    error: str | None = None
    trace: str | None = None
    replay_id: int | None = None


def timeline_of(delivery: DeliveryDetails, log: Sequence[LogEntry]) -> list[Step]:
    """Return the steps, oldest first; *log* are OpenCard's own attempts to deliver the event."""
    summary = delivery.summary
    steps = [Step(entry.attempted_at, entry.in_words(), "") for entry in log if entry.attempted_at]
    if summary.source == "log":
        steps.append(Step(summary.received_at, "Recovered from OpenCard's log"))
    else:
        steps += [
            Step(summary.received_at, f"Received, stored{_written(delivery)}, answered 200"),
            Step(summary.received_at, f"Verified by {verified_by(summary.verification)}"),
        ]
    steps += [
        Step(
            attempt.attempted_at, f"Attempt {attempt.number}: {attempt.outcome}", "wrong", attempt.error, attempt.trace
        )
        for attempt in delivery.attempts
    ]
    steps += [
        Step(
            each.created_at,
            f"Replay by {each.requested_by}: {each.reason} ({each.status_before} → {each.outcome or 'pending'})",
            "",
            replay_id=each.replay_id,
        )
        for each in delivery.replays
    ]
    if summary.processed_at and summary.status in APPLIED:
        steps.append(
            Step(summary.processed_at, "A test delivery: never applied" if delivery.test else APPLIED[summary.status])
        )
    if summary.confirmed_at:
        steps.append(Step(summary.confirmed_at, "Confirmed by OpenCard's log"))
    if delivery.resolution:
        resolution = delivery.resolution
        steps.append(Step(resolution.resolved_at, f"Resolved by {resolution.resolved_by}: {resolution.reason}"))
    if delivery.decision:
        decision = delivery.decision
        steps.append(
            Step(decision.decided_at, f"{DECIDED[decision.decision]} by {decision.decided_by}: {decision.reason}")
        )
    ordered = sorted(steps, key=lambda step: (step.at is None, step.at))
    return [*ordered, *_to_come(delivery)]


def _written(delivery: DeliveryDetails) -> str:
    return "" if delivery.written_ms is None else f" ({delivery.written_ms:,} ms until written)"


def _to_come(delivery: DeliveryDetails) -> list[Step]:
    summary, waiting = delivery.summary, []
    if summary.status == "pending":
        waiting.append(Step(None, "Waits for a worker", "waits"))
    elif summary.status == "failed":
        waiting.append(Step(summary.next_attempt_at, "Next attempt", "waits"))
    if not (summary.confirmed_at or delivery.test or delivery.decision):
        waiting.append(Step(None, "Not yet found in OpenCard's log", "waits"))
    return waiting

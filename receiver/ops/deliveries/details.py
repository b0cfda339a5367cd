"""Everything that is known of one delivery, personal data included: for investigating a failure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.deliveries.models import TEST
from receiver.ops.deliveries.effects import ChangedRow, read_effects
from receiver.ops.deliveries.filter import IS_UNCONFIRMED
from receiver.ops.deliveries.pages import COLUMNS, DeliverySummary, summaries

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Connection, RowMapping

MAX_ALIKE: Final = 100
"""How many deliveries of the same event are listed at most."""

_DELIVERY: Final = text(
    f"""
SELECT {COLUMNS}, body, headers, fingerprint, card_holder_reference_id, alone, position,
    delivery.status = 'ignored' AND coalesce(delivery.error = '{TEST}', false) AS test,
    coalesce({IS_UNCONFIRMED}, false) AS unconfirmed,
    (SELECT written_ms FROM receiver.stored_deliveries AS stored WHERE stored.id = delivery.id) AS written_ms
FROM receiver.deliveries AS delivery WHERE id = :id
"""  # noqa: S608 - a constant
)
_ATTEMPTS: Final = text(
    "SELECT number, attempted_at, outcome, error, trace FROM receiver.processing_attempts "
    "WHERE delivery_id = :id ORDER BY id"
)
_ALIKE: Final = text(
    f"""
SELECT {COLUMNS} FROM receiver.deliveries WHERE id <> :id AND id IN (
    SELECT delivery_id FROM receiver.outcomes WHERE position = :position AND status = 'duplicate'
    UNION
    SELECT delivery_id FROM ems.events WHERE position = :position
) ORDER BY id DESC LIMIT {MAX_ALIKE}
"""  # noqa: S608 - a constant
)
_RESOLUTION: Final = text(
    """
SELECT acknowledged_at AS resolved_at, acknowledged_by AS resolved_by, reason
FROM receiver.acknowledged_gaps WHERE kind = 'delivery' AND id = :id
"""
)
_DECISION: Final = text(
    "SELECT decision, decided_at, decided_by, reason FROM receiver.delivery_decisions WHERE delivery_id = :id"
)
_LOG: Final = text(
    f"""
SELECT attempted_at, response_status FROM receiver.delivery_log
WHERE webhook_id = :webhook_id AND fingerprint = decode(:fingerprint, 'hex') ORDER BY attempted_at LIMIT {MAX_ALIKE}
"""  # noqa: S608 - a constant
)
_REPLAYS: Final = text(
    """
SELECT replay.id AS replay_id, replay.created_at, replay.requested_by, replay.reason, member.status_before,
    member.outcome, member.completed_at
FROM receiver.replay_deliveries AS member JOIN receiver.replays AS replay ON replay.id = member.replay_id
WHERE member.delivery_id = :id ORDER BY replay.id
"""
)


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """A try to apply a delivery that did not succeed."""

    number: int
    attempted_at: datetime
    outcome: str
    error: str
    trace: str | None


@dataclass(frozen=True, slots=True)
class InReplay:
    """A replay that a delivery was part of."""

    replay_id: int
    created_at: datetime
    requested_by: str
    reason: str
    status_before: str
    outcome: str | None
    """The status that it got by the replay; ``None`` while it waits, ``cancelled`` when it was not processed."""
    completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Resolution:
    """Who resolved a delivery that is not applied, when and why."""

    resolved_at: datetime
    resolved_by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """An operator's decision about a delivery that OpenCard's log does not have."""

    decision: str
    decided_at: datetime
    decided_by: str
    reason: str


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An attempt to deliver an event, as OpenCard's log has it."""

    attempted_at: datetime | None
    response_status: int | None

    def in_words(self) -> str:
        """Return it as a sentence."""
        answer = "no answer on record" if self.response_status is None else f"answered with {self.response_status}"
        return f"OpenCard's attempt, according to its log: {answer}"


@dataclass(frozen=True, slots=True)
class DeliveryDetails:
    """A delivery with everything around it."""

    summary: DeliverySummary
    error: str | None
    """Of the last attempt, whole."""
    headers: Mapping[str, str]
    """Without credentials."""
    payload: str | None = field(repr=False)
    """The body as text, U+FFFD where it is no UTF-8; ``None`` when it is not kept any more."""
    body_size: int | None
    """In bytes."""
    fingerprint: str | None
    """SHA-256 of the event by value, in hexadecimal digits."""
    card_holder_reference_id: str | None
    alone: bool
    """Whether it is processed alone."""
    test: bool
    """Whether it is a test delivery, which is never applied."""
    attempts: tuple[FailedAttempt, ...]
    """Those that did not succeed, oldest first."""
    duplicates: tuple[DeliverySummary, ...]
    """Other deliveries of the same event, newest first."""
    replays: tuple[InReplay, ...]
    changed: tuple[ChangedRow, ...]
    """The rows of ``ems`` that name it."""
    resolution: Resolution | None = None
    """``None`` while it is open, or needs none."""
    unconfirmed: bool = False
    """Whether OpenCard's log ought to have it and does not, and no person has decided about it."""
    decision: Decision | None = None
    written_ms: int | None = None
    """Milliseconds from its arrival until it was written; the commit and the answer followed. ``None``: not pushed."""

    def why_not_retried(self) -> str | None:
        """Return why no attempt follows by itself, as a sentence; ``None`` unless it is dead and not resolved."""
        if self.summary.status != "dead" or self.resolution is not None:
            return None
        last_replay = max((each.created_at for each in self.replays), default=None)
        number = sum(last_replay is None or each.attempted_at >= last_replay for each in self.attempts)
        if number > 1:
            return f"No longer retried: {number} attempts failed. Replay it once the cause is fixed."
        return "Not retried: another attempt would end with the same error. Replay it once the cause is fixed."


def read_delivery(connection: Connection, delivery_id: int) -> DeliveryDetails | None:
    """Return everything about one delivery; ``None`` when there is none of that id."""
    row = connection.execute(_DELIVERY, {"id": delivery_id}).mappings().one_or_none()
    if row is None:
        return None
    (summary,) = summaries(connection, [{name: row[name] for name in COLUMNS.split(", ")}])
    return DeliveryDetails(
        summary=summary,
        error=row["error"],
        headers=row["headers"] or {},
        written_ms=row["written_ms"],
        payload=None if row["body"] is None else bytes(row["body"]).decode("utf-8", errors="replace"),
        body_size=None if row["body"] is None else len(row["body"]),
        fingerprint=None if row["fingerprint"] is None else bytes(row["fingerprint"]).hex(),
        card_holder_reference_id=row["card_holder_reference_id"],
        alone=row["alone"],
        test=row["test"],
        attempts=tuple(FailedAttempt(**each) for each in connection.execute(_ATTEMPTS, {"id": delivery_id}).mappings()),
        duplicates=_same_event(connection, row),
        replays=tuple(InReplay(**each) for each in connection.execute(_REPLAYS, {"id": delivery_id}).mappings()),
        changed=read_effects(
            connection,
            {
                "id": delivery_id,
                "event": row["event"],
                "status": row["status"],
                "position": row["position"],
                "organization": summary.organization_reference_id,
                "transaction_id": row["transaction_id"],
                "card_holder": row["card_holder_reference_id"],
            },
        ),
        resolution=_resolution(connection, delivery_id),
        unconfirmed=row["unconfirmed"],
        decision=_decision(connection, delivery_id),
    )


def read_log_entries(connection: Connection, delivery: DeliveryDetails) -> tuple[LogEntry, ...]:
    """Return OpenCard's attempts to deliver the event, as far as its log was read."""
    if delivery.fingerprint is None:
        return ()
    parameters = {"webhook_id": delivery.summary.webhook_id, "fingerprint": delivery.fingerprint}
    return tuple(LogEntry(**row) for row in connection.execute(_LOG, parameters).mappings())


def _resolution(connection: Connection, delivery_id: int) -> Resolution | None:
    row = connection.execute(_RESOLUTION, {"id": delivery_id}).mappings().one_or_none()
    return None if row is None else Resolution(**row)


def _decision(connection: Connection, delivery_id: int) -> Decision | None:
    row = connection.execute(_DECISION, {"id": delivery_id}).mappings().one_or_none()
    return None if row is None else Decision(**row)


def _same_event(connection: Connection, row: RowMapping) -> tuple[DeliverySummary, ...]:
    if row["position"] is None:
        return ()
    parameters = {"id": row["id"], "position": row["position"]}
    return summaries(connection, connection.execute(_ALIKE, parameters).mappings())

"""The state of replays, by the outcome of each of their deliveries."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from receiver.errors import OperationRefused
from receiver.ops.deliveries import error_group
from receiver.ops.replay_selection import SelectionGroup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, RowMapping

SILENCE: Final = timedelta(minutes=1)
"""Time without a heartbeat of the selecting process after which selecting counts as interrupted."""

# what has ended bears its totals; what has not is counted
_REPLAYS: Final = """
SELECT replay.id AS replay_id, replay.requested_by, replay.reason, replay.filter, replay.created_at,
    replay.selecting_at, replay.selected_at, replay.cancelled_at, replay.cancelled_by, replay.ended_at, replay.selected,
    coalesce(counted.processed, replay.processed) AS processed, coalesce(counted.failed, replay.failed) AS failed,
    clock_timestamp() AS at
FROM receiver.replays AS replay LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE outcome IN ('processed', 'duplicate')) AS processed,
        count(*) FILTER (WHERE outcome IN ('failed', 'dead', 'quarantined', 'ignored')) AS failed
    FROM receiver.replay_deliveries WHERE replay_id = replay.id
) AS counted ON replay.ended_at IS NULL
WHERE {which} ORDER BY replay.id DESC LIMIT :limit
"""
_ONE: Final = text(_REPLAYS.format(which="replay.id = :id"))
_SOME: Final = text(_REPLAYS.format(which="replay.id < :before"))
_FAILED: Final = text(
    r"""
SELECT member.outcome AS status, stored.event, split_part(attempt.error, E'\n', 1) AS error, count(*) AS number
FROM receiver.replay_deliveries AS member
JOIN receiver.replays AS replay ON replay.id = member.replay_id
JOIN receiver.stored_deliveries AS stored ON stored.id = member.delivery_id
LEFT JOIN LATERAL (
    SELECT error FROM receiver.processing_attempts AS attempt
    WHERE attempt.delivery_id = member.delivery_id AND attempt.outcome = member.outcome
        AND attempt.attempted_at >= replay.created_at
    ORDER BY attempt.id LIMIT 1
) AS attempt ON true
WHERE member.replay_id = :id AND member.outcome IN ('failed', 'dead', 'quarantined', 'ignored')
GROUP BY 1, 2, 3
"""
)
_EXAMPLE: Final = text(
    """
SELECT max(delivery_id) FROM receiver.replay_deliveries
WHERE replay_id = :id AND outcome IN ('failed', 'dead', 'quarantined', 'ignored')
"""
)


@dataclass(frozen=True, slots=True)
class ReplayState:
    """The state of a replay. ``processed`` and ``failed`` grow while it runs, and are final once it has ended."""

    replay_id: int
    requested_by: str
    reason: str
    filter: Mapping[str, Any]
    created_at: datetime
    state: str
    """``selecting``, ``interrupted``, ``running``, ``cancelling``, ``cancelled`` or ``ended``."""
    selected: int
    processed: int
    """How many are applied: they became ``processed`` or ``duplicate``."""
    failed: int
    """How many failed, or were held again."""
    selected_at: datetime | None
    cancelled_at: datetime | None
    cancelled_by: str | None
    ended_at: datetime | None

    @property
    def outcome(self) -> str:
        """The state as text for users; of a replay that has ended, whether deliveries failed."""
        if self.state != "ended" or not self.failed:
            return self.state
        return "some failed" if self.processed else "all failed"

    @property
    def finished(self) -> int:
        """How many have an outcome."""
        return self.processed + self.failed


def read_replay(connection: Connection, replay_id: int) -> ReplayState:
    """Read the state of a replay. Raises ``OperationRefused`` when there is none of that id."""
    row = connection.execute(_ONE, {"id": replay_id, "limit": 1}).mappings().one_or_none()
    if row is None:
        raise OperationRefused(f"there is no replay {replay_id}; receiver replay --list shows them")
    return _replay(row)


def list_replays(connection: Connection, *, before: int | None = None, limit: int = 50) -> list[ReplayState]:
    """Return the newest *limit* replays; *before*: those with a smaller id only."""
    parameters = {"before": 2**63 - 1 if before is None else before, "limit": limit}
    return [_replay(row) for row in connection.execute(_SOME, parameters).mappings()]


def what_failed(connection: Connection, replay_id: int) -> list[SelectionGroup]:
    """Return what failed in a replay, by status, event and the error it had then; the largest group first."""
    numbers: Counter[tuple[str, str, str]] = Counter()
    for row in connection.execute(_FAILED, {"id": replay_id}):
        numbers[row.status, row.event, error_group(row.error)] += row.number
    return [
        SelectionGroup(*key, number) for key, number in sorted(numbers.items(), key=lambda each: (-each[1], each[0]))
    ]


def example_of_failed(connection: Connection, replay_id: int) -> int | None:
    """Return the newest delivery that failed in a replay; ``None`` where none did."""
    example: int | None = connection.scalar(_EXAMPLE, {"id": replay_id})
    return example


def _replay(row: RowMapping) -> ReplayState:
    fields = {name: row[name] for name in row if name not in {"at", "selecting_at"}}
    return ReplayState(**fields, state=_state(row))


def _state(row: RowMapping) -> str:
    if row["ended_at"] is not None:
        return "ended" if row["cancelled_at"] is None else "cancelled"
    if row["cancelled_at"] is not None:
        return "cancelling"
    if row["selected_at"] is not None:
        return "running"
    return "selecting" if row["at"] - row["selecting_at"] < SILENCE else "interrupted"

"""What retention deletes: one entry for each kind, in the order in which they take turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from sqlalchemy import text

from receiver.ops.retention.bodies import count_bodies, delete_bodies

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from receiver.ops.retention.walk import Span
    from receiver.settings import Settings

Count: TypeAlias = Callable[["Connection", "Span"], int]
"""Returns how many rows of a span would be deleted."""
Remove: TypeAlias = Callable[["Connection", "Span"], tuple[int, bool]]
"""Deletes them; returns how many, and whether the span is finished."""

ROWS_AT_ONCE: Final = 5000


@dataclass(frozen=True, slots=True)
class RetentionKind:
    """Something that is not kept permanently."""

    name: str
    words: str
    setting: str
    """The variable that says for how many days it is kept."""
    table: str
    key: str
    time: str
    """What grows with the key: a column, or an expression."""
    count: Count
    remove: Remove

    def days(self, settings: Settings) -> int:
        """Return for how many days it is kept; 0 is permanently."""
        return int(getattr(settings, self.setting.lower()))


def _deleting(table: str, key: str, which: str) -> tuple[Count, Remove]:
    """Return how rows of *table* are counted and deleted of which *which* holds; others that hold them are not met."""
    rows = f"FROM {table} AS old WHERE old.{key} > :after AND old.{key} <= :until AND {which}"
    counting = text(f"SELECT count(*) {rows}")
    deleting = text(
        f"DELETE FROM {table} WHERE {key} IN (SELECT old.{key} {rows} FOR UPDATE OF old SKIP LOCKED)"  # noqa: S608
    )

    def count(connection: Connection, span: Span) -> int:
        return connection.scalar(counting, span.parameters()) or 0

    def remove(connection: Connection, span: Span) -> tuple[int, bool]:
        return connection.execute(deleting, span.parameters()).rowcount, True

    return count, remove


_MEMBERS: Final = """
FROM receiver.replay_deliveries AS member JOIN receiver.replays AS replay ON replay.id = member.replay_id
WHERE replay.id > :after AND replay.id <= :until AND replay.ended_at < :before
"""
_COUNT_MEMBERS: Final = text(f"SELECT count(*) {_MEMBERS}")
_FORGET_MEMBERS: Final = text(
    f"""
WITH old AS MATERIALIZED (
    SELECT member.replay_id, member.delivery_id {_MEMBERS} LIMIT {ROWS_AT_ONCE} FOR UPDATE OF member SKIP LOCKED
)
DELETE FROM receiver.replay_deliveries AS member USING old
WHERE member.replay_id = old.replay_id AND member.delivery_id = old.delivery_id
"""  # noqa: S608 - constants
)


def _count_members(connection: Connection, span: Span) -> int:
    return connection.scalar(_COUNT_MEMBERS, span.parameters()) or 0


def _forget_members(connection: Connection, span: Span) -> tuple[int, bool]:
    gone = connection.execute(_FORGET_MEMBERS, span.parameters()).rowcount
    return gone, gone < ROWS_AT_ONCE


def _bodies(name: str, words: str, setting: str, *statuses: str) -> RetentionKind:
    return RetentionKind(
        name,
        words,
        setting,
        "receiver.bodies",
        "delivery_id",
        "(SELECT received_at FROM receiver.stored_deliveries WHERE id = delivery_id)",
        lambda connection, span: count_bodies(connection, statuses, span),
        lambda connection, span: delete_bodies(connection, statuses, span),
    )


def _rows(name: str, words: str, setting: str, table: str, time: str, which: str) -> RetentionKind:
    count, remove = _deleting(table, "id", which)
    return RetentionKind(name, words, setting, table, "id", time, count, remove)


_SAY_SO: Final = text("SELECT set_config('receiver.retention', 'audit', true)")
_COUNT_RECORDS, _DELETE_RECORDS = _deleting("receiver.audit", "id", "old.at < :before")


def _delete_records(connection: Connection, span: Span) -> tuple[int, bool]:
    """Delete records of the audit; a trigger lets nothing else do that."""
    connection.execute(_SAY_SO)
    return _DELETE_RECORDS(connection, span)


KINDS: Final = (
    _bodies("processed_bodies", "bodies of processed deliveries", "RETAIN_PROCESSED_DAYS", "processed"),
    _bodies("duplicate_bodies", "bodies of duplicates", "RETAIN_DUPLICATE_DAYS", "duplicate"),
    _bodies(
        "failed_bodies",
        "bodies of dead, quarantined and ignored deliveries",
        "RETAIN_FAILED_DAYS",
        "dead",
        "quarantined",
        "ignored",
    ),
    _rows(
        "processing_attempts",
        "traces of failed processing attempts",
        "RETAIN_TRACES_DAYS",
        "receiver.processing_attempts",
        "attempted_at",
        "old.attempted_at < :before AND NOT EXISTS (SELECT FROM receiver.queue AS queued "
        "WHERE queued.delivery_id = old.delivery_id)",
    ),
    RetentionKind(
        "replay_deliveries",
        "deliveries of replays",
        "RETAIN_TRACES_DAYS",
        "receiver.replays",
        "id",
        "created_at",
        _count_members,
        _forget_members,
    ),
    RetentionKind(
        "audit",
        "audit records",
        "RETAIN_AUDIT_DAYS",
        "receiver.audit",
        "id",
        "at",
        _COUNT_RECORDS,
        _delete_records,
    ),
    # what cannot be recovered keeps its organization from being complete until an operator acknowledges it
    _rows(
        "delivery_log",
        "entries of the delivery log",
        "RETAIN_LOG_DAYS",
        "receiver.delivery_log",
        "read_at",
        "old.read_at < :before AND coalesce(old.attempted_at < :before, true) AND (NOT old.unrecoverable OR EXISTS ("
        "SELECT FROM receiver.acknowledged_gaps AS known WHERE known.kind = 'log_entry' AND known.id = old.id))",
    ),
    # the last run that proved something is what the views show, whenever that was
    _rows(
        "reconcile_runs",
        "reconcile runs",
        "RETAIN_LOG_DAYS",
        "receiver.reconcile_runs",
        "started_at",
        "old.started_at < :before AND EXISTS (SELECT FROM receiver.reconcile_runs AS later "
        "WHERE later.webhook_id = old.webhook_id AND later.started_at > old.started_at "
        "AND later.ended_at IS NOT NULL AND later.error IS NULL AND later.checked_until IS NOT NULL)",
    ),
    _rows(
        "retention_runs",
        "runs of retention",
        "RETAIN_LOG_DAYS",
        "receiver.retention_runs",
        "started_at",
        "old.started_at < :before AND EXISTS (SELECT FROM receiver.retention_runs AS later "
        "WHERE later.started_at > old.started_at AND later.ended_at IS NOT NULL AND later.error IS NULL)",
    ),
)

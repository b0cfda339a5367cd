"""Steps of the tests of retention: let time pass, run retention, read what is left."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import DateTime, text

from receiver.migrate import target_metadata
from receiver.ops.retention.run import Pace, RetentionOutcome, run_retention

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from receiver.settings import Settings

LIMITS = (
    "retain_processed_days",
    "retain_failed_days",
    "retain_duplicate_days",
    "retain_traces_days",
    "retain_log_days",
    "retain_audit_days",
)
SHORTEST: dict[str, Any] = dict.fromkeys(LIMITS, 14)
NO_REST = Pace(rest=0)


def kept(settings: Settings, **days: int) -> Settings:
    """Return settings by which everything is kept permanently except what *days* names."""
    asked: dict[str, Any] = {**dict.fromkeys(LIMITS, 0), "erase_card_holders_days": 0, **days}
    return replace(settings, **asked)


def retain(
    engine: Engine, settings: Settings, *, pace: Pace = NO_REST, write: bool = True, **days: int
) -> RetentionOutcome:
    return run_retention(engine, kept(settings, **days), pace=pace, write=write)


def removed(outcome: RetentionOutcome) -> dict[str, int]:
    """Return what went, kind by kind, without those of which nothing went."""
    return {kind.kind: kind.removed for kind in outcome.kinds if kind.removed}


def days_pass(engine: Engine, days: float) -> None:
    """Let everything in the database be so many days older."""
    span = {"span": timedelta(days=days)}
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))  # no trigger keeps a line as it is
        for table in target_metadata().sorted_tables:
            times = [column.name for column in table.columns if isinstance(column.type, DateTime)]
            settings = [f"{name} = {name} - CAST(:span AS interval)" for name in times]
            if settings:
                connection.execute(text(f"UPDATE {table.fullname} SET {', '.join(settings)}"), span)  # noqa: S608


def ems(engine: Engine, *, feed: bool = True) -> dict[str, list[dict[str, Any]]]:
    """Return every row that the EMS reads, without the time of its last change."""
    tables = [table for table in target_metadata().sorted_tables if table.schema == "ems"]
    with engine.connect() as connection:
        found = {
            table.fullname: connection.execute(table.select().order_by(*table.primary_key)).mappings().all()
            for table in tables
            if feed or table.name not in {"consumers", "events", "feed_horizon", "ledger_journal"}
        }
    return {
        name: [{column: value for column, value in row.items() if column != "updated_at"} for row in rows]
        for name, rows in found.items()
    }

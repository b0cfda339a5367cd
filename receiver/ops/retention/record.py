"""The rows of ``receiver.retention_runs``: what each run deleted, and how the last one ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
from sqlalchemy import text

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

Query: TypeAlias = Callable[[str], Iterable[Mapping[str, Any]]]
"""Runs a query without parameters and returns its rows."""

INTERRUPTED: Final = "it was interrupted: its process ended; the next run continues where it stopped"

_LAST: Final = """
SELECT run.started_at, run.ended_at, run.removed, run.caught_up, run.error, (
    SELECT well.ended_at FROM receiver.retention_runs AS well
    WHERE well.ended_at IS NOT NULL AND well.error IS NULL ORDER BY well.started_at DESC LIMIT 1
) AS succeeded_at
FROM receiver.retention_runs AS run ORDER BY run.started_at DESC LIMIT 1
"""
# The holder of retention's lock knows that none of these runs any more.
_END_INTERRUPTED: Final = text(
    "UPDATE receiver.retention_runs SET ended_at = clock_timestamp(), error = :error WHERE ended_at IS NULL"
)
_BEGIN: Final = text("INSERT INTO receiver.retention_runs (started_at) VALUES (clock_timestamp()) RETURNING id")
_COUNT: Final = text("UPDATE receiver.retention_runs SET removed = CAST(:removed AS jsonb) WHERE id = :id")
_END: Final = text(
    """
UPDATE receiver.retention_runs
SET ended_at = clock_timestamp(), removed = CAST(:removed AS jsonb), caught_up = :caught_up, error = :error
WHERE id = :id
"""
)


@dataclass(frozen=True, slots=True)
class LastRetentionRun:
    """The newest run, and when one last ended well; times are aware."""

    started_at: datetime
    ended_at: datetime | None
    """``None`` while it runs."""
    removed: Mapping[str, int]
    """Kind → how many were deleted; of a run that is under way, so far."""
    caught_up: bool | None
    """Whether no expired data are left; ``None`` while it runs."""
    error: str | None
    succeeded_at: datetime | None
    """When the newest run ended that ended well; ``None`` if none ever did."""


def last_retention_run(query: Query) -> LastRetentionRun | None:
    """Return the newest run; ``None`` if there never was one."""
    rows = list(query(_LAST))
    return LastRetentionRun(**rows[0]) if rows else None


def begin(connection: Connection) -> int:
    """Record the start of a run, and which earlier runs were interrupted; return its id."""
    connection.execute(_END_INTERRUPTED, {"error": INTERRUPTED})
    return int(connection.execute(_BEGIN).scalar_one())


def count(connection: Connection, run_id: int, removed: Mapping[str, int]) -> None:
    """Write how many of each kind were deleted so far."""
    connection.execute(_COUNT, {"id": run_id, "removed": _json(removed)})


def end(
    connection: Connection, run_id: int, removed: Mapping[str, int], *, caught_up: bool, error: str | None = None
) -> None:
    """Write how a run ended."""
    connection.execute(_END, {"id": run_id, "removed": _json(removed), "caught_up": caught_up, "error": error})


def _json(removed: Mapping[str, int]) -> str:
    return msgspec.json.encode(removed).decode()

"""What can be exported, what a window of time means for it, and its query. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

TIMESTAMP: Final = "timestamp with time zone"
_ISO: Final = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


class Format(StrEnum):
    """How an export is written."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class Source:
    """A table or view of schema ``ems`` that can be exported."""

    relation: str
    time: str
    """The column that a window of time is about."""
    order: tuple[str, ...]
    condition: str = "true"


# the states say nothing, but let the index over state and time find the window
_ALL_STATES: Final = "state IN ('authorized', 'deleted', 'cleared', 'invoiced')"
SOURCES: Final[Mapping[str, Source]] = {
    "transactions": Source(
        "ems.transactions", "updated_at", ("updated_at", "organization_reference_id", "id"), _ALL_STATES
    ),
    "ledger": Source("ems.ledger", "updated_at", ("updated_at", "organization_reference_id", "transaction_id")),
    "events": Source("ems.events", "recorded_at", ("position",)),
}


@dataclass(frozen=True, slots=True)
class Window:
    """Which rows: from *since* on, before *until*, of *organizations*; what is empty limits nothing."""

    since: datetime | None = None
    until: datetime | None = None
    organizations: tuple[str, ...] = ()

    @property
    def parameters(self) -> dict[str, object]:
        """The parameters of the queries."""
        return {"since": self.since, "until": self.until, "organizations": list(self.organizations)}


def count_query(source: Source, window: Window) -> str:
    """Return the query that counts the rows."""
    return f"SELECT count(*) FROM {source.relation} WHERE {_where(source, window)}"  # noqa: S608 - names are ours


def rows_query(source: Source, window: Window, columns: Mapping[str, str], how: Format) -> str:
    """Return the query of the rows, in order; *columns*: name → type, as PostgreSQL calls it.

    PostgreSQL itself writes what is to be text, for it writes its numbers and documents exactly.
    """
    each = ", ".join(f'{_written(name, kind, how)} AS "{name}"' for name, kind in columns.items())
    order = ", ".join(f"source.{name}" for name in source.order)
    query = f"SELECT {each} FROM {source.relation} AS source WHERE {_where(source, window)} ORDER BY {order}"  # noqa: S608
    return f"SELECT row_to_json(line)::text FROM ({query}) AS line" if how is Format.JSONL else query  # noqa: S608


def _where(source: Source, window: Window) -> str:
    conditions = [source.condition]
    if window.since is not None:
        conditions.append(f"{source.time} >= :since")
    if window.until is not None:
        conditions.append(f"{source.time} < :until")
    if window.organizations:
        conditions.append("organization_reference_id = ANY(:organizations)")
    return " AND ".join(conditions)


def _written(name: str, kind: str, how: Format) -> str:
    column = f'source."{name}"'
    if how is Format.PARQUET:
        return column if kind in NATIVE else f"{column}::text"
    if kind == TIMESTAMP:
        return _ISO.format(column)
    return column if how is Format.JSONL else f"{column}::text"


NATIVE: Final = frozenset({TIMESTAMP, "numeric", "bigint", "integer", "boolean", "date", "time without time zone"})
"""Types that Parquet has as well; all others become texts."""

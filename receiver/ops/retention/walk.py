"""Walking through a table from its oldest row, a slice at a time, and remembering how far.

Ids grow with time, nearly, so the oldest rows are found by the primary key: no index of times is needed, and no row is
read that is too young. What a walk leaves behind, because it waited or was locked, is found by the next *pass*: a week
after the last one a walk starts again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, TextClause

SLICE: Final = 2000
"""How many rows are looked at in one transaction."""
PASS: Final = timedelta(days=7)
"""How long after its last start a walk starts again."""

_POSITION: Final = text("SELECT position FROM receiver.retention_walks WHERE kind = :kind")
_BEGIN_AGAIN: Final = text(
    """
INSERT INTO receiver.retention_walks AS walk (kind, pass_began_at) VALUES (:kind, clock_timestamp())
ON CONFLICT (kind) DO UPDATE SET position = 0, pass_began_at = excluded.pass_began_at
WHERE walk.pass_began_at < excluded.pass_began_at - CAST(:pass_length AS interval)
"""
)
_REMEMBER: Final = text("UPDATE receiver.retention_walks SET position = :position WHERE kind = :kind")


@dataclass(frozen=True, slots=True)
class Span:
    """Some rows, by their ids, the younger of which may be too young."""

    after: int
    """The last id before the span."""
    until: int
    """The last id."""
    before: datetime
    """Rows before this time have expired (aware)."""

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of a query about the span."""
        return {"after": self.after, "until": self.until, "before": self.before}


def begin_walk(connection: Connection, kind: str) -> int:
    """Return the position from which to walk on; the first row's, when it is time for a new pass."""
    connection.execute(_BEGIN_AGAIN, {"kind": kind, "pass_length": PASS})
    return read_position(connection, kind)


def restart_walk(connection: Connection, kind: str) -> int:
    """Return the position of the first row, and walk on from there."""
    begin_walk(connection, kind)
    remember(connection, kind, 0)
    return 0


def read_position(connection: Connection, kind: str) -> int:
    """Return how far a walk got."""
    return connection.scalar(_POSITION, {"kind": kind}) or 0


def remember(connection: Connection, kind: str, position: int) -> None:
    """Remember how far a walk got, together with what it did there."""
    connection.execute(_REMEMBER, {"kind": kind, "position": position})


def slicing(table: str, key: str, time: str) -> TextClause:
    """Return the query for the next slice of *table*: its last id, and the first that is too young."""
    return text(
        f"SELECT max(number) AS last, min(number) FILTER (WHERE moment >= :before) AS young "  # noqa: S608 - our names
        f"FROM (SELECT {key} AS number, {time} AS moment FROM {table} "
        f"WHERE {key} > :after ORDER BY {key} LIMIT {SLICE}) AS slice"
    )


def next_span(connection: Connection, query: TextClause, *, after: int, before: datetime) -> tuple[Span, bool]:
    """Return the next span of rows that are old enough, and whether the walk has reached rows that are too young."""
    row = connection.execute(query, {"after": after, "before": before}).one()
    if row.last is None:
        return Span(after, after, before), True
    if row.young is not None:
        return Span(after, row.young - 1, before), True
    return Span(after, row.last, before), False

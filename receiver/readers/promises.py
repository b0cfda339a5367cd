"""What the EMS may rely on: the columns of the last release, with their types, are still there in this one."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

Columns = dict[str, dict[str, str]]
"""Table or view → column → type, with ``not null`` where that is promised, too."""

_COLUMNS: Final = text(
    """
SELECT relation.oid::regclass::text AS relation, attribute.attname AS name,
    format_type(attribute.atttypid, attribute.atttypmod) || CASE WHEN attribute.attnotnull THEN ' not null' ELSE '' END
        AS type
FROM pg_class AS relation
JOIN pg_attribute AS attribute ON attribute.attrelid = relation.oid
    AND attribute.attnum > 0 AND NOT attribute.attisdropped
WHERE relation.relnamespace = 'ems'::regnamespace AND relation.relkind IN ('r', 'p', 'v')
ORDER BY relation.relname, attribute.attnum
"""
)


def columns(connection: Connection) -> Columns:
    """Return every table and view of schema ``ems`` with its columns."""
    rows = connection.execute(_COLUMNS).all()
    return {
        str(relation): {row.name: row.type for row in group}
        for relation, group in groupby(rows, key=lambda row: row.relation)
    }


def broken(released: Mapping[str, Mapping[str, str]], present: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return what was *released* and does not hold at *present*, a line each. What is new breaks nothing."""
    found = []
    for relation, promised in released.items():
        if relation not in present:
            found.append(f"{relation} was removed; the EMS reads it")
            continue
        for name, kind in promised.items():
            now = present[relation].get(name)
            if now is None:
                found.append(f"{relation}.{name} was removed; add the new column next to it and keep both")
            elif now not in {kind, f"{kind} not null"}:
                found.append(f"{relation}.{name} was {kind} and is {now}; add a column and keep this one as it was")
    return found

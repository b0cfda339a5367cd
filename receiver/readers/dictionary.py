"""The dictionary of schema ``ems``, read from the database's own comments."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.readers.examples import example

if TYPE_CHECKING:
    from sqlalchemy import Connection, RowMapping

HEAD: Final = """# The tables that the EMS reads

PostgreSQL schema `ems`. How the tables belong together, recipes, and how to follow the feed: [ems/](ems/README.md).

- Columns are added in later releases, never renamed or retyped, and what is never null stays so.
- All times are `timestamptz`; the zone in which you see them is your session's. Days and times of day of a purchase are
  those of its own zone, `purchase_timezone`.
- All amounts are exact (`numeric`), in major units (109.38 is 109 euros and 38 cents), digits as sent, unrounded.
- "Not sent" means that OpenCard's payload had no such field, or null.
- `\\d+ ems.transactions` in `psql` shows the same words.

This page is written by `make docs` from the comments in the database.
"""

_COLUMNS: Final = text(
    """
SELECT relation.relname AS relation, relation.relkind = 'v' AS is_view,
    obj_description(relation.oid, 'pg_class') AS meaning,
    attribute.attname AS column, format_type(attribute.atttypid, attribute.atttypmod) AS type,
    attribute.attnotnull AS required, coalesce(attribute.attnum = ANY(key.conkey), false) AS in_key,
    col_description(relation.oid, attribute.attnum) AS comment
FROM pg_class AS relation
JOIN pg_namespace AS schema ON schema.oid = relation.relnamespace AND schema.nspname = 'ems'
JOIN pg_attribute AS attribute ON attribute.attrelid = relation.oid
    AND attribute.attnum > 0 AND NOT attribute.attisdropped
LEFT JOIN pg_constraint AS key ON key.conrelid = relation.oid AND key.contype = 'p'
WHERE relation.relkind IN ('r', 'p', 'v')
ORDER BY is_view, relation.relname, attribute.attnum
"""
)


_FUNCTIONS: Final = text(
    """
SELECT function.proname AS name, pg_get_function_arguments(function.oid) AS arguments,
    obj_description(function.oid, 'pg_proc') AS meaning
FROM pg_proc AS function
WHERE function.pronamespace = 'ems'::regnamespace AND function.prokind = 'f'
ORDER BY function.proname
"""
)


def dictionary(connection: Connection) -> str:
    """Return every table, view and function of schema ``ems`` with its columns as Markdown."""
    parts = [HEAD]
    rows = connection.execute(_COLUMNS).mappings().all()
    for relation, group in groupby(rows, key=lambda row: str(row["relation"])):
        columns = list(group)
        kind = "view " if columns[0]["is_view"] else ""
        parts.append(f"## {kind}ems.{relation}\n\n{columns[0]['meaning']}\n")
        lines = ["| column | type | null | meaning | example |", "|---|---|---|---|---|"]
        lines += [_line(column) for column in columns]
        parts.append("\n".join(lines) + "\n")
    for function in connection.execute(_FUNCTIONS):
        called = f"{function.name}({function.arguments})"
        parts.append(f"## function ems.{called}\n\n{function.meaning}\n")
    return "\n".join(parts)


def _line(column: RowMapping) -> str:
    mark = " **key**" if column["in_key"] else ""
    null = "" if column["is_view"] else "never" if column["required"] else "yes"
    shown = example(column["relation"], column["column"], column["type"])
    code = f"`{shown}`" if shown else ""
    return f"| `{column['column']}`{mark} | {column['type']} | {null} | {_cell(column['comment'])} | {code} |"


def _cell(comment: str | None) -> str:
    return (comment or "").replace("|", "\\|")

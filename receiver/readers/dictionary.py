"""The dictionary of schema ``ems``, read from the database's own comments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.readers.examples import example
from receiver.readers.relations import relations

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from receiver.readers.relations import Column

HEAD: Final = """# The tables that the EMS reads

PostgreSQL schema `ems`. How the tables belong together, recipes, and how to follow the feed: [ems/](ems/README.md).

- Columns are added in later releases, never renamed or retyped, and what is never null stays so.
- All times are `timestamptz`: an instant, shown in the zone of your session. So `cleared_at::date` depends on that
  zone; `(cleared_at AT TIME ZONE 'UTC')::date` does not. Days and times of day of a purchase are those of its own zone,
  `purchase_timezone`.
- All amounts are exact (`numeric`), in major units (109.38 is 109 euros and 38 cents), digits as sent, unrounded.
- "Not reported": OpenCard's payload had no such field, or null, or a value that could not be read (see
  `transactions.unreadable`), except amounts, currencies, states and ids: a delivery with one that cannot be read is
  not applied. "No state reports it": not reported in any state of the transaction.
- **key**: unique together; of a view, too. `percentage` of `ledger_vat` may be null, in one row of a transaction.
- In `psql`, `\\d+ ems.transactions` shows what its columns mean; `\\dt+ ems.*` and `\\dv+ ems.*` show what the tables
  and views are.

This page is written by `make docs` from the comments in the database.
"""

_FUNCTIONS: Final = text(
    """
SELECT function.proname AS name, pg_get_function_arguments(function.oid) AS arguments,
    pg_get_function_result(function.oid) AS result, obj_description(function.oid, 'pg_proc') AS meaning
FROM pg_proc AS function
WHERE function.pronamespace = 'ems'::regnamespace AND function.prokind = 'f'
ORDER BY function.proname
"""
)


def dictionary(connection: Connection) -> str:
    """Return every table, view and function of schema ``ems`` with its columns as Markdown."""
    parts = [HEAD]
    for relation in relations(connection):
        kind = "view " if relation.is_view else ""
        parts.append(f"## {kind}ems.{relation.name}\n\n{relation.meaning}\n")
        lines = ["| column | type | null | meaning | example |", "|---|---|---|---|---|"]
        lines += [_line(relation.name, column) for column in relation.columns]
        parts.append("\n".join(lines) + "\n")
    for function in connection.execute(_FUNCTIONS):
        called = f"{function.name}({function.arguments})"
        parts.append(f"## function ems.{called}\n\nReturns `{function.result}`. {function.meaning}\n")
    return "\n".join(parts)


def _line(relation: str, column: Column) -> str:
    mark = " **key**" if column.in_key else ""
    null = "yes" if column.nullable else "never"
    shown = example(relation, column.name, column.type)
    code = f"`{shown}`" if shown else ""
    meaning = column.meaning.replace("|", "\\|")
    return f"| `{column.name}`{mark} | {column.type} | {null} | {meaning} | {code} |"

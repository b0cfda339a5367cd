"""Multi-row statements from rows as JSON: one parameter, however many rows and columns.

Rows travel as one JSON array that PostgreSQL takes apart by the table's own types; numbers and times travel as texts
and arrive exact. A statement holds each key once, and rows come sorted by key, so that two workers that touch the
same keys lock them in the same order.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import TextClause, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection, Table

    from receiver.db import Base

Row = dict[str, Any]
ENCODER: Final = msgspec.json.Encoder()


def table_of(model: type[Base]) -> Table:
    """Return the table behind *model*."""
    table: Table = model.__table__  # type: ignore[assignment]
    return table


def rows_parameter(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return *rows* as the JSON text that ``json_populate_recordset`` reads."""
    return ENCODER.encode(rows).decode()


def ids_parameter(ids: Iterable[int]) -> str:
    """Return *ids* as the text that ``CAST(… AS bigint[])`` reads: psycopg takes a list apart number by number."""
    return f"{{{','.join(map(str, ids))}}}"


def insert_rows(connection: Connection, model: type[Base], rows: Sequence[Row], *, on_conflict: str) -> int:
    """Insert *rows* (dictionaries with the columns of *model*) and return how many were written.

    *on_conflict* is the statement's ``ON CONFLICT`` clause; the stored row is called ``stored`` in it. Columns that
    are missing in the first row take their defaults.
    """
    if not rows:
        return 0
    statement = _insert(table_of(model).fullname, tuple(rows[0]), on_conflict)
    return connection.execute(statement, {"rows": rows_parameter(rows)}).rowcount


@cache
def _insert(table: str, columns: tuple[str, ...], on_conflict: str) -> TextClause:
    names = ", ".join(columns)
    return text(
        f"INSERT INTO {table} AS stored ({names}) "  # noqa: S608 - names come from the models
        f"SELECT {names} FROM json_populate_recordset(NULL::{table}, CAST(:rows AS json)) "
        f"{on_conflict}"
    )


def newest_wins(
    model: type[Base], *, order: Sequence[str], keep_first: Sequence[str] = (), of_url: Sequence[str] = ()
) -> str:
    """Return the clause that lets a newer row replace an older one, never the other way round.

    *order*: the columns that tell which of two rows is newer; an equal one replaces itself, so that a replay after a
    correction takes effect, but a row that would stay as it is is left alone. *keep_first*: points in time of which the
    earliest is kept. *of_url*: columns that describe the file at ``url``: they stay while that is the same, else they
    are null.
    """
    table = table_of(model)
    keys = [column.name for column in table.primary_key]
    newer = f"{_tuple('excluded', order)} >= {_tuple('stored', order)}"
    values = {}
    for name in (column.name for column in table.columns if column.name not in keys):
        if name in of_url:
            values[name] = (
                f"CASE WHEN {newer} AND excluded.url IS DISTINCT FROM stored.url THEN NULL ELSE stored.{name} END"
            )
        elif name in keep_first:
            values[name] = f"LEAST(stored.{name}, excluded.{name})"
        elif keep_first:
            values[name] = f"CASE WHEN {newer} THEN excluded.{name} ELSE stored.{name} END"
        else:
            values[name] = f"excluded.{name}"
    wins = " OR ".join([newer, *(f"excluded.{name} < stored.{name}" for name in keep_first)])
    return f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {assignments(values)} WHERE ({wins}) AND {changes(values)}"


def assignments(values: Mapping[str, str]) -> str:
    """Return *values* (column → expression) as ``UPDATE`` takes them."""
    return ", ".join(f"{name} = {value}" for name, value in values.items())


def changes(values: Mapping[str, str]) -> str:
    """Return the condition that *values* differ from what is stored.

    When a row last changed does not count: replaying what is applied already must not show as a change.
    """
    compared = {name: value for name, value in values.items() if name != "updated_at"}
    return f"({', '.join(compared.values())}) IS DISTINCT FROM {_tuple('stored', list(compared))}"


def _tuple(row: str, columns: Sequence[str]) -> str:
    return "({})".format(", ".join(f"{row}.{column}" for column in columns))

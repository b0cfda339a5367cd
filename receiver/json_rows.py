"""Rows as one JSON parameter, however many rows and columns: ``json_populate_recordset`` reads it by a table's types.

Numbers and times travel as texts and arrive exact. Writers sort rows by key, so that two workers that touch
the same keys lock them in the same order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Table

    from receiver.db import Base

Row = dict[str, Any]
ENCODER: Final = msgspec.json.Encoder()


def rows_parameter(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return *rows* as the JSON text that ``json_populate_recordset`` reads."""
    return ENCODER.encode(rows).decode()


def ids_parameter(ids: Iterable[int]) -> str:
    """Return *ids* as the text that ``CAST(… AS bigint[])`` reads: psycopg takes a list apart number by number."""
    return f"{{{','.join(map(str, ids))}}}"


def bytea(value: bytes) -> str:
    """Return *value* as the text that PostgreSQL reads as ``bytea``."""
    return "\\x" + value.hex()


def table_of(model: type[Base]) -> Table:
    """Return the table behind *model*."""
    table: Table = model.__table__  # type: ignore[assignment]
    return table

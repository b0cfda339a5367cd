"""Reads rows of schema ``ems``, by the names of their columns: those that a later release adds change nothing."""

from __future__ import annotations

import json
from dataclasses import fields
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg
from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import set_json_loads

from opencard_ems.rows import Row

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import LiteralString

Kind = TypeVar("Kind", bound=Row)
exact_json: Final = partial(json.loads, parse_float=Decimal)
"""Parses JSON; numbers with a fraction become ``Decimal``, with the digits as sent."""


def connect(url: str) -> psycopg.Connection[Any]:
    """Connect in autocommit mode. A server that stops answering is noticed within a minute.

    Raises ``psycopg.OperationalError``.
    """
    return psycopg.connect(
        url, autocommit=True, connect_timeout=10, keepalives_idle=30, keepalives_interval=10, tcp_user_timeout=60_000
    )


def read(
    connection: psycopg.Connection[Any], kind: type[Kind], rest: LiteralString = "", parameters: Sequence[object] = ()
) -> list[Kind]:
    """Return the rows of a table or view; *rest* is what follows ``FROM``: ``"WHERE booked_on >= %s"``."""
    names = sql.SQL(", ").join(sql.Identifier(field.name) for field in fields(kind))
    query = sql.SQL("SELECT {} FROM {} {}").format(names, sql.Identifier("ems", kind.TABLE), sql.SQL(rest))
    with connection.cursor(row_factory=class_row(kind)) as cursor:
        set_json_loads(exact_json, cursor)
        return cursor.execute(query, parameters).fetchall()

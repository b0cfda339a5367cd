"""Verifies and rebuilds the tables of ems."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from receiver.progress import Progress
from receiver.records.tables import FOLDED
from receiver.records.write import writing_connection
from receiver.verify.run import rebuild, verify

if TYPE_CHECKING:
    from receiver.verify.difference import RowDifference
    from tests.conftest import Acme

TABLES = [table.name for table in FOLDED.values()]


def found(acme: Acme) -> list[RowDifference]:
    with closing(writing_connection(acme.engine)) as connection:
        return list(verify(connection, None, Progress()))


def rebuilt(acme: Acme) -> list[RowDifference]:
    with closing(writing_connection(acme.engine)) as connection:
        return list(rebuild(connection, None, Progress()))


def contents(acme: Acme) -> dict[str, list[str]]:
    return {
        table: sorted(
            repr({name: value for name, value in row.items() if name != "updated_at"})
            for row in acme.rows(f"SELECT * FROM {table}")  # noqa: S608 - a constant
        )
        for table in TABLES
    }

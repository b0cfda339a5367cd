"""Encryption keys: which of them encrypts each stored value, and encrypting all values again with the newest.

Columns are found by their mark (``receiver.db.encrypted``), over all models, so that none can be forgotten.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select, tuple_, update

from receiver.db import ENCRYPTED
from receiver.errors import ConfigurationError
from receiver.migrate import target_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Column, Connection, Engine, Row, Table

    from receiver.encryption import Encryption

BATCH: Final = 200
"""Rows that are locked at a time."""


class _KeyState(Enum):
    """Under which key a value is."""

    NEWEST = auto()
    OLDER = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class ColumnState:
    """How many values of a column are under which key."""

    table: str
    column: str
    older: int
    """Under an older key that is still in ``ENCRYPTION_KEYS``; after a renewal, how many were."""
    newest: int
    unreadable: int
    """Under a key that is not in ``ENCRYPTION_KEYS``."""

    @property
    def name(self) -> str:
        """The column as SQL writes it."""
        return f"{self.table}.{self.column}"


def encrypted_tables() -> Iterator[tuple[Table, list[Column[Any]]]]:
    """Yield every table that holds secrets, with the columns that do."""
    for table in target_metadata().sorted_tables:
        columns = [column for column in table.columns if column.info.get(ENCRYPTED)]
        if columns:
            yield table, columns


def count_by_key(connection: Connection, encryption: Encryption) -> list[ColumnState]:
    """Return under which key everything is stored, column by column; changes nothing."""
    found = []
    for table, columns in encrypted_tables():
        counts = {column.name: Counter[_KeyState]() for column in columns}
        with connection.execute(select(*columns).execution_options(yield_per=BATCH)) as rows:
            for row in rows:
                for column in columns:
                    _count(counts, column, row._mapping[column], encryption)  # noqa: SLF001 - its public name
        found += _states(table, counts)
    return found


def rotate_keys(engine: Engine, encryption: Encryption, *, batch: int = BATCH) -> list[ColumnState]:
    """Encrypt everything again that is not under the newest key; return what was found, column by column.

    Each batch of rows is locked, renewed and committed by itself, so that it may run while everything else runs, be
    interrupted, and be run again. A value that no key decrypts stays as it is.
    """
    found = []
    for table, columns in encrypted_tables():
        counts = {column.name: Counter[_KeyState]() for column in columns}
        last: Sequence[Any] | None = None
        while True:
            with engine.begin() as connection:
                rows = _locked(connection, table, columns, after=last, limit=batch)
                for row in rows:
                    _renew(connection, table, row, columns, counts, encryption)
            if not rows:
                break
            last = [rows[-1]._mapping[column] for column in table.primary_key.columns]  # noqa: SLF001 - likewise
        found += _states(table, counts)
    return found


def _locked(
    connection: Connection, table: Table, columns: list[Column[Any]], *, after: Sequence[Any] | None, limit: int
) -> Sequence[Row[Any]]:
    key = list(table.primary_key.columns)
    query = select(*key, *columns).order_by(*key).limit(limit).with_for_update()
    if after is not None:
        query = query.where(tuple_(*key) > tuple_(*after))
    return connection.execute(query).all()


def _renew(
    connection: Connection,
    table: Table,
    row: Row[Any],
    columns: list[Column[Any]],
    counts: dict[str, Counter[_KeyState]],
    encryption: Encryption,
) -> None:
    values = row._mapping  # noqa: SLF001 - likewise
    renewed = {
        column.name: encryption.renew(values[column])
        for column in columns
        if _count(counts, column, values[column], encryption) is _KeyState.OLDER
    }
    if renewed:
        this = [column == values[column] for column in table.primary_key.columns]
        connection.execute(update(table).where(*this).values(renewed))


def _count(
    counts: dict[str, Counter[_KeyState]], column: Column[Any], stored: bytes | None, encryption: Encryption
) -> _KeyState | None:
    if stored is None:
        return None
    under = _under(stored, encryption)
    counts[column.name][under] += 1
    return under


def _under(stored: bytes, encryption: Encryption) -> _KeyState:
    if encryption.is_newest(stored):
        return _KeyState.NEWEST
    try:
        encryption.decrypt(stored)
    except ConfigurationError:
        return _KeyState.UNKNOWN
    return _KeyState.OLDER


def _states(table: Table, counts: dict[str, Counter[_KeyState]]) -> list[ColumnState]:
    return [
        ColumnState(
            table=table.fullname,
            column=name,
            older=counted[_KeyState.OLDER],
            newest=counted[_KeyState.NEWEST],
            unreadable=counted[_KeyState.UNKNOWN],
        )
        for name, counted in counts.items()
    ]

"""How the folded rows of each table of ``ems`` are written: one statement for a whole batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.dialects import postgresql

from receiver.json_rows import table_of
from receiver.records.models import (
    CardHolder,
    EnvironmentalImpact,
    Invoice,
    LineItem,
    Receipt,
    Tpa,
    Transaction,
    VatRate,
    VatTotal,
)
from receiver.sql import read_sql

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Column, Dialect, Table

    from receiver.db import Base
    from receiver.json_rows import Row

_FILE: Final = ("file_key", "file_size", "file_sha256", "downloaded_at", "download_error")


@dataclass(frozen=True, eq=False)
class FoldedTable:
    """A table of ``ems`` whose rows are folded from the events of subjects."""

    model: type[Base]
    subject: str
    """The column that holds the id of the subject."""
    kept: tuple[str, ...] = ()
    """Columns that no fold sets: a new fold keeps their values."""
    of_url: tuple[str, ...] = ()
    """Those of ``kept`` that describe the file at ``url``: they become null when the URL changes."""

    @property
    def table(self) -> Table:
        """The table itself."""
        return table_of(self.model)

    @property
    def name(self) -> str:
        """Its name, with the schema."""
        return self.table.fullname

    @cached_property
    def key(self) -> tuple[str, ...]:
        """The primary key."""
        return tuple(column.name for column in self.table.primary_key)

    @cached_property
    def sorted_by(self) -> tuple[str, ...]:
        """The columns of the key by which rows are sorted; ``url`` instead of its hash."""
        return tuple("url" if name == "url_sha256" else name for name in self.key)

    def place(self, row: Row) -> tuple[Any, ...]:
        """Return the key by which *row* is sorted."""
        return tuple(row[name] for name in self.sorted_by)

    @cached_property
    def folded(self) -> tuple[str, ...]:
        """The columns that a fold sets, without the key and ``updated_at``."""
        left_out = {*self.key, *self.kept, "updated_at"}
        return tuple(column.name for column in self.table.columns if column.name not in left_out)

    @cached_property
    def replace(self) -> str:
        """The statement that replaces the rows of some subjects with those passed in a setting."""
        written = [name for name in (*self.key, *self.folded) if self.table.columns[name].computed is None]
        values = [f"passed.{name}" for name in written]
        assignments = [f"{name} = excluded.{name}" for name in self.folded]
        assignments += [
            f"{name} = CASE WHEN excluded.url IS DISTINCT FROM stored.url THEN NULL ELSE stored.{name} END"
            for name in self.of_url
        ]
        if "updated_at" in self.table.columns:
            written.append("updated_at")
            values.append("clock_timestamp()")
            assignments.append("updated_at = excluded.updated_at")
        return read_sql(
            __package__,
            "replace_rows",
            table=self.name,
            bare_name=str(self.table.name),
            subject=self.subject,
            same_key=" AND ".join(f"{self.passed(name)} = stored.{name}" for name in self.key),
            columns=", ".join(written),
            values=", ".join(values),
            key=", ".join(self.key),
            assignments=", ".join(assignments),
            stored=qualified("stored", self.folded),
            excluded=qualified("excluded", self.folded),
        )

    def passed(self, name: str) -> str:
        """Return the expression for a column of a passed row; for a computed column, its definition."""
        computed = self.table.columns[name].computed
        return f"passed.{name}" if computed is None else str(computed.sqltext).replace("url", "passed.url")


TRANSACTIONS: Final = FoldedTable(Transaction, "id")
FOLDED: Final[dict[type[Base], FoldedTable]] = {
    each.model: each
    for each in (
        TRANSACTIONS,
        FoldedTable(CardHolder, "reference_id", kept=("erased_at",)),
        FoldedTable(Tpa, "id", kept=_FILE, of_url=_FILE),
        FoldedTable(Receipt, "transaction_id", kept=_FILE),
        FoldedTable(VatRate, "transaction_id"),
        FoldedTable(VatTotal, "transaction_id"),
        FoldedTable(LineItem, "transaction_id"),
        FoldedTable(EnvironmentalImpact, "transaction_id"),
        FoldedTable(Invoice, "id"),
    )
}
"""In the order in which they are written: all workers lock rows in the same order, so that no deadlock occurs."""

FOLDED_COLUMNS: Final = (
    "organization_reference_id",
    "id",
    "card_holder_reference_id",
    "state",
    "authorized_at",
    "deleted_at",
    "cleared_at",
    "invoiced_at",
    "cleared_snapshot_at",
    "cleared_card_issuer_reference",
    "snapshot_at",
    "delivery_id",
    "unreadable",
    "booked_on",
)
"""Columns of a transaction that its fold sets; the others have the names of payload fields."""
DERIVED: Final = ("payment_product_id", "payment_product_name", "card_funding")
"""Descriptive columns, read by ``append.sql``: a value of another type becomes null, without an error."""
FIELDS: Final = tuple(
    column for column in TRANSACTIONS.table.columns if column.name not in {*FOLDED_COLUMNS, *DERIVED, "updated_at"}
)
TRANSACTION_COLUMNS: Final = (*FOLDED_COLUMNS, *(column.name for column in FIELDS), *DERIVED)


def append_statement() -> str:
    """Return the statement that appends events, with the current rows of transactions and the outcomes."""
    compared = [name for name in TRANSACTION_COLUMNS if name not in TRANSACTIONS.key]
    return read_sql(
        __package__,
        "append",
        folded_columns=typed(TRANSACTIONS.table.columns[name] for name in FOLDED_COLUMNS),
        read_fields=read_fields(),
        columns=", ".join(TRANSACTION_COLUMNS),
        assignments=", ".join(f"{name} = excluded.{name}" for name in compared),
        stored=qualified("stored", compared),
        excluded=qualified("excluded", compared),
    )


def read_fields() -> str:
    """Return the clause that reads the columns of a transaction from its ``payload``."""
    fields = typed(FIELDS).replace("BIGINT", "NUMERIC")  # a whole number may be written 45.0
    return read_sql(__package__, "transaction_fields", fields=fields)


def typed(columns: Iterable[Column[Any]]) -> str:
    """Return *columns* with their types, as ``json_to_recordset`` takes them."""
    dialect: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return ", ".join(f"{column.name} {column.type.compile(dialect=dialect)}" for column in columns)


def qualified(row: str, columns: Iterable[str]) -> str:
    """Return *columns* of *row*, separated by commas."""
    return ", ".join(f"{row}.{column}" for column in columns)

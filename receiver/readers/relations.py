"""The tables and views of schema ``ems`` as the database describes them: for the dictionary and the typed readers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

OF_TRANSACTION: Final = ("organization_reference_id", "transaction_id")
KEYS_OF_VIEWS: Final = {
    "completeness": ("organization_reference_id",),
    "invoice_control": ("organization_reference_id", "invoice_id"),
    "late_changes": (*OF_TRANSACTION, "month", "position"),
    "ledger": OF_TRANSACTION,
    "ledger_vat": (*OF_TRANSACTION, "percentage"),
    "missing_receipts": OF_TRANSACTION,
    "pending_transactions": OF_TRANSACTION,
    "possible_duplicates": (*OF_TRANSACTION, "other_transaction_id"),
    "transaction_states": ("id",),
}
"""What is unique in a view, which PostgreSQL does not know."""
_COLUMNS: Final = text(
    """
SELECT relation.relname AS relation, relation.relkind = 'v' AS is_view,
    obj_description(relation.oid, 'pg_class') AS meaning,
    attribute.attname AS column, format_type(attribute.atttypid, attribute.atttypmod) AS type,
    attribute.attnotnull AS required, coalesce(attribute.attnum = ANY(key.conkey), false) AS in_key,
    coalesce(col_description(relation.oid, attribute.attnum), '') AS comment
FROM pg_class AS relation
JOIN pg_namespace AS schema ON schema.oid = relation.relnamespace AND schema.nspname = 'ems'
JOIN pg_attribute AS attribute ON attribute.attrelid = relation.oid
    AND attribute.attnum > 0 AND NOT attribute.attisdropped
LEFT JOIN pg_constraint AS key ON key.conrelid = relation.oid AND key.contype = 'p'
WHERE relation.relkind IN ('r', 'p', 'v')
ORDER BY is_view, relation.relname, attribute.attnum
"""
)


@dataclass(frozen=True)
class Column:
    """A column; *type* is PostgreSQL's name of it."""

    name: str
    type: str
    nullable: bool
    in_key: bool
    meaning: str


@dataclass(frozen=True)
class Relation:
    """A table or a view, with its columns in order."""

    name: str
    is_view: bool
    meaning: str
    columns: tuple[Column, ...]


def relations(connection: Connection) -> list[Relation]:
    """Return the tables of schema ``ems``, then its views, each in order of their names."""
    rows = connection.execute(_COLUMNS).all()
    return [
        Relation(
            relation,
            is_view,
            meaning,
            tuple(
                Column(
                    row.column,
                    row.type,
                    _may_be_null(row.comment) if is_view else not row.required,
                    row.column in KEYS_OF_VIEWS[relation] if is_view else row.in_key,
                    row.comment,
                )
                for row in group
            ),
        )
        for (relation, is_view, meaning), group in groupby(
            rows, key=lambda row: (row.relation, row.is_view, row.meaning)
        )
    ]


def _may_be_null(comment: str) -> bool:
    """Return what the comment says, because PostgreSQL knows no nullability of a view's column."""
    return bool(re.search(r"\bnull\b", comment)) and "never null" not in comment

"""What a delivery changed in the schema ``ems``: the rows that name it.

Read from the database's own catalogue of columns, so that tables which are added are shown as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, RowMapping

MAX_ROWS: Final = 200
"""How many rows of one table are shown at most."""

_TABLES: Final = text(
    """
SELECT class.relname AS table_name, array_agg(attribute.attname::text) AS columns, EXISTS (
        SELECT FROM pg_index AS index JOIN pg_attribute AS indexed ON indexed.attrelid = index.indrelid
            AND indexed.attnum = index.indkey[0] AND indexed.attname = 'delivery_id'
        WHERE index.indrelid = class.oid
    ) AS indexed
FROM pg_class AS class JOIN pg_attribute AS attribute ON attribute.attrelid = class.oid
WHERE class.relnamespace = 'ems'::regnamespace AND class.relkind IN ('r', 'p') AND NOT class.relispartition
    AND attribute.attnum > 0 AND NOT attribute.attisdropped
GROUP BY class.oid, class.relname
HAVING 'delivery_id' = ANY(array_agg(attribute.attname::text))
ORDER BY class.relname
"""
)
_CARD_HOLDER: Final = text(
    "SELECT * FROM ems.card_holders WHERE organization_reference_id = :organization AND reference_id = :card_holder"
)


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """A row of ``ems`` that a delivery made or last changed."""

    table: str
    values: Mapping[str, Any] = field(repr=False)
    """By column; without the payload, which is the delivery's own."""


def read_effects(connection: Connection, delivery: Mapping[str, Any]) -> tuple[ChangedRow, ...]:
    """Return the rows that name *delivery*, which has ``id``, ``event``, ``position``, references as columns.

    A card holder's row names none, so it is shown for every event of that card holder that was applied.
    """
    rows = []
    for table in connection.execute(_TABLES).mappings().all():
        query = _query(table["table_name"], table["columns"], indexed=table["indexed"])
        rows += [ChangedRow(table["table_name"], _shown(row)) for row in connection.execute(query, delivery).mappings()]
    if delivery["status"] == "processed" and delivery["event"].startswith("card_holder."):
        rows += [
            ChangedRow("card_holders", _shown(row)) for row in connection.execute(_CARD_HOLDER, delivery).mappings()
        ]
    return tuple(rows)


def _query(table: str, columns: list[str], *, indexed: bool) -> Any:  # noqa: ANN401 - SQL
    """Return the query by ``delivery_id``, narrowed by the table's own key where no index knows deliveries."""
    conditions = ["delivery_id = :id"]
    if table == "events":
        conditions.append("position = :position")
    elif not indexed:
        conditions.append("organization_reference_id = :organization")
        if table == "transactions":
            conditions.append("id = :transaction_id")
        elif "transaction_id" in columns:
            conditions.append("transaction_id = :transaction_id")
    return text(f'SELECT * FROM ems."{table}" WHERE {" AND ".join(conditions)} LIMIT {MAX_ROWS}')  # noqa: S608 - names from the catalogue


def _shown(row: RowMapping) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "payload"}

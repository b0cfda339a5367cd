"""Which state of a transaction wins: the rule, once in Python for a batch and once in SQL against what is stored.

The current row is the snapshot of the highest rank, the newest among equals. A snapshot of lower rank leaves its own
time (``authorized_at``, …) and, when cleared, its reference. So any order of arrival ends in the same row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text
from sqlalchemy.dialects import postgresql

from receiver.records.models import Transaction, TransactionState
from receiver.records.upsert import Row, changes, rows_parameter, table_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import Column, Connection, Dialect

RANKS: Final = ("authorized", "deleted", "cleared", "invoiced")
"""From lowest to highest: clearing is the accounting truth, so it revives what was deleted."""
STATE_TIMES: Final = tuple(f"{state}_at" for state in RANKS)
_NO_TIMES: Final[Row] = dict.fromkeys(STATE_TIMES)
_CLEARED: Final = ("cleared_snapshot_at", "cleared_card_issuer_reference")


def row_of_snapshot(
    key: Row, *, state: str, card_issuer_reference: str | None, snapshot_at: datetime, delivery_id: int, now: datetime
) -> Row:
    """Return what this snapshot alone would make of ``ems.transactions``, but for the columns that its payload holds.

    *key*: the references of the transaction and of its card holder. A ``document`` in it takes the place of the
    stored body, and ``fields`` that of both where columns are read.
    """
    cleared = state == "cleared"
    return {
        **key,
        "state": state,
        **_NO_TIMES,
        f"{state}_at": snapshot_at,
        "cleared_snapshot_at": snapshot_at if cleared else None,
        "cleared_card_issuer_reference": card_issuer_reference if cleared else None,
        "snapshot_at": snapshot_at,
        "delivery_id": delivery_id,
        "updated_at": now,
    }


def merge(one: Row, other: Row) -> Row:
    """Return the row that two rows of the same transaction make together, whichever came first."""
    winner, loser = (one, other) if _standing(one) >= _standing(other) else (other, one)
    merged = dict(winner)
    for name in STATE_TIMES:
        times = [row[name] for row in (one, other) if row[name] is not None]
        merged[name] = min(times, default=None)
    if _cleared_standing(loser) > _cleared_standing(winner):
        for name in _CLEARED:
            merged[name] = loser[name]
    return merged


def merge_all(rows: Iterable[Row]) -> list[Row]:
    """Return one row for each transaction, sorted by key."""
    merged: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = (row["organization_reference_id"], row["id"])
        merged[key] = merge(merged[key], row) if key in merged else row
    return [merged[key] for key in sorted(merged)]


def record_snapshots(connection: Connection, rows: Sequence[Row]) -> None:
    """Merge snapshots into the current rows, and keep each in the history; a replayed one stands there already.

    *rows*: see ``row_of_snapshot``. What the payload holds PostgreSQL reads from the delivery's body, which it
    has: each is taken apart once, for both tables.
    """
    current = merge_all(rows)
    winners = {row["delivery_id"] for row in current}
    others = [row for row in rows if row["delivery_id"] not in winners]
    connection.execute(_RECORD, {"rows": _rows_parameter(current, others)})


def replace_transactions(connection: Connection, rows: Sequence[Row]) -> None:
    """Write what *rows*, the whole history of some transactions, amount to, whatever is stored; the caller locks."""
    connection.execute(_REPLACE, {"rows": _rows_parameter(merge_all(rows), [])})


def _rows_parameter(current: Sequence[Row], others: Sequence[Row]) -> str:
    return rows_parameter([*({**row, "current": True} for row in current), *others])


def _standing(row: Row) -> tuple[Any, ...]:
    return RANKS.index(row["state"]), row["snapshot_at"], row["delivery_id"]


def _cleared_standing(row: Row) -> tuple[Any, ...]:
    at = row["cleared_snapshot_at"]
    return (False,) if at is None else (True, at, row["cleared_card_issuer_reference"] or "")


def _merge_clause() -> str:
    """Return ``merge``, in SQL: *excluded* against *stored*."""
    ranks = "ARRAY[{}]".format(", ".join(f"'{state}'" for state in RANKS))
    wins = (
        f"(array_position({ranks}, excluded.state), excluded.snapshot_at, excluded.delivery_id) >= "
        f"(array_position({ranks}, stored.state), stored.snapshot_at, stored.delivery_id)"
    )
    cleared_wins = (
        "(excluded.cleared_snapshot_at IS NOT NULL AND (stored.cleared_snapshot_at IS NULL OR "
        "(excluded.cleared_snapshot_at, coalesce(excluded.cleared_card_issuer_reference, '')) > "
        "(stored.cleared_snapshot_at, coalesce(stored.cleared_card_issuer_reference, ''))))"
    )
    earlier = " OR ".join(
        f"LEAST(stored.{name}, excluded.{name}) IS DISTINCT FROM stored.{name}" for name in STATE_TIMES
    )
    settings = []
    told = {}
    for name in (column.name for column in table_of(Transaction).columns if not column.primary_key):
        if name in STATE_TIMES:
            value = f"LEAST(stored.{name}, excluded.{name})"
        elif name in _CLEARED:
            value = f"CASE WHEN {cleared_wins} THEN excluded.{name} ELSE stored.{name} END"
        elif name == "updated_at":
            value = "excluded.updated_at"
        else:
            told[name] = f"excluded.{name}"
            value = f"CASE WHEN {wins} THEN excluded.{name} ELSE stored.{name} END"
        settings.append(f"{name} = {value}")
    return f"{', '.join(settings)} WHERE ({wins} AND {changes(told)}) OR {cleared_wins} OR {earlier}"


_OWN: Final = (
    "organization_reference_id",
    "id",
    "card_holder_reference_id",
    "state",
    *STATE_TIMES,
    *_CLEARED,
    "snapshot_at",
    "delivery_id",
    "updated_at",
    "unreadable",
)
"""Columns that are decided here; all others are read from the payload."""
_DERIVED: Final = {
    "payment_product_id": """
        CASE WHEN jsonb_typeof(read.payload #> '{payment_product,id}') IN ('string', 'number')
            THEN read.payload #>> '{payment_product,id}' END""",
    "payment_product_name": """
        CASE WHEN jsonb_typeof(read.payload #> '{payment_product,name}') = 'string'
            THEN read.payload #>> '{payment_product,name}'
            WHEN jsonb_typeof(read.payload -> 'payment_product') = 'string'
            THEN read.payload ->> 'payment_product' END""",
    "card_funding": """
        CASE WHEN jsonb_typeof(read.payload -> 'card_funding') = 'string'
            THEN read.payload ->> 'card_funding' END""",
}
"""Columns that only describe a purchase, and what reads each: a value of another type is null, and stops nothing."""
_PAYLOAD: Final = tuple(column for column in table_of(Transaction).columns if column.name not in {*_OWN, *_DERIVED})
_COLUMNS: Final = ", ".join((*_OWN, *(column.name for column in _PAYLOAD), *_DERIVED))
_HISTORY: Final = ", ".join(
    column.name
    for column in table_of(TransactionState).columns
    if column.name not in {"id", "transaction_id", "payload", "occurred_at"}
)


def _typed(columns: Iterable[Column[Any]]) -> str:
    """Return *columns* with their types."""
    dialect: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return ", ".join(f"{column.name} {column.type.compile(dialect=dialect)}" for column in columns)


# OFFSET 0 and MATERIALIZED: a body is parsed once, not anew for every column. A whole number may be written 45.0.
_TOLD: Final = f"""
WITH told AS MATERIALIZED (
    SELECT snapshot.*, field.*, {", ".join(f"{query} AS {name}" for name, query in _DERIVED.items())}, read.payload
    FROM json_to_recordset(CAST(:rows AS json)) AS snapshot (
        current boolean, document jsonb, fields jsonb, {_typed(table_of(Transaction).columns[name] for name in _OWN)}
    )
    LEFT JOIN receiver.deliveries AS delivery ON delivery.id = snapshot.delivery_id
    CROSS JOIN LATERAL (
        SELECT coalesce(snapshot.document, convert_from(delivery.body, 'UTF8')::jsonb) AS payload OFFSET 0
    ) AS read
    CROSS JOIN LATERAL jsonb_to_record(coalesce(snapshot.fields, read.payload))
        AS field ({_typed(_PAYLOAD).replace("BIGINT", "NUMERIC")})
)
"""  # noqa: S608 - names come from the models
_CURRENT: Final = f"""
INSERT INTO ems.transactions AS stored ({_COLUMNS})
SELECT {_COLUMNS} FROM told WHERE current ORDER BY organization_reference_id, id
ON CONFLICT (organization_reference_id, id) DO UPDATE SET
"""  # noqa: S608 - names come from the models
_RECORD: Final = text(
    f"""
{_TOLD}, current AS ({_CURRENT} {_merge_clause()})
INSERT INTO ems.transaction_states ({_HISTORY}, transaction_id, payload, occurred_at)
SELECT {_HISTORY}, id, payload, snapshot_at FROM told
ON CONFLICT (delivery_id) DO NOTHING
"""  # noqa: S608 - names come from the models
)
_REPLACE: Final = text(
    f"{_TOLD} {_CURRENT} "
    + ", ".join(
        f"{column.name} = excluded.{column.name}" for column in table_of(Transaction).columns if not column.primary_key
    )
)

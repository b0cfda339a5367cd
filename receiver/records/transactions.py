"""Which state of a transaction wins: the rule, once in Python for a batch and once in SQL against what is stored.

The current row is the snapshot of the highest rank, the newest among equals. A snapshot of lower rank leaves its own
time (``authorized_at``, …) and, when cleared, its reference. So any order of arrival ends in the same row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from receiver.records.models import Transaction, TransactionState
from receiver.records.upsert import Row, insert_rows, rows_parameter, table_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

RANKS: Final = ("authorized", "deleted", "cleared", "invoiced")
"""From lowest to highest: clearing is the accounting truth, so it revives what was deleted."""
STATE_TIMES: Final = tuple(f"{state}_at" for state in RANKS)
_CLEARED: Final = ("cleared_snapshot_at", "cleared_card_issuer_reference")


def row_of_snapshot(fields: Row, *, snapshot_at: datetime, delivery_id: int, now: datetime) -> Row:
    """Return the row of ``ems.transactions`` that this snapshot alone would make; *fields*: its payload columns."""
    state = fields["state"]
    row: Row = {
        **fields,
        "cleared_snapshot_at": None,
        "cleared_card_issuer_reference": None,
        **dict.fromkeys(STATE_TIMES),
        "snapshot_at": snapshot_at,
        "delivery_id": delivery_id,
        "updated_at": now,
    }
    row[f"{state}_at"] = snapshot_at
    if state == "cleared":
        row["cleared_snapshot_at"] = snapshot_at
        row["cleared_card_issuer_reference"] = fields["card_issuer_reference"]
    return row


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


def upsert_transactions(connection: Connection, rows: Sequence[Row]) -> None:
    """Merge *rows* (one for each transaction, sorted by key) into what is stored."""
    insert_rows(connection, Transaction, rows, on_conflict=_MERGE)


def replace_transactions(connection: Connection, rows: Sequence[Row]) -> None:
    """Write *rows* (one for each transaction, locked by the caller) whatever is stored."""
    insert_rows(connection, Transaction, rows, on_conflict=_REPLACE)


def insert_states(connection: Connection, rows: Sequence[Row]) -> None:
    """Keep snapshots in the history; one that is there already (a replay) stays as it is.

    *rows*: the columns of ``ems.transaction_states`` but ``id``. A ``payload`` of ``None`` stands for the body of the
    delivery, which PostgreSQL has already.
    """
    if rows:
        connection.execute(_INSERT_STATES, {"rows": rows_parameter(rows)})


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
    for name in (column.name for column in table_of(Transaction).columns if not column.primary_key):
        if name in STATE_TIMES:
            value = f"LEAST(stored.{name}, excluded.{name})"
        elif name in _CLEARED:
            value = f"CASE WHEN {cleared_wins} THEN excluded.{name} ELSE stored.{name} END"
        elif name == "updated_at":
            value = "excluded.updated_at"
        else:
            value = f"CASE WHEN {wins} THEN excluded.{name} ELSE stored.{name} END"
        settings.append(f"{name} = {value}")
    return (
        f"ON CONFLICT (organization_reference_id, id) DO UPDATE SET {', '.join(settings)} "
        f"WHERE {wins} OR {cleared_wins} OR {earlier}"
    )


_MERGE: Final = _merge_clause()
_REPLACE: Final = "ON CONFLICT (organization_reference_id, id) DO UPDATE SET " + ", ".join(
    f"{column.name} = excluded.{column.name}" for column in table_of(Transaction).columns if not column.primary_key
)
_STATE_COLUMNS: Final = ", ".join(
    column.name for column in table_of(TransactionState).columns if column.name not in {"id", "payload"}
)
_INSERT_STATES: Final = text(
    f"""
INSERT INTO ems.transaction_states ({_STATE_COLUMNS}, payload)
SELECT {", ".join(f"told.{name}" for name in _STATE_COLUMNS.split(", "))},
    CASE WHEN told.payload IS NULL THEN convert_from(delivery.body, 'UTF8')::jsonb ELSE told.payload END
FROM json_populate_recordset(NULL::ems.transaction_states, CAST(:rows AS json)) AS told
JOIN receiver.deliveries AS delivery ON delivery.id = told.delivery_id
ON CONFLICT (delivery_id) DO NOTHING
"""  # noqa: S608 - names come from the model
)

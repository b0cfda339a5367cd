"""Appending to the event log as processing does, without what leads there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from psycopg.errors import InvalidSqlStatementName

from receiver.json_rows import rows_parameter
from receiver.records.locked import write_under_lock
from receiver.records.write import _prepare

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

NOON = datetime(2026, 2, 13, 12, tzinfo=UTC)


def row(delivery_id: int) -> dict[str, Any]:
    return {
        "type": "card_holder.created",
        "organization_reference_id": "acme",
        "subject_id": "employee-17",
        "occurred_at": NOON,
        "source": "push",
        "delivery_id": delivery_id,
        "fingerprint": "\\x00",
        "document": {},
    }


def append(connection: psycopg.Connection[Any], delivery_ids: Sequence[int], *, commit: bool = True) -> None:
    """Append an event for each delivery over a ``writing_connection``; without *commit* the transaction fails."""
    given = {
        "events": rows_parameter([row(delivery_id) for delivery_id in delivery_ids]),
        "transactions": "[]",
        "outcomes": "[]",
    }
    statements = ["EXECUTE receiver_append"]
    if not commit:
        statements.append("SELECT receiver.expect(false, 'rolled back')")
    try:
        write_under_lock(connection, given, statements)
    except InvalidSqlStatementName:  # psycopg deallocates all after a rollback
        _prepare(connection)
        write_under_lock(connection, given, statements)

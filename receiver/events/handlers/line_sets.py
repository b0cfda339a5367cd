"""Sets of lines that belong to a transaction: a newer event replaces the whole set, an older one changes nothing.

Which event a set comes from is kept apart from the lines, because a set may be empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.events.handlers.rows import newest_by_key
from receiver.records.upsert import Row, insert_rows, rows_parameter, table_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection

    from receiver.db import Base
    from receiver.events.event import Event

_KEY: Final = ("organization_reference_id", "transaction_id", "event")
_CLAIM_SETS: Final = text(
    """
INSERT INTO receiver.enrichment_versions AS stored
SELECT * FROM jsonb_populate_recordset(NULL::receiver.enrichment_versions, CAST(:rows AS jsonb))
ON CONFLICT (organization_reference_id, transaction_id, event) DO UPDATE
SET occurred_at = excluded.occurred_at, delivery_id = excluded.delivery_id
WHERE (excluded.occurred_at, excluded.delivery_id) >= (stored.occurred_at, stored.delivery_id)
RETURNING delivery_id
"""
)


def replace_sets(
    connection: Connection,
    events: Sequence[Event],
    lines: Mapping[type[Base], Callable[[Event], list[Row]]],
) -> None:
    """Replace the lines of each transaction that one of *events* has a newer set for.

    *lines*: for each table, what makes an event's rows (without ``line_number``, which is given out here).
    """
    versions = newest_by_key((_version(event) for event in events), key=_KEY, order=("occurred_at", "delivery_id"))
    newer = set(connection.scalars(_CLAIM_SETS, {"rows": rows_parameter(versions)}))
    winners = sorted(
        (event for event in events if event.delivery_id in newer),
        key=lambda event: (event.organization_reference_id, event.transaction_id or ""),
    )
    keys = rows_parameter([_version(event) for event in winners])
    for model, rows_of in lines.items():
        connection.execute(
            text(
                f"DELETE FROM {table_of(model).fullname} AS line "  # noqa: S608 - the name comes from the model
                "USING jsonb_to_recordset(CAST(:keys AS jsonb)) "
                "AS winner (organization_reference_id text, transaction_id text) "
                "WHERE line.organization_reference_id = winner.organization_reference_id "
                "AND line.transaction_id = winner.transaction_id"
            ),
            {"keys": keys},
        )
        rows = [
            {**row, "line_number": number, "occurred_at": event.occurred_at}
            for event in winners
            for number, row in enumerate(rows_of(event), start=1)
        ]
        insert_rows(connection, model, rows, on_conflict="")


def _version(event: Event) -> Row:
    return {
        "organization_reference_id": event.organization_reference_id,
        "transaction_id": event.transaction_id,
        "event": event.name,
        "occurred_at": event.occurred_at,
        "delivery_id": event.delivery_id,
    }

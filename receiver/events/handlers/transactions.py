"""``card.transaction.*``: snapshots of a purchase."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, cast

import msgspec
from sqlalchemy import text

from receiver.events.content import read
from receiver.events.payloads import (
    AuthorizedPayload,
    ClearedPayload,
    DeletedPayload,
    InvoicedPayload,
    TransactionPayload,
)
from receiver.events.registry import handles
from receiver.events.understand import read_fields
from receiver.records.transactions import record_snapshots, replace_transactions, row_of_snapshot
from receiver.records.upsert import rows_parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from receiver.events.event import Event
    from receiver.events.retries import DatedBack
    from receiver.records.upsert import Row

_DATE_BACK_STATES: Final = text(
    """
WITH dated_back AS (
    UPDATE ems.transaction_states AS state SET occurred_at = earlier.occurred_at
    FROM jsonb_to_recordset(CAST(:earlier AS jsonb)) AS earlier (delivery_id bigint, occurred_at timestamptz)
    WHERE state.delivery_id = earlier.delivery_id AND state.occurred_at > earlier.occurred_at
    RETURNING state.organization_reference_id, state.transaction_id
)
SELECT DISTINCT organization_reference_id, transaction_id FROM dated_back
"""
)
_OF_KEYS: Final = """
JOIN jsonb_to_recordset(CAST(:keys AS jsonb)) AS key (organization_reference_id text, transaction_id text)
    USING (organization_reference_id)
"""
_LOCK_TRANSACTIONS: Final = text(
    f"SELECT FROM ems.transactions {_OF_KEYS} WHERE id = key.transaction_id "
    "ORDER BY organization_reference_id, id FOR UPDATE OF transactions"
)
_HISTORY: Final = text(
    "SELECT organization_reference_id, state.transaction_id AS id, payload #>> '{card_holder,reference_id}' "  # noqa: S608
    "AS card_holder_reference_id, state, card_issuer_reference, payload::text AS document, occurred_at, delivery_id "
    f"FROM ems.transaction_states AS state {_OF_KEYS} WHERE state.transaction_id = key.transaction_id"
)


PAYLOADS: Final[dict[str, type[TransactionPayload]]] = {
    "card.transaction.authorized": AuthorizedPayload,
    "card.transaction.cleared": ClearedPayload,
    "card.transaction.deleted": DeletedPayload,
    "card.transaction.invoiced": InvoicedPayload,
}


@handles(PAYLOADS)
def apply_snapshots(connection: Connection, events: Sequence[Event]) -> None:
    """Merge the snapshots into the current rows, and keep each in the history."""
    now = datetime.now(UTC)
    record_snapshots(connection, [_row(event, now) for event in events])


def date_snapshots_back(connection: Connection, dated_back: Sequence[DatedBack]) -> None:
    """Let snapshots count from an earlier moment, and make the rows of their transactions anew from the history."""
    if not dated_back:
        return
    earlier = rows_parameter(
        [{"delivery_id": known.delivery_id, "occurred_at": known.occurred_at} for known in dated_back]
    )
    found = connection.execute(_DATE_BACK_STATES, {"earlier": earlier})
    keys = rows_parameter([dict(key) for key in found.mappings()])
    connection.execute(_LOCK_TRANSACTIONS, {"keys": keys})
    now = datetime.now(UTC)
    history = connection.execute(_HISTORY, {"keys": keys}).mappings().all()
    replace_transactions(connection, [_row_of_state(dict(state), now) for state in history])


def _row(event: Event, now: datetime) -> Row:
    payload = cast("TransactionPayload", event.payload)
    return row_of_snapshot(
        {
            "organization_reference_id": event.organization_reference_id,
            "id": payload.id,
            "card_holder_reference_id": payload.card_holder.reference_id,
            "document": None if event.document is None else msgspec.Raw(event.document),
            **_reading(event.fields, event.unreadable),
        },
        state=payload.state,
        card_issuer_reference=payload.card_issuer_reference,
        snapshot_at=event.occurred_at,
        delivery_id=event.delivery_id,
        now=now,
    )


def _reading(fields: bytes | None, unreadable: Sequence[str]) -> Row:
    return {"fields": None if fields is None else msgspec.Raw(fields), "unreadable": list(unreadable) or None}


def _row_of_state(state: Row, now: datetime) -> Row:
    _, content, by_value = read(state["document"].encode())
    read_as = read_fields(content, by_value, PAYLOADS[f"card.transaction.{state['state']}"])
    return row_of_snapshot(
        {
            "organization_reference_id": state["organization_reference_id"],
            "id": state["id"],
            "card_holder_reference_id": state["card_holder_reference_id"],
            "document": msgspec.Raw(state["document"].encode()),
            **_reading(read_as.fields, read_as.unreadable),
        },
        state=state["state"],
        card_issuer_reference=state["card_issuer_reference"],
        snapshot_at=state["occurred_at"],
        delivery_id=state["delivery_id"],
        now=now,
    )

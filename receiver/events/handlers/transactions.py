"""``card.transaction.*``: snapshots of a purchase."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from operator import attrgetter
from typing import TYPE_CHECKING, Final, cast

import msgspec
from sqlalchemy import text

from receiver.events.payloads import (
    AuthorizedPayload,
    ClearedPayload,
    DeletedPayload,
    InvoicedPayload,
    TransactionPayload,
)
from receiver.events.registry import handles
from receiver.events.understand import decode
from receiver.records.transactions import (
    insert_states,
    merge_all,
    replace_transactions,
    row_of_snapshot,
    upsert_transactions,
)
from receiver.records.upsert import rows_parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from receiver.events.event import Event
    from receiver.events.retries import DatedBack
    from receiver.records.upsert import Row

_FIELDS: Final = tuple(
    name for name in TransactionPayload.__struct_fields__ if name not in {"id", "card_holder", "organization"}
)
_HISTORY_FIELDS: Final = (
    "state",
    "card_issuer_reference",
    "original_amount",
    "original_currency",
    "accounting_amount",
    "accounting_currency",
    "vat_amount",
    "vat_currency",
)

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
    "SELECT organization_reference_id, payload::text AS payload, occurred_at, delivery_id "  # noqa: S608 - a constant
    f"FROM ems.transaction_states AS state {_OF_KEYS} WHERE state.transaction_id = key.transaction_id"
)
_values: Final = attrgetter(*_FIELDS)
_history_values: Final = attrgetter(*_HISTORY_FIELDS)


@handles(
    {
        "card.transaction.authorized": AuthorizedPayload,
        "card.transaction.cleared": ClearedPayload,
        "card.transaction.deleted": DeletedPayload,
        "card.transaction.invoiced": InvoicedPayload,
    }
)
def apply_snapshots(connection: Connection, events: Sequence[Event]) -> None:
    """Merge the snapshots into the current rows, and keep each in the history."""
    now = datetime.now(UTC)
    upsert_transactions(connection, merge_all(_current(event, now) for event in events))
    insert_states(connection, [_history(event) for event in events])


def date_back(connection: Connection, dated_back: Sequence[DatedBack]) -> None:
    """Let snapshots count from an earlier moment, and make the rows of their transactions anew from the history."""
    if not dated_back:
        return
    earlier = {"earlier": rows_parameter([asdict(snapshot) for snapshot in dated_back])}
    keys = rows_parameter([dict(key) for key in connection.execute(_DATE_BACK_STATES, earlier).mappings()])
    connection.execute(_LOCK_TRANSACTIONS, {"keys": keys})
    now = datetime.now(UTC)
    rows = [
        _row(
            msgspec.convert(decode(state["payload"].encode()), TransactionPayload, builtin_types=(Decimal,)),
            state["organization_reference_id"],
            state["occurred_at"],
            state["delivery_id"],
            now,
        )
        for state in connection.execute(_HISTORY, {"keys": keys}).mappings()
    ]
    replace_transactions(connection, merge_all(rows))


def _current(event: Event, now: datetime) -> Row:
    payload = cast("TransactionPayload", event.payload)
    return _row(payload, event.organization_reference_id, event.occurred_at, event.delivery_id, now)


def _row(payload: TransactionPayload, organization: str, occurred_at: datetime, delivery_id: int, now: datetime) -> Row:
    fields: Row = {
        "organization_reference_id": organization,
        "id": payload.id,
        "card_holder_reference_id": payload.card_holder.reference_id,
    }
    fields.update(zip(_FIELDS, _values(payload), strict=True))
    return row_of_snapshot(fields, snapshot_at=occurred_at, delivery_id=delivery_id, now=now)


def _history(event: Event) -> Row:
    payload = cast("TransactionPayload", event.payload)
    row: Row = {
        "organization_reference_id": event.organization_reference_id,
        "transaction_id": payload.id,
        "payload": None if event.document is None else msgspec.Raw(event.document),
        "occurred_at": event.occurred_at,
        "delivery_id": event.delivery_id,
    }
    row.update(zip(_HISTORY_FIELDS, _history_values(payload), strict=True))
    return row

"""``tpa.signed``: an organization's processing authorization is fully signed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, cast

from receiver.events.handlers.rows import newest_by_key
from receiver.events.payloads import TpaPayload
from receiver.events.registry import handles
from receiver.records.models import Tpa
from receiver.records.upsert import Row, insert_rows, newest_wins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from receiver.events.event import Event

_ORDER: Final = ("occurred_at", "delivery_id")


@handles({"tpa.signed": TpaPayload})
def apply_tpas(connection: Connection, events: Sequence[Event]) -> None:
    """Write each TPA as its newest event tells it; ``signed_at`` is when it was first told."""
    first_told: dict[tuple[str, str], datetime] = {}
    for event in events:
        payload = cast("TpaPayload", event.payload)
        key = (event.organization_reference_id, payload.id)
        first_told[key] = min(first_told.get(key, event.occurred_at), event.occurred_at)
    rows = newest_by_key((_row(event) for event in events), key=("organization_reference_id", "id"), order=_ORDER)
    for row in rows:
        row["signed_at"] = first_told[row["organization_reference_id"], row["id"]]
    insert_rows(connection, Tpa, rows, on_conflict=newest_wins(Tpa, order=_ORDER, keep_first=("signed_at",)))


def _row(event: Event) -> Row:
    payload = cast("TpaPayload", event.payload)
    return {
        "organization_reference_id": event.organization_reference_id,
        "id": payload.id,
        "name": payload.name,
        "organization_number": payload.organization_number,
        "url": payload.url,
        "occurred_at": event.occurred_at,
        "delivery_id": event.delivery_id,
        "updated_at": datetime.now(UTC),
    }

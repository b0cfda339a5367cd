"""``card_holder.*``: what happens to a card holder."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from receiver.events.card_holder_history import TIME_COLUMNS, card_holder_times
from receiver.events.payloads import CardHolderPayload
from receiver.events.registry import handles
from receiver.events.retries import histories
from receiver.records.models import CardHolder
from receiver.records.upsert import assignments, changes, insert_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from receiver.events.event import Event

# the history is the truth and the row is locked, so it replaces what was there
_VALUES: Final = {column: f"excluded.{column}" for column in (*TIME_COLUMNS.values(), "updated_at")}
_REPLACE: Final = (
    f"ON CONFLICT (organization_reference_id, reference_id) DO UPDATE SET {assignments(_VALUES)} "
    f"WHERE {changes(_VALUES)}"
)


@handles(dict.fromkeys(TIME_COLUMNS, CardHolderPayload))
def apply_card_holders(connection: Connection, events: Sequence[Event]) -> None:
    """Write each card holder as the whole history tells it; the events are settled in the history already.

    Among them are retries: one that comes before its original is processed later, and tells when it was.
    """
    now = datetime.now(UTC)
    rows = [
        {
            "organization_reference_id": organization,
            "reference_id": reference,
            **card_holder_times(mentions),
            "updated_at": now,
        }
        for (organization, reference), mentions in histories(connection, events).items()
    ]
    insert_rows(connection, CardHolder, rows, on_conflict=_REPLACE)

"""The row of a card holder: the last time of each of its events. Pure.

Card-holder payloads contain only references and no time, so the times are those of the events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from receiver.records.models import CardHolder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from receiver.db import Base
    from receiver.events.event import Event
    from receiver.json_rows import Row

TIME_COLUMNS: Final = {
    "card_holder.created": "created_at",
    "card_holder.identified": "identified_at",
    "card_holder.signed.pdpc": "signed_pdpc_at",
    "card_holder.email.delivered": "email_delivered_at",
    "card_holder.email.failed": "email_failed_at",
    "card_holder.deleted": "deleted_at",
}
"""Event → the column of ``ems.card_holders`` that it sets."""


def fold_card_holder(events: Sequence[Event]) -> dict[type[Base], list[Row]]:
    """Return the row of a card holder; a later ``card_holder.created`` clears ``deleted_at``."""
    row: Row = {
        "organization_reference_id": events[0].organization_reference_id,
        "reference_id": events[0].subject_id,
        **dict.fromkeys(TIME_COLUMNS.values()),
    }
    for event in events:
        row[TIME_COLUMNS[event.name]] = event.occurred_at
        if event.name == "card_holder.created":
            row["deleted_at"] = None
    return {CardHolder: [row]}

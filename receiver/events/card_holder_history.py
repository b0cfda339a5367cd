"""What happened to a card holder, told from all deliveries about them: pure.

Card-holder payloads carry no time and no content beyond the two references, so every ``created`` of a card holder
looks like every other. What tells a retry from a new event is what stands next to it in time: an event equal to the
one before it is a retry, so ``created, deleted, created`` is three events. When one is found late that was lost between
two equal ones, what was taken for a retry becomes an event.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from receiver.records.upsert import Row

TIME_COLUMNS: Final = {
    "card_holder.created": "created_at",
    "card_holder.identified": "identified_at",
    "card_holder.signed.pdpc": "signed_pdpc_at",
    "card_holder.email.delivered": "email_delivered_at",
    "card_holder.email.failed": "email_failed_at",
    "card_holder.deleted": "deleted_at",
}
"""Event → the column of ``ems.card_holders`` that it sets."""


@dataclass(frozen=True, slots=True)
class Mention:
    """One delivery about a card holder."""

    delivery_id: int
    name: str
    occurred_at: datetime
    counted: bool
    """Whether it was taken for an event already (and stands in the feed)."""


def runs(mentions: Iterable[Mention]) -> list[list[Mention]]:
    """Return the mentions in the order in which they occurred, equal neighbours together: each run is one event."""
    in_order = sorted(mentions, key=lambda mention: (mention.occurred_at, mention.delivery_id))
    return [list(run) for _, run in groupby(in_order, key=lambda mention: mention.name)]


def newly_events(mentions: Iterable[Mention]) -> set[int]:
    """Return the deliveries that are to be taken for events now: the first of each run of which none was yet."""
    return {run[0].delivery_id for run in runs(mentions) if not any(mention.counted for mention in run)}


def card_holder_times(mentions: Sequence[Mention]) -> Row:
    """Return the times of ``ems.card_holders`` that the history amounts to.

    Each is that of the newest event of its kind, at its first mention; creating anew takes a deletion back.
    """
    times: Row = dict.fromkeys(TIME_COLUMNS.values())
    for run in runs(mentions):
        times[TIME_COLUMNS[run[0].name]] = run[0].occurred_at
        if run[0].name == "card_holder.created":
            times["deleted_at"] = None
    return times


def card_holder_body(organization: str, reference: str) -> bytes:
    """Return what a card-holder event says, where its body is gone: the contract has no more than two references."""
    return msgspec.json.encode(
        {"card_holder": {"reference_id": reference}, "organization": {"reference_id": organization}}
    )

"""The row of a transaction, from its snapshots. Pure.

``authorized < deleted < cleared < invoiced``: clearing decides the accounting, so it revives a deleted transaction.
The row has the state of the highest snapshot. Of several snapshots of a state only the newest counts. A field that is
null in a state is taken from the next lower state that has it: an ``invoiced`` may contain only its invoice. Each state
keeps the time of its first snapshot (``authorized_at``, …), and the row the reference of the cleared one. ``booked_on``
is the day on which accounting books it: that of the purchase, or else of the clearing, or else of the invoice.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Final, cast

import msgspec

from receiver.events.content import encode
from receiver.records.models import Transaction

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from receiver.db import Base
    from receiver.events.event import Event
    from receiver.events.payloads import TransactionPayload
    from receiver.json_rows import Row

RANKS: Final = ("authorized", "deleted", "cleared", "invoiced")
"""States, from lowest to highest."""
FINAL: Final = frozenset({"cleared", "invoiced"})
"""States whose amounts are final: what accounting books."""
STATE_TIMES: Final = tuple(f"{state}_at" for state in RANKS)
_STATE_OF: Final = {f"card.transaction.{state}": state for state in RANKS}


def fold_transaction(snapshots: Sequence[Event]) -> dict[type[Base], list[Row]]:
    """Return the row of a transaction from its *snapshots* (see ``fold``).

    Its ``fields`` are the JSON from which PostgreSQL reads the columns that have the names of payload fields. ``None``:
    it reads them from the payload of the snapshot.
    """
    newest: dict[str, Event] = {}
    first: dict[str, Event] = {}
    for snapshot in snapshots:
        state = _STATE_OF[snapshot.name]
        newest[state] = snapshot
        first.setdefault(state, snapshot)
    by_rank = [newest[state] for state in RANKS if state in newest]
    current = by_rank[-1]
    cleared = newest.get("cleared")
    row: Row = {
        "organization_reference_id": current.organization_reference_id,
        "id": current.subject_id,
        "card_holder_reference_id": current.card_holder_reference_id,
        "state": _STATE_OF[current.name],
        "snapshot_at": current.occurred_at,
        "delivery_id": current.delivery_id,
    }
    for state, snapshot in first.items():
        row[f"{state}_at"] = snapshot.occurred_at
    if cleared is not None:
        row["cleared_snapshot_at"] = cleared.occurred_at
        row["cleared_card_issuer_reference"] = cleared.content.get("card_issuer_reference")
    if len(by_rank) > 1:
        fields = dict(by_rank[0].content)
        for snapshot in by_rank[1:]:
            fields.update((name, value) for name, value in snapshot.content.items() if value is not None)
        unreadable = sorted({name for each in by_rank for name in each.unreadable if fields.get(name) is None})
        row["fields"] = msgspec.Raw(encode(fields))
    else:
        unreadable = list(current.unreadable)
        row["fields"] = None if current.as_sent else msgspec.Raw(encode(current.content))
    row["unreadable"] = unreadable or None
    row["booked_on"] = _booked_on(row, by_rank)
    return {Transaction: [row]}


def _booked_on(row: Row, by_rank: Sequence[Event]) -> date | None:
    """Return the day of the purchase, else that of the clearing, else that of the invoice; none until it is final."""
    if row["state"] not in FINAL:
        return None
    for snapshot in reversed(by_rank):
        day = cast("TransactionPayload", snapshot.payload).purchase_date
        if day is not None:
            return day
    first = row.get("cleared_at") or row["invoiced_at"]
    return first.astimezone(UTC).date()  # type: ignore[no-any-return]

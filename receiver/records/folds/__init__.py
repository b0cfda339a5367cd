"""The folds: one pure function for each kind of event, from the events of a subject to its current rows.

Each takes the events of one subject, in order of time and without retries (``distinct_events``), and returns its rows
by table. Processing, replays, late recovery, erasure, ``verify`` and ``rebuild`` use the same functions; no rule exists
twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from receiver.events.deduplicate import distinct_events
from receiver.records.folds.card_holders import fold_card_holder
from receiver.records.folds.enrichments import fold_environmental_impacts, fold_line_items, fold_receipts, fold_vat
from receiver.records.folds.organizations import fold_invoice, fold_tpa
from receiver.records.folds.transactions import fold_transaction
from receiver.records.models import (
    CardHolder,
    EnvironmentalImpact,
    Invoice,
    LineItem,
    Receipt,
    Tpa,
    Transaction,
    VatRate,
    VatTotal,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from receiver.db import Base
    from receiver.events.event import Event
    from receiver.events.kinds import EventKind
    from receiver.json_rows import Row

    Rows: TypeAlias = dict[type[Base], list[Row]]
    """Rows by table, those of a table in order of its key."""

_FOLDS: Final[dict[str, tuple[tuple[type[Base], ...], Callable[[Sequence[Event]], Rows]]]] = {
    "transaction": ((Transaction,), fold_transaction),
    "card_holder": ((CardHolder,), fold_card_holder),
    "tpa": ((Tpa,), fold_tpa),
    "receipt": ((Receipt,), fold_receipts),
    "vat": ((VatRate, VatTotal), fold_vat),
    "line_items": ((LineItem,), fold_line_items),
    "environmental_impact": ((EnvironmentalImpact,), fold_environmental_impacts),
    "invoice": ((Invoice,), fold_invoice),
}


def tables_of(kind: EventKind) -> tuple[type[Base], ...]:
    """Return the tables that hold the rows of a kind."""
    return _FOLDS[kind.name][0]


def fold(kind: EventKind, events: Sequence[Event]) -> Rows:
    """Return the rows of one subject from its *events*, in any order and with retries; none without events."""
    if not events:
        return {}
    # Also for events that were just decided: the event log may have two entries of one event, if a delivery that
    # arrived later shows that they are one. The entries stay, and the fold counts them once.
    return _FOLDS[kind.name][1](distinct_events(kind, events))

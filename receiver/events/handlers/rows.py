"""What handlers of single rows share: the columns every row has, and the newest event of each key."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from receiver.events.event import Event
    from receiver.events.payloads import EnrichmentPayload
    from receiver.records.upsert import Row


def enrichment_columns(event: Event, payload: EnrichmentPayload) -> Row:
    """Return the columns that every row of an enrichment bears."""
    return {
        "organization_reference_id": event.organization_reference_id,
        "transaction_id": payload.transaction.id,
        "card_holder_reference_id": payload.card_holder.reference_id,
        "card_issuer": payload.transaction.card_issuer,
        "delivery_id": event.delivery_id,
    }


def newest_by_key(rows: Iterable[Row], *, key: tuple[str, ...], order: tuple[str, ...]) -> list[Row]:
    """Return the newest row of each *key*, sorted by key: a statement may hold each key once."""
    newest: dict[tuple[str, ...], Row] = {}
    for row in rows:
        its_key = tuple(row[name] for name in key)
        standing = newest.get(its_key)
        if standing is None or _by(row, order) >= _by(standing, order):
            newest[its_key] = row
    return [newest[its_key] for its_key in sorted(newest)]


def _by(row: Row, order: tuple[str, ...]) -> tuple[object, ...]:
    return tuple(row[name] for name in order)

"""What is known of a purchase besides its own snapshots: receipts, VAT, items, CO2. Pure.

A newer event replaces an older one: a receipt with the same URL, the CO2 figure of the same provider, all VAT rows, all
line items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import structlog
from msgspec.structs import asdict

from receiver.events.payloads import EARLIEST, LATEST, EnrichmentPayload, LineItemsPayload, ReceiptPayload, VatPayload
from receiver.records.models import EnvironmentalImpact, LineItem, Receipt, VatRate, VatTotal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import msgspec

    from receiver.db import Base
    from receiver.events.event import Event
    from receiver.json_rows import Row

log = structlog.stdlib.get_logger(__name__)

PROVIDERS: Final = {
    "environmental.impact.aland_index": "aland_index",
    "environmental.impact.deedster": "deedster",
    "card.transaction.environmental_impact": "unspecified",
}
"""Event → the provider of the figure."""


def fold_receipts(events: Sequence[Event]) -> dict[type[Base], list[Row]]:
    """Return the receipts of a purchase, one for each URL."""
    newest = {cast("ReceiptPayload", event.payload).url: event for event in events}
    return {Receipt: [_receipt(newest[url]) for url in sorted(newest)]}


def fold_vat(events: Sequence[Event]) -> dict[type[Base], list[Row]]:
    """Return the VAT of a purchase from its newest event."""
    payload = cast("VatPayload", events[-1].payload)
    country = {"purchase_country": payload.purchase_country}
    return {
        VatRate: _lines(events[-1], payload.vat_rates, country),
        VatTotal: _lines(events[-1], payload.totals, country),
    }


def fold_line_items(events: Sequence[Event]) -> dict[type[Base], list[Row]]:
    """Return the line items of a purchase from its newest event."""
    return {LineItem: _lines(events[-1], cast("LineItemsPayload", events[-1].payload).line_items, {})}


def fold_environmental_impacts(events: Sequence[Event]) -> dict[type[Base], list[Row]]:
    """Return each provider's newest figure for a purchase."""
    newest = {PROVIDERS[event.name]: event for event in events}
    return {
        EnvironmentalImpact: [
            {**_of_event(newest[provider]), **_own_fields(newest[provider]), "provider": provider}
            for provider in sorted(newest)
        ]
    }


def _receipt(event: Event) -> Row:
    expires_at = cast("ReceiptPayload", event.payload).expires_at()
    if event.position is None and expires_at in {EARLIEST, LATEST}:
        log.warning("receipt.expiration_clamped", delivery_id=event.delivery_id, expires_at=expires_at.isoformat())
    row = {**_of_event(event), **_own_fields(event), "expiration_time": expires_at}
    row["fetched_at"] = row.pop("occurred_at")
    return row


def _of_event(event: Event) -> Row:
    """Return the columns that every row of an enrichment has."""
    payload = cast("EnrichmentPayload", event.payload)
    return {
        "organization_reference_id": event.organization_reference_id,
        "transaction_id": event.subject_id,
        "card_holder_reference_id": event.card_holder_reference_id,
        "card_issuer": payload.transaction.card_issuer,
        "occurred_at": event.occurred_at,
        "delivery_id": event.delivery_id,
    }


def _own_fields(event: Event) -> Row:
    """Return the fields of a payload that not every enrichment has; the columns have their names."""
    shared = EnrichmentPayload.__struct_fields__
    return {name: value for name, value in asdict(event.payload).items() if name not in shared}


def _lines(event: Event, lines: Iterable[msgspec.Struct] | None, columns: Row) -> list[Row]:
    """Return a row for each of *lines*, with *columns* besides the line's own; the columns have the fields' names."""
    return [
        {**_of_event(event), **columns, **asdict(line), "line_number": number}
        for number, line in enumerate(lines or (), start=1)
    ]

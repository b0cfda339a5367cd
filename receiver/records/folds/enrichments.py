"""What is known of a purchase besides its own snapshots: receipts, VAT, items, CO2. Pure.

A newer event replaces an older one: a receipt with the same URL, the CO2 figure of the same provider, all VAT rows, all
line items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import structlog

from receiver.events.payloads import (
    EARLIEST,
    LATEST,
    EnrichmentPayload,
    EnvironmentalImpactPayload,
    LineItemsPayload,
    ReceiptPayload,
    VatPayload,
)
from receiver.records.models import EnvironmentalImpact, LineItem, Receipt, VatRate, VatTotal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from receiver.db import Base
    from receiver.events.event import Event
    from receiver.events.payloads import VatTotalLine
    from receiver.json_rows import Row

log = structlog.stdlib.get_logger(__name__)

PROVIDERS: Final = {
    "environmental.impact.aland_index": "aland_index",
    "environmental.impact.deedster": "deedster",
    "card.transaction.environmental_impact": "unspecified",
}
"""Event → the provider of the figure."""
_RECEIPT_FIELDS: Final = (
    "url",
    "content_type",
    "purchase_merchant",
    "original_amount",
    "original_currency",
    "purchase_date",
    "purchase_time",
)


def fold_receipts(events: Sequence[Event]) -> dict[type[Base], list[Row]]:
    """Return the receipts of a purchase, one for each URL."""
    newest = {cast("ReceiptPayload", event.payload).url: event for event in events}
    return {Receipt: [_receipt(newest[url]) for url in sorted(newest)]}


def fold_vat(events: Sequence[Event]) -> dict[type[Base], list[Row]]:
    """Return the VAT of a purchase from its newest event."""
    event = events[-1]
    payload = cast("VatPayload", event.payload)
    rates = [{**_vat_line(event, rate), "percentage": rate.percentage} for rate in payload.vat_rates or ()]
    totals = [_vat_line(event, total) for total in payload.totals or ()]
    return {VatRate: _numbered(rates), VatTotal: _numbered(totals)}


def fold_line_items(events: Sequence[Event]) -> dict[type[Base], list[Row]]:
    """Return the line items of a purchase from its newest event."""
    event = events[-1]
    payload = cast("LineItemsPayload", event.payload)
    items = [
        {
            **_of_event(event),
            "description": item.description,
            "amount": item.amount,
            "total_amount": item.total_amount,
            "quantity": item.quantity,
            "currency": item.currency,
        }
        for item in payload.line_items or ()
    ]
    return {LineItem: _numbered(items)}


def fold_environmental_impacts(events: Sequence[Event]) -> dict[type[Base], list[Row]]:
    """Return each provider's newest figure for a purchase."""
    newest = {PROVIDERS[event.name]: event for event in events}
    return {EnvironmentalImpact: [_impact(newest[provider], provider) for provider in sorted(newest)]}


def _receipt(event: Event) -> Row:
    payload = cast("ReceiptPayload", event.payload)
    expires_at = payload.expires_at()
    if event.position is None and expires_at in {EARLIEST, LATEST}:
        log.warning("receipt.expiration_clamped", delivery_id=event.delivery_id, expires_at=expires_at.isoformat())
    row = _of_event(event)
    row["fetched_at"] = row.pop("occurred_at")
    row["expiration_time"] = expires_at
    for name in _RECEIPT_FIELDS:
        row[name] = getattr(payload, name)
    return row


def _impact(event: Event, provider: str) -> Row:
    payload = cast("EnvironmentalImpactPayload", event.payload)
    return {
        **_of_event(event),
        "provider": provider,
        "carbon_emission_in_grams": payload.carbon_emission_in_grams,
        "carbon_social_cost_amount": payload.carbon_social_cost_amount,
        "carbon_social_cost_currency": payload.carbon_social_cost_currency,
    }


def _vat_line(event: Event, line: VatTotalLine) -> Row:
    return {
        **_of_event(event),
        "purchase_country": cast("VatPayload", event.payload).purchase_country,
        "vat_amount": line.vat_amount,
        "taxable_amount": line.taxable_amount,
        "total_amount": line.total_amount,
        "currency": line.currency,
    }


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


def _numbered(lines: Iterable[Row]) -> list[Row]:
    return [{**line, "line_number": number} for number, line in enumerate(lines, start=1)]

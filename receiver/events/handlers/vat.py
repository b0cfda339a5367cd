"""``transaction.true.vat``: VAT from the merchant's receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from receiver.events.handlers.line_sets import replace_sets
from receiver.events.handlers.rows import enrichment_columns
from receiver.events.payloads import VatPayload
from receiver.events.registry import handles
from receiver.records.models import VatRate, VatTotal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from receiver.events.event import Event
    from receiver.events.payloads import VatTotalLine
    from receiver.records.upsert import Row


@handles({"transaction.true.vat": VatPayload})
def apply_vat(connection: Connection, events: Sequence[Event]) -> None:
    """Replace the VAT of each transaction by its newest event's."""
    replace_sets(connection, events, {VatRate: _rates, VatTotal: _totals})


def _rates(event: Event) -> list[Row]:
    payload = cast("VatPayload", event.payload)
    return [{**_columns(event, payload, rate), "percentage": rate.percentage} for rate in payload.vat_rates or ()]


def _totals(event: Event) -> list[Row]:
    payload = cast("VatPayload", event.payload)
    return [_columns(event, payload, total) for total in payload.totals or ()]


def _columns(event: Event, payload: VatPayload, line: VatTotalLine) -> Row:
    return {
        **enrichment_columns(event, payload),
        "purchase_country": payload.purchase_country,
        "vat_amount": line.vat_amount,
        "taxable_amount": line.taxable_amount,
        "total_amount": line.total_amount,
        "currency": line.currency,
    }

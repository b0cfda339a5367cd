"""``environmental.impact.*``: the CO2 of a purchase, by provider of the figure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, cast

from receiver.events.handlers.rows import enrichment_columns, newest_by_key
from receiver.events.payloads import EnvironmentalImpactPayload
from receiver.events.registry import handles
from receiver.records.models import EnvironmentalImpact
from receiver.records.upsert import Row, insert_rows, newest_wins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from receiver.events.event import Event

PROVIDERS: Final = {
    "environmental.impact.aland_index": "aland_index",
    "environmental.impact.deedster": "deedster",
    "card.transaction.environmental_impact": "unspecified",
}
_ORDER: Final = ("occurred_at", "delivery_id")


@handles(dict.fromkeys(PROVIDERS, EnvironmentalImpactPayload))
def apply_environmental_impacts(connection: Connection, events: Sequence[Event]) -> None:
    """Write each provider's newest figure."""
    rows = newest_by_key(
        (_row(event) for event in events),
        key=("organization_reference_id", "transaction_id", "provider"),
        order=_ORDER,
    )
    insert_rows(connection, EnvironmentalImpact, rows, on_conflict=newest_wins(EnvironmentalImpact, order=_ORDER))


def _row(event: Event) -> Row:
    payload = cast("EnvironmentalImpactPayload", event.payload)
    return {
        **enrichment_columns(event, payload),
        "provider": PROVIDERS[event.name],
        "carbon_emission_in_grams": payload.carbon_emission_in_grams,
        "carbon_social_cost_amount": payload.carbon_social_cost_amount,
        "carbon_social_cost_currency": payload.carbon_social_cost_currency,
        "occurred_at": event.occurred_at,
        "updated_at": datetime.now(UTC),
    }

"""A payload is refused for what its own kind lacks, and never for a field that OpenCard adds to it."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from receiver.errors import PayloadError
from receiver.events.catalogue import EVENT_FLAGS
from receiver.events.event import ClaimedDelivery
from receiver.events.kinds import payload_type
from receiver.events.parse import parse
from tests.support.factories import body, sample

if TYPE_CHECKING:
    from receiver.events.event import Event

SAMPLES = {event: sample(event) for event in EVENT_FLAGS}
ALL_FIELDS: dict[str, Any] = {name: value for payload in SAMPLES.values() for name, value in payload.items()}
OTHER_KINDS = [
    (signed, event)
    for signed, event in product(EVENT_FLAGS, repeat=2)
    if payload_type(signed) is not payload_type(event)
]
ENRICHMENTS_OWN = ("url", "vat_rates", "totals", "line_items", "carbon_emission_in_grams", "carbon_social_cost_amount")


def parsed(event: str, payload: dict[str, Any]) -> Event:
    return parse(
        ClaimedDelivery(
            id=1,
            organization_reference_id="acme",
            event=event,
            version=None,
            body=body(payload),
            source="push",
            occurred_at=datetime.now(UTC),
            attempts=1,
        )
    )


def is_a_purchase(fields: set[str]) -> bool:
    """Whether a card holder's event with these fields would be a whole purchase, or an enrichment of one."""
    return {"id", "state", "original_amount"} <= fields or (
        "transaction" in fields and not fields.isdisjoint(ENRICHMENTS_OWN)
    )


@pytest.mark.parametrize("event", EVENT_FLAGS)
def test_any_two_fields_may_be_added_to_a_payload(event: str) -> None:
    payload = SAMPLES[event]
    others = ALL_FIELDS.keys() - payload.keys()
    for added in combinations(sorted(others), 2):
        if not (event.startswith("card_holder.") and is_a_purchase(set(added))):
            assert parsed(event, {**payload, **{name: ALL_FIELDS[name] for name in added}}).name == event


@given(event=st.sampled_from(sorted(EVENT_FLAGS)), added=st.sets(st.sampled_from(sorted(ALL_FIELDS))))
@settings(max_examples=300)
def test_any_fields_may_be_added_to_a_payload(event: str, added: set[str]) -> None:
    assume(not (event.startswith("card_holder.") and is_a_purchase(added)))
    payload = {**{name: ALL_FIELDS[name] for name in added}, **SAMPLES[event]}
    assert parsed(event, payload).name == event


@pytest.mark.parametrize("event", [event for event in EVENT_FLAGS if not event.startswith("card_holder.")])
def test_all_fields_of_all_others_may_be_added(event: str) -> None:
    assert parsed(event, {**ALL_FIELDS, **SAMPLES[event]}).name == event


@pytest.mark.parametrize(("signed", "event"), OTHER_KINDS)
def test_a_signed_payload_is_no_event_of_another_kind(signed: str, event: str) -> None:
    with pytest.raises(PayloadError):
        parsed(event, SAMPLES[signed])

"""What was known of events of long ago is recalled where it is asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.events.steps import occurred
from tests.factories import enrichment, sample, snapshot

if TYPE_CHECKING:
    from tests.conftest import Acme

LONG_AGO = datetime.now(UTC).replace(microsecond=0) - timedelta(days=100)
HOUR = timedelta(hours=1)
EVENTS = {
    "card.transaction.cleared": snapshot("cleared"),
    "transaction.true.vat": enrichment("transaction.true.vat"),
    "tpa.signed": sample("tpa.signed"),
    "invoice.created": sample("invoice.created"),
}


def known(acme: Acme) -> list[dict[str, object]]:
    return acme.rows("SELECT occurrences, delivery_ids FROM receiver.known_events")


def tell_long_ago(acme: Acme, event: str, payload: object, *, after: timedelta = timedelta()) -> None:
    """Tell an event that occurred long ago, as one that is recovered from the log did."""
    acme.take(event, payload)
    occurred(acme, len(acme.statuses()), LONG_AGO + after)
    acme.process()


@pytest.mark.parametrize("event", EVENTS)
def test_a_retry_of_long_ago_is_a_retry_though_its_event_was_forgotten(acme: Acme, event: str) -> None:
    tell_long_ago(acme, event, EVENTS[event])
    before = known(acme)
    acme.execute("DELETE FROM receiver.known_events")
    tell_long_ago(acme, event, EVENTS[event], after=HOUR)
    assert acme.statuses() == ["processed", "duplicate"]
    assert known(acme) == before


def test_an_equal_event_of_another_day_is_an_event_also_when_the_first_was_forgotten(acme: Acme) -> None:
    tell_long_ago(acme, "transaction.true.vat", EVENTS["transaction.true.vat"])
    acme.execute("DELETE FROM receiver.known_events")
    tell_long_ago(acme, "transaction.true.vat", EVENTS["transaction.true.vat"], after=26 * HOUR)
    assert acme.statuses() == ["processed", "processed"]


def test_what_is_known_of_today_is_joined_by_what_was_forgotten(acme: Acme) -> None:
    for after in (timedelta(), timedelta(days=99)):
        tell_long_ago(acme, "card.transaction.cleared", snapshot("cleared"), after=after)
    acme.execute("UPDATE receiver.known_events SET occurrences = occurrences[2:], delivery_ids = delivery_ids[2:]")
    tell_long_ago(acme, "card.transaction.cleared", snapshot("cleared"), after=HOUR)
    assert acme.statuses() == ["processed", "processed", "duplicate"]
    ids = [row["id"] for row in acme.rows("SELECT id FROM receiver.deliveries ORDER BY id")]
    assert known(acme) == [
        {"occurrences": [LONG_AGO, LONG_AGO + timedelta(days=99)], "delivery_ids": ids[:2]},
    ]


def test_what_was_dated_back_is_recalled_as_of_then(acme: Acme) -> None:
    tell_long_ago(acme, "card.transaction.cleared", snapshot("cleared"), after=HOUR)
    tell_long_ago(acme, "card.transaction.cleared", snapshot("cleared"))
    acme.execute("DELETE FROM receiver.known_events")
    tell_long_ago(acme, "card.transaction.cleared", snapshot("cleared"), after=2 * HOUR)
    assert acme.statuses() == ["processed", "duplicate", "duplicate"]
    (row,) = known(acme)
    assert row["occurrences"] == [LONG_AGO]

"""The bodies of what was kept long enough are gone, and rows of the feed: nothing that comes later notices."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.exc import IntegrityError

from tests.events.steps import NOON, feed, occurred
from tests.factories import card_holder, snapshot

if TYPE_CHECKING:
    from tests.conftest import Acme

HOUR = timedelta(hours=1)


def empty(acme: Acme) -> None:
    acme.execute("UPDATE receiver.deliveries SET body = NULL, headers = '{}'")


def leave_the_feed(acme: Acme) -> None:
    acme.execute("UPDATE receiver.deliveries SET left_feed = true WHERE id IN (SELECT delivery_id FROM ems.events)")
    acme.execute("DELETE FROM ems.events")


def again(acme: Acme) -> None:
    acme.execute("UPDATE receiver.deliveries SET status = 'pending', next_attempt_at = now() WHERE body IS NOT NULL")
    acme.process()


def test_a_retry_without_a_body_becomes_an_event_when_one_is_found_that_was_lost_before_it(acme: Acme) -> None:
    for number, event in enumerate(("card_holder.created", "card_holder.created"), start=1):
        acme.take(event, card_holder())
        occurred(acme, number, NOON + 2 * number * HOUR)
    acme.process()
    assert acme.statuses() == ["processed", "duplicate"]
    empty(acme)
    acme.take("card_holder.deleted", card_holder())
    occurred(acme, 3, NOON + 3 * HOUR)
    acme.process()
    assert acme.statuses() == ["processed", "processed", "processed"]
    assert feed(acme) == ["card_holder.created", "card_holder.deleted", "card_holder.created"]
    assert [row["payload"] for row in acme.rows("SELECT payload FROM ems.events")] == [card_holder()] * 3
    assert acme.value("SELECT deleted_at FROM ems.card_holders") is None


def test_what_left_the_feed_does_not_come_back_when_it_is_processed_again(acme: Acme) -> None:
    for event, payload in (
        ("card_holder.created", card_holder()),
        ("card.transaction.cleared", snapshot("cleared")),
    ):
        acme.tell(event, payload)
    before = acme.rows("SELECT * FROM ems.transaction_states")
    leave_the_feed(acme)
    again(acme)
    assert acme.statuses() == ["processed", "processed"]
    assert feed(acme) == []
    assert acme.rows("SELECT * FROM ems.transaction_states") == before


def test_a_retry_of_what_left_the_feed_is_still_a_retry(acme: Acme) -> None:
    acme.tell("card_holder.created", card_holder())
    leave_the_feed(acme)
    empty(acme)
    acme.tell("card_holder.created", card_holder())
    assert acme.statuses() == ["processed", "duplicate"]
    assert feed(acme) == []


def test_what_waits_cannot_lose_its_body(acme: Acme) -> None:
    acme.take("card_holder.created", card_holder())
    with pytest.raises(IntegrityError, match="waiting_has_body"):
        empty(acme)

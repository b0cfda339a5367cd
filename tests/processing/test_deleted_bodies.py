"""Retries, replays and corrections of deliveries whose bodies retention deleted."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from tests.support.factories import card_holder, snapshot
from tests.support.processing_steps import NOON, delete_bodies, feed, occurred, process_again

if TYPE_CHECKING:
    from tests.conftest import Acme

HOUR = timedelta(hours=1)
CLEARED = "card.transaction.cleared"


def test_retry_without_body_is_an_event_once_a_lost_one_is_found(acme: Acme) -> None:
    for number, event in enumerate(("card_holder.created", "card_holder.created"), start=1):
        acme.deliver_ok(event, card_holder())
        occurred(acme, number, NOON + 2 * number * HOUR)
    acme.process()
    assert acme.statuses() == ["processed", "duplicate"]
    delete_bodies(acme)
    acme.deliver_ok("card_holder.deleted", card_holder())
    occurred(acme, 3, NOON + 3 * HOUR)
    acme.process()
    assert acme.statuses() == ["processed", "processed", "processed"]
    assert sorted(feed(acme)) == ["card_holder.created", "card_holder.created", "card_holder.deleted"]
    assert [row["payload"] for row in acme.rows("SELECT payload FROM ems.events")] == [card_holder()] * 3
    assert acme.value("SELECT deleted_at FROM ems.card_holders") is None


def test_equal_snapshot_of_another_day_is_an_event_without_body(acme: Acme) -> None:
    for number, hours in enumerate((0, 20), start=1):
        acme.deliver_ok(CLEARED, snapshot("cleared"))
        occurred(acme, number, NOON + hours * HOUR)
    acme.process()
    delete_bodies(acme)
    acme.deliver_ok(CLEARED, snapshot("cleared"))
    occurred(acme, 3, NOON - 10 * HOUR)
    acme.process()
    assert acme.statuses() == ["processed", "processed", "duplicate"]
    times = [row["occurred_at"] for row in acme.rows("SELECT occurred_at FROM ems.transaction_states ORDER BY 1")]
    assert times == [NOON - 10 * HOUR, NOON + 20 * HOUR]


def test_delivery_without_a_body_is_processed_again_from_the_log(acme: Acme) -> None:
    acme.deliver_ok(CLEARED, snapshot("cleared", original_amount=100))
    acme.deliver_ok(CLEARED, snapshot("cleared", original_amount=110))
    for number in (1, 2):
        occurred(acme, number, NOON + number * HOUR)
    acme.process()
    delete_bodies(acme)
    occurred(acme, 1, NOON + 3 * HOUR)
    process_again(acme)
    assert acme.statuses() == ["processed", "processed"]
    assert acme.value("SELECT original_amount FROM ems.transactions") == 100
    assert feed(acme) == [CLEARED, CLEARED]


def test_body_that_is_missing_before_the_first_attempt_is_dead(acme: Acme) -> None:
    acme.deliver_ok(CLEARED, snapshot("cleared"))
    delete_bodies(acme)
    acme.process()
    assert acme.row("SELECT status, error FROM receiver.deliveries") == {
        "status": "dead",
        "error": "its body was deleted before it was applied",
    }

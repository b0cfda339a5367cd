"""A log may have whole seconds: within one, its own order says what was first."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from receiver.sandbox.provider import LogStyle
from tests.support.factories import card_holder, snapshot
from tests.support.reconcile_steps import (
    HOUR,
    MINUTE,
    ago,
    append_log,
    attempts,
    feed_types,
    reconcile_and_process,
    store_delivery,
    value,
)

if TYPE_CHECKING:
    from tests.support.world import World

CLEARED, CREATED, DELETED = "card.transaction.cleared", "card_holder.created", "card_holder.deleted"
TICK = timedelta(milliseconds=100)
AMOUNT = "SELECT accounting_amount FROM ems.ledger"
LOGS: dict[str, dict[str, Any]] = {
    "newest first": {"order": "newest-first"},
    "oldest first": {"order": "oldest-first"},
    "newest first, without ids": {"order": "newest-first", "id_name": None},
    "oldest first, without ids": {"order": "oldest-first", "id_name": None},
}


@pytest.fixture(params=list(LOGS.values()), ids=list(LOGS))
def whole_seconds(acme: World, request: pytest.FixtureRequest) -> World:
    """An OpenCard whose log has whole seconds, and some attempts at other times, which show its order."""
    acme.provider.behaviour.log_style = replace(LogStyle(), microseconds=False, **request.param)
    for number in range(5):
        other = snapshot("authorized", transaction=f"other-{number}")
        append_log(acme, attempts("card.transaction.authorized", other, 503, at=ago(HOUR) + number * MINUTE))
    return acme


def cleared(amount: int) -> dict[str, Any]:
    return snapshot("cleared", accounting_amount=Decimal(amount))


def test_newer_of_two_events_in_one_second_wins(whole_seconds: World) -> None:
    second = ago(10 * MINUTE).replace(microsecond=0)
    for number in range(9):  # over two pages
        append_log(whole_seconds, attempts(CLEARED, cleared(number), 503, at=second + number * TICK))
    reconcile_and_process(whole_seconds)
    assert value(whole_seconds, AMOUNT) == 8


def test_card_holder_events_in_one_second_keep_their_order(whole_seconds: World) -> None:
    second = ago(10 * MINUTE).replace(microsecond=0)
    for number, event in enumerate([CREATED, "card_holder.identified", DELETED]):
        append_log(whole_seconds, attempts(event, card_holder(), 503, at=second + number * TICK))
    reconcile_and_process(whole_seconds)
    types = [event for event in feed_types(whole_seconds) if event.startswith("card_holder.")]
    assert types == [CREATED, "card_holder.identified", DELETED]
    assert value(whole_seconds, "SELECT deleted_at IS NOT NULL FROM ems.card_holders")


def test_failure_after_an_arrival_in_that_second_is_newer(whole_seconds: World) -> None:
    second = ago(10 * MINUTE).replace(microsecond=0)
    store_delivery(whole_seconds, CLEARED, cleared(1), at=second + 7 * TICK)
    append_log(whole_seconds, attempts(CLEARED, cleared(1), 200, at=second + 7 * TICK))
    append_log(whole_seconds, attempts(CLEARED, cleared(2), 503, at=second + 9 * TICK))
    reconcile_and_process(whole_seconds)
    assert value(whole_seconds, AMOUNT) == 2


def test_failure_before_an_arrival_in_that_second_is_older(whole_seconds: World) -> None:
    second = ago(10 * MINUTE).replace(microsecond=0)
    append_log(whole_seconds, attempts(CLEARED, cleared(2), 503, at=second + 5 * TICK))
    store_delivery(whole_seconds, CLEARED, cleared(1), at=second + 7 * TICK)
    append_log(whole_seconds, attempts(CLEARED, cleared(1), 200, at=second + 7 * TICK))
    reconcile_and_process(whole_seconds)
    assert value(whole_seconds, AMOUNT) == 1


@pytest.mark.parametrize("order", ["newest-first", "oldest-first"])
def test_ids_give_the_order_when_the_log_has_none(acme: World, order: Any) -> None:
    acme.provider.behaviour.log_style = LogStyle(microseconds=False, order=order)
    second = ago(10 * MINUTE).replace(microsecond=0)
    for number in range(3):
        append_log(acme, attempts(CLEARED, cleared(number), 503, at=second + number * TICK))
    assert reconcile_and_process(acme).recovered == 3
    assert value(acme, AMOUNT) == 2

"""A time in the log that cannot be is no time: it stops nothing, and wins over nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tests.support.factories import snapshot
from tests.support.reconcile_steps import (
    HOUR,
    MINUTE,
    ago,
    append_log,
    attempts,
    execute,
    reconcile_and_process,
    store_delivery,
    value,
)

if TYPE_CHECKING:
    from tests.support.world import World

CLEARED = "card.transaction.cleared"
IMPOSSIBLE = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(2014, 12, 31, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 58, tzinfo=UTC),
]


@pytest.mark.parametrize("moment", IMPOSSIBLE, ids=str)
def test_impossible_time_hides_no_missing_delivery(acme: World, moment: datetime) -> None:
    append_log(
        acme,
        attempts(CLEARED, snapshot("cleared", transaction="odd"), 200, at=moment),
        attempts(CLEARED, snapshot("cleared", transaction="ordinary"), 503, at=ago(HOUR)),
    )
    assert reconcile_and_process(acme).recovered == 2
    assert value(acme, "SELECT count(*) FROM ems.transactions") == 2
    assert reconcile_and_process(acme).recovered == 0


def test_clock_that_is_behind_overflows_no_time(acme: World) -> None:
    seen = snapshot("cleared", transaction="seen")
    store_delivery(acme, CLEARED, seen, at=ago(MINUTE))
    append_log(acme, attempts(CLEARED, seen, 200, at=ago(MINUTE + MINUTE / 4)))
    append_log(acme, attempts(CLEARED, snapshot("cleared", transaction="odd"), 200, at=IMPOSSIBLE[-1]))
    assert reconcile_and_process(acme).recovered == 1


def test_time_far_in_the_future_does_not_win_permanently(acme: World) -> None:
    append_log(acme, attempts(CLEARED, snapshot("cleared"), 200, at=IMPOSSIBLE[-1]))
    reconcile_and_process(acme)
    corrected = snapshot("cleared", accounting_amount=Decimal("1.11"))
    for table in ("receiver.stored_deliveries", "ems.events"):
        execute(acme, f"UPDATE {table} SET occurred_at = occurred_at - interval '1 second'")  # noqa: S608
    store_delivery(acme, CLEARED, corrected, at=ago(MINUTE * 0))
    reconcile_and_process(acme)
    assert value(acme, "SELECT accounting_amount FROM ems.ledger") == Decimal("1.11")

"""A time in the log that cannot be is no time: it stops nothing, and wins over nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tests.support.factories import snapshot
from tests.support.reconcile_steps import HOUR, MINUTE, ago, execute, log, mend, store, tried, value

if TYPE_CHECKING:
    from tests.support.world import World

CLEARED = "card.transaction.cleared"
IMPOSSIBLE = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(2014, 12, 31, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 58, tzinfo=UTC),
]


@pytest.mark.parametrize("moment", IMPOSSIBLE, ids=str)
def test_an_impossible_time_hides_no_missing_delivery(acme: World, moment: datetime) -> None:
    log(
        acme,
        tried(CLEARED, snapshot("cleared", transaction="odd"), 200, at=moment),
        tried(CLEARED, snapshot("cleared", transaction="ordinary"), 503, at=ago(HOUR)),
    )
    assert mend(acme).recovered == 2
    assert value(acme, "SELECT count(*) FROM ems.transactions") == 2
    assert mend(acme).recovered == 0


def test_a_clock_that_is_behind_overflows_no_time(acme: World) -> None:
    seen = snapshot("cleared", transaction="seen")
    store(acme, CLEARED, seen, at=ago(MINUTE))
    log(acme, tried(CLEARED, seen, 200, at=ago(MINUTE + MINUTE / 4)))
    log(acme, tried(CLEARED, snapshot("cleared", transaction="odd"), 200, at=IMPOSSIBLE[-1]))
    assert mend(acme).recovered == 1


def test_a_time_far_ahead_does_not_win_for_good(acme: World) -> None:
    log(acme, tried(CLEARED, snapshot("cleared"), 200, at=IMPOSSIBLE[-1]))
    mend(acme)
    corrected = snapshot("cleared", accounting_amount=Decimal("1.11"))
    for table in ("receiver.stored_deliveries", "ems.events"):
        execute(acme, f"UPDATE {table} SET occurred_at = occurred_at - interval '1 second'")  # noqa: S608
    store(acme, CLEARED, corrected, at=ago(MINUTE * 0))
    mend(acme)
    assert value(acme, "SELECT accounting_amount FROM ems.ledger") == Decimal("1.11")

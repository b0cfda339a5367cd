"""OpenCard's log has an event after all whose delivery was retracted as forged: it is recovered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from receiver.ops.retracting import retract_deliveries, undo_retraction
from tests.support.factories import snapshot
from tests.support.reconcile_steps import (
    CLEARED,
    DAY,
    HOUR,
    ago,
    append_log,
    attempts,
    process,
    reconcile,
    store_delivery,
    value,
)

if TYPE_CHECKING:
    from tests.support.world import World

LEDGER = "SELECT count(*) FROM ems.ledger"


def test_event_of_a_retracted_delivery_is_recovered(acme: World) -> None:
    delivery = store_delivery(acme, CLEARED, snapshot("cleared"), at=ago(HOUR))
    process(acme)
    assert reconcile(acme).unconfirmed == 1
    retract_deliveries(acme.engine, (delivery,), by="kim@ops", reason="forged")
    outcome = reconcile(acme, since=ago(DAY))
    assert (outcome.unconfirmed, outcome.recovered, value(acme, LEDGER)) == (0, 0, 0)

    append_log(acme, attempts(CLEARED, snapshot("cleared"), 200, at=ago(HOUR)))
    assert reconcile(acme, since=ago(DAY)).recovered == 1
    process(acme)
    assert value(acme, LEDGER) == 1
    assert value(acme, "SELECT delivery_id FROM ems.transactions") > delivery
    outcome = reconcile(acme, since=ago(DAY))
    assert (outcome.matched, outcome.recovered, outcome.unconfirmed) == (1, 0, 0)

    undo_retraction(acme.engine, (delivery,), reason="it was theirs")
    assert value(acme, LEDGER) == 1
    assert reconcile(acme, since=ago(DAY)).recovered == 0

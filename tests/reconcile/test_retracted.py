"""OpenCard's log has an event whose delivery was retracted as forged: it is recovered. No run meets a retraction."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest
from sqlalchemy import text

from receiver.errors import OperationRefused
from receiver.locks import Lock
from receiver.ops.retracting import retract_deliveries, undo_retraction
from receiver.reconcile.session import BUSY
from receiver.tls import tls_context
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
    reconciler,
    store_delivery,
    value,
)
from tests.support.session_locks import ADVISORY, WAITING
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

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


def test_failed_attempts_are_no_retries_of_a_retracted_one(acme: World) -> None:
    delivery = store_delivery(acme, CLEARED, snapshot("cleared"), at=ago(20 * HOUR))
    process(acme)
    assert reconcile(acme).unconfirmed == 1
    retract_deliveries(acme.engine, (delivery,), by="kim@ops", reason="forged")
    append_log(acme, attempts(CLEARED, snapshot("cleared"), 503, 503, at=ago(HOUR)))
    assert reconcile(acme, since=ago(2 * HOUR)).recovered == 1
    process(acme)
    assert value(acme, LEDGER) == 1


class Between(httpx.BaseTransport):
    """Calls *act* once a run has read the log."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act
        self._network = httpx.HTTPTransport(verify=tls_context())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._network.handle_request(request)
        response.read()
        if request.url.path.endswith("/events"):
            self._act()
        return response

    def close(self) -> None:
        self._network.close()


def test_nothing_is_retracted_while_reconcile_runs(acme: World) -> None:
    delivery = store_delivery(acme, CLEARED, snapshot("cleared"), at=ago(HOUR))
    process(acme)
    assert reconcile(acme).unconfirmed == 1
    append_log(acme, attempts(CLEARED, snapshot("cleared"), 200, at=ago(HOUR)))
    webhook, refusals = value(acme, "SELECT id FROM receiver.webhooks"), []

    def retract() -> None:
        with pytest.raises(OperationRefused) as refused:
            retract_deliveries(acme.engine, (delivery,), by="kim@ops", reason="forged")
        refusals.append(str(refused.value))

    acme.transport = Between(retract)
    assert reconcile(acme, since=ago(DAY)).matched == 1
    retract()
    assert [refusal.partition(" at this moment")[0] for refusal in refusals] == [
        f"reconcile is busy with webhook {webhook}",
        f"delivery {delivery} cannot be retracted: OpenCard's log has it, so it is genuine",
    ]
    assert value(acme, LEDGER) == 1


def test_no_run_begins_during_a_retraction(acme: World) -> None:
    delivery = store_delivery(acme, CLEARED, snapshot("cleared"), at=ago(HOUR))
    process(acme)
    assert reconcile(acme).unconfirmed == 1
    append_log(acme, attempts(CLEARED, snapshot("cleared"), 200, at=ago(HOUR)))
    with ThreadPoolExecutor(1) as pool, acme.engine.connect() as feed:
        feed.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": int(Lock.FEED)})
        retracted = pool.submit(retract_deliveries, acme.engine, (delivery,), by="kim@ops", reason="forged")
        assert eventually(lambda: value(acme, WAITING) == 1)
        (outcome,) = reconciler(acme).run(since=ago(DAY))
        feed.rollback()
        assert (outcome.error, retracted.result(timeout=60)) == (BUSY, 1)
    assert eventually(lambda: value(acme, ADVISORY) == 0), "the session of the retraction has ended"
    assert reconcile(acme, since=ago(DAY)).recovered == 1
    process(acme)
    assert value(acme, LEDGER) == 1

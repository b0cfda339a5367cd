from __future__ import annotations

from typing import TYPE_CHECKING

from receiver.ops.console.delivery_timeline import timeline_of
from receiver.ops.deliveries import read_delivery, read_log_entries
from tests.support.console_pages import EVENT, WRONG, stored
from tests.support.factories import snapshot

if TYPE_CHECKING:
    from receiver.ops.console.delivery_timeline import Step
    from tests.conftest import Acme
    from tests.support.visitor import Visitor


def steps(acme: Acme) -> list[Step]:
    (delivery_id,) = stored(acme)
    with acme.engine.connect() as connection:
        found = read_delivery(connection, delivery_id)
        assert found is not None
        return timeline_of(found, read_log_entries(connection, found))


def test_an_applied_delivery_has_each_step_in_order(acme: Acme) -> None:
    acme.apply(EVENT, snapshot("cleared"))
    assert 0 <= acme.value("SELECT written_ms FROM receiver.stored_deliveries") < 60_000
    acme.execute("UPDATE receiver.stored_deliveries SET written_ms = 41")
    assert [step.text for step in steps(acme)] == [
        "Received, stored (41 ms until written), answered 200",
        "Verified by signature",
        "Applied",
        "Not yet found in OpenCard's log",
    ]
    acme.execute(
        "INSERT INTO receiver.confirmations (delivery_id, confirmed_at) SELECT id, now() FROM receiver.deliveries"
    )
    acme.execute(
        "INSERT INTO receiver.delivery_log"
        " (webhook_id, identity, event, response_status, attempted_at, fingerprint, item)"
        " SELECT webhook_id, '\\x00', event, 503, received_at - interval '5 min', fingerprint, '\\x00'"
        " FROM receiver.deliveries"
    )
    found = steps(acme)
    assert found[0].text == "OpenCard's attempt, according to its log: answered with 503"
    assert found[-1].text == "Confirmed by OpenCard's log"
    assert None not in [step.at for step in found]


def test_a_failed_attempt_is_a_step_with_its_error(acme: Acme) -> None:
    acme.apply(EVENT, WRONG)
    (failed,) = [step for step in steps(acme) if step.mark == "wrong"]
    assert failed.text == "Attempt 1: dead"
    assert "accounting_amount" in (failed.error or "")
    assert "Applied" not in [step.text for step in steps(acme)]


def test_replay_comes_last_on_what_is_processed(acme: Acme, operator: Visitor) -> None:
    acme.apply(EVENT, snapshot("cleared"))
    acme.apply(EVENT, WRONG)
    dead, processed = (operator.get(f"/ops/deliveries/{each}").text for each in stored(acme))
    assert processed.index('id="replay"') > processed.index('id="views"')
    assert dead.index('id="replay"') < dead.index('id="payload"')

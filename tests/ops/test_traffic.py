from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from receiver.ops.rollup import roll_up_once
from receiver.ops.traffic import RANGES, Part, read_completeness, read_latency, read_traffic, totals
from tests.support.factories import snapshot
from tests.support.replay_steps import ids, replay
from tests.support.service_states import add_run

if TYPE_CHECKING:
    from tests.conftest import Acme, Organizations

EVENT = "card.transaction.cleared"


def of_range(acme: Acme, name: str) -> Part:
    with acme.engine.connect() as connection:
        parts = read_traffic(connection, RANGES[name], datetime.now(UTC))
    assert len({part.at for part in parts}) == len(parts) == RANGES[name].length / RANGES[name].step
    found = totals(parts)
    assert found is not None
    return found


def test_each_delivery_of_a_day_is_in_one_part(acme: Acme) -> None:
    acme.apply(EVENT, snapshot("cleared"))
    acme.apply(EVENT, b"no json")
    acme.apply("event.of.tomorrow", snapshot("cleared"))
    acme.execute(
        "INSERT INTO receiver.refused_deliveries (webhook_id, reason, minute, number, last_at) "
        "SELECT id, 'signature', date_trunc('minute', now()), 7, now() FROM receiver.webhooks"
    )
    for name in ("24h", "7d"):
        found = of_range(acme, name)
        assert (found.processed, found.failed, found.refused, found.recovered) == (2, 1, 7, 0), name
    assert of_range(acme, "1h").refused == 7


def test_an_hour_is_shown_by_the_minutes_that_were_counted(acme: Acme) -> None:
    acme.execute(
        "INSERT INTO receiver.counter_minutes (at, received, processed, failed) VALUES "
        "(now() - interval '3 minutes', 100, 90, 1), (now() - interval '2 minutes', 130, 115, 3), "
        "(now() - interval '1 minute', 130, 115, 3), (now() - interval '1 day', 1, 1, 1)"
    )
    add_run(acme.engine, "acme", minutes_ago=1)
    acme.execute("UPDATE receiver.reconcile_runs SET recovered = 4")
    found = of_range(acme, "1h")
    assert (found.processed, found.failed, found.recovered) == (25, 2, 4)


def test_an_hour_is_complete_when_its_log_was_checked(organizations: Organizations) -> None:
    acme = organizations.adopt("acme")
    acme.apply(EVENT, b"no json")
    roll_up_once(acme.engine)
    now = datetime.now(UTC)
    checked = {"acme": now - timedelta(hours=2), "beta": None}
    with acme.engine.connect() as connection:
        found = read_completeness(connection, checked, now, hours=24)
    assert [hour.checked for hour in found["beta"][:-1]] == [False] * 23
    assert [hour.checked for hour in found["acme"][:-3]] == [True] * 21
    assert not found["acme"][-2].checked
    assert found["acme"][-1].failed == 1


def test_latency_is_that_of_the_newest_deliveries(acme: Acme) -> None:
    with acme.engine.connect() as connection:
        assert read_latency(connection) is None
    for number in range(3):
        acme.apply(EVENT, snapshot("cleared", transaction=f"t-{number}"))
    acme.execute(
        "UPDATE receiver.outcomes AS outcome SET processed_at = stored.received_at + interval '2 seconds' "
        "FROM receiver.stored_deliveries AS stored WHERE stored.id = outcome.delivery_id"
    )
    with acme.engine.connect() as connection:
        assert read_latency(connection) == (timedelta(seconds=2), timedelta(seconds=2))


def test_latency_leaves_out_what_was_replayed(acme: Acme) -> None:
    for number in range(3):
        acme.apply(EVENT, snapshot("cleared", transaction=f"t-{number}"))
    replay(acme, (min(ids(acme)),))
    acme.execute(
        "UPDATE receiver.outcomes AS outcome SET processed_at = stored.received_at + CASE WHEN EXISTS"
        " (SELECT FROM receiver.replay_deliveries AS replayed WHERE replayed.delivery_id = stored.id)"
        " THEN interval '3 days' ELSE interval '2 seconds' END"
        " FROM receiver.stored_deliveries AS stored WHERE stored.id = outcome.delivery_id"
    )
    with acme.engine.connect() as connection:
        assert read_latency(connection) == (timedelta(seconds=2), timedelta(seconds=2))

"""Recent activity, shown without counting again what was counted before."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from receiver.counter_store import Flusher, connecting
from receiver.counters import ATTEMPTS, count_request, unstored_counts
from receiver.ops.activity import deliveries_by_hour, failures_by_error, rate
from receiver.ops.rollup import MERGED, roll_up_once
from tests.support.factories import card_holder
from tests.support.stored import store

if TYPE_CHECKING:
    from receiver.settings import Settings
    from tests.conftest import Acme, Organizations


def received(acme: Acme, hours_ago: float, *, status: str = "processed", source: str = "push", number: int = 1) -> None:
    this_hour = acme.value("SELECT date_trunc('hour', now(), 'UTC')")
    store(
        acme.engine,
        status=status,
        source=source,
        received_at=this_hour - timedelta(hours=hours_ago),
        number=number,
        organization=acme.registration.organization_reference_id,
    )


def hours(acme: Acme, **asked: object) -> Counter[tuple[float, str, str]]:
    """Return (hours ago, source, status) → deliveries."""
    with acme.engine.connect() as connection:
        found = deliveries_by_hour(connection, **asked)  # type: ignore[arg-type]
        this_hour = connection.exec_driver_sql("SELECT date_trunc('hour', now(), 'UTC')").scalar_one()
    assert found == sorted(found, key=lambda each: each.hour)
    return Counter(
        {((this_hour - each.hour) / timedelta(hours=1), each.source, each.status): each.deliveries for each in found}
    )


def test_deliveries_are_counted_by_hour_source_and_status(acme: Acme) -> None:
    received(acme, 0, number=3)
    received(acme, 0, status="pending")
    received(acme, 0.5, source="log")
    received(acme, 5, number=2)
    received(acme, 5, status="dead")
    received(acme, 30)
    roll_up_once(acme.engine)
    expected = {
        (0, "push", "processed"): 3,
        (0, "push", "pending"): 1,
        (1, "log", "processed"): 1,
        (5, "push", "processed"): 2,
    }
    assert hours(acme) == {**expected, (5, "push", "dead"): 1}
    assert hours(acme, hours=5) == {key: number for key, number in expected.items() if key[0] < 5}
    roll_up_once(acme.engine)  # which goes a day further back
    assert hours(acme, hours=48)[30, "push", "processed"] == 1


def test_current_hour_is_counted_once_a_minute(acme: Acme) -> None:
    received(acme, 0)
    roll_up_once(acme.engine)
    received(acme, 0)
    assert hours(acme) == {(0, "push", "processed"): 1}, "as of a moment ago"
    acme.execute("UPDATE receiver.counted_hours SET counted_at = counted_at - interval '4 minutes'")
    assert hours(acme) == {(0, "push", "processed"): 2}, "the scheduler is away: counted now"
    roll_up_once(acme.engine)
    assert hours(acme) == {(0, "push", "processed"): 2}


def test_current_hour_is_shown_before_any_rollup(acme: Acme) -> None:
    received(acme, 0)
    received(acme, 1)
    received(acme, 3)
    assert hours(acme) == {(0, "push", "processed"): 1, (1, "push", "processed"): 1}


def test_activity_can_be_limited_to_one_organization(organizations: Organizations) -> None:
    acme, globex = organizations.adopt("acme"), organizations.adopt("globex")
    for hours_ago in (0, 6):
        received(acme, hours_ago, number=2)
        received(globex, hours_ago)
    roll_up_once(acme.engine)
    assert hours(acme, organization="acme") == {(0, "push", "processed"): 2, (6, "push", "processed"): 2}
    assert hours(acme) == {(0, "push", "processed"): 3, (6, "push", "processed"): 3}


def test_recounting_an_hour_shows_later_outcomes(acme: Acme) -> None:
    received(acme, 6, status="dead")
    roll_up_once(acme.engine)
    acme.execute("UPDATE receiver.outcomes SET status = 'processed'")
    assert hours(acme) == {(6, "push", "dead"): 1}
    acme.execute(
        "UPDATE receiver.counted_hours SET counted_at = now() - interval '1 hour' WHERE hour = :hour",
        hour=acme.value("SELECT date_trunc('hour', now(), 'UTC') - interval '6 hours'"),
    )
    roll_up_once(acme.engine)
    assert hours(acme) == {(6, "push", "processed"): 1}


def flush(settings: Settings) -> None:
    assert Flusher(connecting(settings.database_url)).flush()


def test_rates_are_what_was_counted_since_a_minute_of_before(acme: Acme, settings: Settings) -> None:
    unstored_counts.take()
    roll_up_once(acme.engine)
    with acme.engine.connect() as connection:
        assert rate(connection) is None, "nothing is known of five minutes ago"
    acme.execute("UPDATE receiver.counter_minutes SET at = at - interval '6 minutes'")
    for _ in range(12):
        count_request("delivery", 200, "stored")
    count_request("delivery", 401, "signature-wrong")
    ATTEMPTS.labels("card_holder.created", "processed").inc(6)
    ATTEMPTS.labels("card_holder.created", "dead").inc(3)
    flush(settings)
    with acme.engine.connect() as connection:
        found = rate(connection)
        assert rate(connection, timedelta(hours=1)) is None
    assert found is not None
    assert found.minutes == pytest.approx(6, abs=0.5)
    assert (found.received, found.processed, found.failed) == pytest.approx((2, 1, 0.5), rel=0.1)


def test_counts_of_ended_processes_are_merged_without_loss(acme: Acme, settings: Settings) -> None:
    unstored_counts.take()
    flushers = [Flusher(connecting(settings.database_url)) for _ in range(3)]
    for flusher in flushers:
        count_request("delivery", 200, "stored")
        assert flusher.flush()
    acme.execute("UPDATE receiver.counter_flushes SET flushed_at = now() - interval '1 hour'")
    count_request("delivery", 200, "stored")
    assert flushers[0].flush()
    roll_up_once(acme.engine)

    def rows() -> list[tuple[bool, float]]:
        found = acme.rows(
            "SELECT CAST(process AS text) AS process, value FROM receiver.counters"
            " WHERE name = 'receiver_requests_total' AND labels ->> 'reason' = 'stored'"
        )
        return sorted((row["process"] == MERGED, row["value"]) for row in found)

    assert rows() == [(False, 2), (True, 2)]
    count_request("delivery", 200, "stored")
    assert flushers[1].flush(), "one that was only silent speaks again"
    assert rows() == [(False, 1), (False, 2), (True, 2)]


def test_failures_are_grouped_by_cause_with_an_example(organizations: Organizations) -> None:
    acme, globex = organizations.adopt("acme"), organizations.adopt("globex")
    acme.apply("card_holder.created", card_holder(organization="initech"))
    acme.apply("card_holder.created", b"{}")
    acme.apply("card_holder.created", b"{}")
    globex.apply("card_holder.created", b"{}")
    globex.apply("card_holder.deleted", b"{}")
    acme.apply("card_holder.created", card_holder())
    with acme.engine.connect() as connection:
        groups = failures_by_error(connection)
    assert [(group.status, group.event, group.number) for group in groups] == [
        ("dead", "card_holder.created", 3),
        ("dead", "card_holder.deleted", 1),
        ("quarantined", "card_holder.created", 1),
    ]
    assert groups[0].organizations == ("acme", "globex")
    assert groups[0].number_of_organizations == 2
    assert groups[0].example_id == acme.value(
        "SELECT max(id) FROM receiver.deliveries WHERE event = 'card_holder.created' AND status = 'dead'"
    )
    assert groups[0].oldest <= groups[0].newest

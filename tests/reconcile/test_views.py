"""Is anything undelivered? One query says it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from receiver.reconcile.views import DELIVERY_GAPS_BY_HOUR, RECONCILE_STATE
from receiver.sandbox.provider import ApiFault, LogStyle
from tests.support.factories import card_holder, snapshot
from tests.support.lost_events import add_managed
from tests.support.reconcile_steps import (
    DAY,
    HOUR,
    MINUTE,
    ago,
    append_log,
    attempts,
    execute,
    reconcile,
    reconcile_and_process,
    reconciler,
    rows,
    store_delivery,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tests.support.world import World

CREATED = "card_holder.created"
CLEARED = "card.transaction.cleared"
INCOMPLETE = "SELECT * FROM receiver.delivery_gaps_by_hour WHERE NOT complete ORDER BY hour"


def state(world: World) -> dict[str, Any]:
    (row,) = rows(world, "SELECT * FROM receiver.reconcile_state")
    return row


def hour_of(world: World, span: timedelta) -> dict[str, Any]:
    query = (
        "SELECT * FROM receiver.delivery_gaps_by_hour WHERE hour = date_trunc('hour', CAST(:at AS timestamptz), 'UTC')"
    )
    (row,) = rows(world, query, at=ago(span))
    return row


@pytest.mark.parametrize(
    "view", [RECONCILE_STATE, DELIVERY_GAPS_BY_HOUR], ids=["reconcile_state", "delivery_gaps_by_hour"]
)
def test_view_in_the_database_is_the_one_in_the_code(engine: Engine, view: str) -> None:
    name = view.split("VIEW receiver.")[1].split(maxsplit=1)[0]
    with engine.connect() as connection:
        connection.execute(text(view.replace(f"VIEW receiver.{name}", f"VIEW receiver.copy_of_{name}")))
        migrated, defined = connection.execute(
            text(
                f"SELECT pg_get_viewdef('receiver.{name}'::regclass),"
                f" pg_get_viewdef('receiver.copy_of_{name}'::regclass)"
            )
        ).one()
        connection.rollback()
    assert migrated == defined


def test_unchecked_hour_is_not_complete(acme: World) -> None:
    incomplete = rows(acme, INCOMPLETE)
    assert len(incomplete) == 8 * 24 + 1
    assert {row["checked_until"] for row in incomplete} == {None}
    assert (state(acme)["checked_until"], state(acme)["last_error"]) == (None, None)


def test_every_hour_is_complete_after_a_run(acme: World) -> None:
    store_delivery(acme, CREATED, card_holder("stored"), at=ago(3 * HOUR))
    append_log(acme, attempts(CREATED, card_holder("stored"), 503, 200, at=ago(3 * HOUR)))
    append_log(acme, attempts(CREATED, card_holder("lost"), 503, at=ago(3 * HOUR)))
    outcome = reconcile_and_process(acme)
    assert rows(acme, INCOMPLETE) == []
    hour = hour_of(acme, 3 * HOUR)
    assert (hour["organization_reference_id"], hour["opencard_webhook_id"]) == ("acme", outcome.opencard_webhook_id)
    counts = ("log_entries", "stored", "recovered", "unconfirmed", "unrecoverable")
    assert [hour[name] for name in counts] == [3, 2, 1, 0, 0]
    assert hour["checked_until"] == hour["hour"] + HOUR


def test_run_that_leaves_a_gap_completes_no_hour(acme: World) -> None:
    append_log(
        acme, *(attempts(CREATED, card_holder(f"employee-{n}"), 503, at=ago(2 * DAY - n * HOUR)) for n in range(40))
    )
    reconcile(acme, since=ago(DAY))
    assert len(rows(acme, INCOMPLETE)) == 8 * 24 + 1


def test_later_delivery_makes_the_hour_incomplete_again(acme: World) -> None:
    reconcile(acme)
    assert rows(acme, INCOMPLETE) == []
    execute(acme, "UPDATE receiver.reconcile_runs SET checked_until = now() - interval '3 hours'")
    hours = [row["hour"] for row in rows(acme, INCOMPLETE)]
    assert 2 <= len(hours) <= 4
    reconcile(acme)
    assert rows(acme, INCOMPLETE) == []


def test_hour_with_unrecoverable_events_is_not_complete(acme: World) -> None:
    ids = append_log(acme, attempts(CLEARED, snapshot("cleared"), 503, 503, at=ago(5 * HOUR)))
    acme.provider.behaviour.log_style = LogStyle(without_payload=frozenset(ids))
    reconcile(acme)
    (incomplete,) = rows(acme, INCOMPLETE)
    assert incomplete == hour_of(acme, 5 * HOUR)
    assert (incomplete["log_entries"], incomplete["unrecoverable"], incomplete["stored"]) == (2, 1, 0)
    assert state(acme)["unrecoverable"] == 1


def test_unconfirmed_is_counted_by_hour_and_webhook(acme: World) -> None:
    store_delivery(acme, CREATED, card_holder("forged"), at=ago(5 * HOUR))
    store_delivery(acme, CREATED, card_holder("new"), at=ago(MINUTE))
    reconcile(acme)
    assert (hour_of(acme, 5 * HOUR)["unconfirmed"], hour_of(acme, timedelta())["unconfirmed"]) == (1, 0)
    assert state(acme)["unconfirmed"] == 1


def test_state_sums_recovered_and_has_the_last_error(acme: World) -> None:
    for number in range(3):
        append_log(acme, attempts(CREATED, card_holder(f"employee-{number}"), 503, at=ago(HOUR)))
        reconcile(acme, since=ago(DAY))
        reconcile(acme)
    sound = state(acme)
    assert (sound["recovered"], sound["last_error"]) == (3, None)
    assert sound["checked_until"] == sound["last_started_at"]
    acme.provider.faults.add(ApiFault.answers(404, path="/events$"))
    reconciler(acme).run()
    failed = state(acme)
    assert "answers 404" in failed["last_error"]
    assert failed["last_started_at"] > sound["last_started_at"]
    same = ("checked_until", "recovered", "unconfirmed", "unrecoverable")
    assert [failed[name] for name in same] == [sound[name] for name in same]
    reconcile(acme)
    assert state(acme)["last_error"] is None


def test_each_webhook_has_its_own_rows(acme: World) -> None:
    add_managed(acme, "globex")
    ids = [row["id"] for row in rows(acme, "SELECT id FROM receiver.webhooks ORDER BY id")]
    reconciler(acme).run(ids[1:])
    assert {row["organization_reference_id"] for row in rows(acme, INCOMPLETE)} == {"acme"}
    states = rows(
        acme, "SELECT webhook_id, checked_until IS NULL AS unchecked FROM receiver.reconcile_state ORDER BY 1"
    )
    assert [(row["webhook_id"], row["unchecked"]) for row in states] == [(ids[0], True), (ids[1], False)]


def test_two_hundred_quiet_webhooks_are_complete_after_a_run(acme: World) -> None:
    add_managed(acme, *(f"organization-{number}" for number in range(199)))
    outcomes = reconciler(acme).run()
    assert (len(outcomes), {outcome.error for outcome in outcomes}) == (200, {None})
    assert rows(acme, INCOMPLETE) == []

"""Reconcile recovers nothing that retention deleted or that was erased, however far back it reads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from receiver.migrate import target_metadata
from receiver.ops.retention.run import Pace
from receiver.sandbox.provider import LogStyle
from tests.support.factories import card_holder, enrichment, snapshot
from tests.support.reconcile_steps import (
    DAY,
    HOUR,
    MINUTE,
    ago,
    append_log,
    attempts,
    execute,
    feed_types,
    process,
    reconcile,
    reconciler,
    rows,
    store_delivery,
    value,
)
from tests.support.retention_steps import SHORTEST, days_pass, ems, retain

if TYPE_CHECKING:
    from datetime import timedelta

    from tests.support.world import World

CREATED = "card_holder.created"
DELETED = "card_holder.deleted"
CLEARED = "card.transaction.cleared"
TABLES = ", ".join(table.fullname for table in target_metadata().sorted_tables if table.name != "webhooks")
OLD = 100
LONG_AGO = OLD * DAY
ALL = (OLD + 20) * DAY

deliveries = st.sampled_from(
    [
        (CREATED, card_holder()),
        (DELETED, card_holder()),
        ("card_holder.identified", card_holder()),
        ("card.transaction.authorized", snapshot("authorized")),
        (CLEARED, snapshot("cleared")),
        (CLEARED, snapshot("cleared", original_amount=1)),
        (CLEARED, {"nonsense": True}),
        ("transaction.true.vat", enrichment("transaction.true.vat")),
        ("receipt.fetched", enrichment("receipt.fetched")),
        ("card.lost", {"id": "unknown"}),
    ]
)
stories = st.lists(st.tuples(deliveries, st.integers(0, 50)), min_size=1, max_size=12)


def log_deliveries(world: World, event: str, payload: Any, *, before: timedelta) -> None:
    """Let OpenCard deliver: its log has it, and so has the receiver."""
    append_log(world, attempts(event, payload, 200, at=ago(before)))
    store_delivery(world, event, payload, at=ago(before))


def replay_all(world: World) -> None:
    """Process all of it again that still has its body."""
    execute(world, "INSERT INTO receiver.queue (delivery_id) SELECT delivery_id FROM receiver.bodies")
    process(world)


def processed_on_arrival(world: World) -> None:
    execute(
        world,
        "UPDATE receiver.outcomes AS outcome SET processed_at = stored.received_at"
        " FROM receiver.stored_deliveries AS stored WHERE stored.id = outcome.delivery_id",
    )


def reset(world: World) -> None:
    execute(world, f"TRUNCATE {TABLES} CASCADE")
    world.provider.state.log_of(world.registered().id).entries.clear()  # type: ignore[attr-defined]


@pytest.mark.long
@given(story=stories, kept=st.sampled_from([*SHORTEST, None]))
@settings(
    deadline=None,
    max_examples=25,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_retention_neither_loses_nor_restores_ems_rows(
    acme: World, story: list[tuple[tuple[str, Any], int]], kept: str | None
) -> None:
    reset(acme)
    for (event, payload), hours in sorted(story, key=lambda each: -each[1]):
        log_deliveries(acme, event, payload, before=LONG_AGO + hours * HOUR)
    process(acme)
    processed_on_arrival(acme)
    before = ems(acme.engine)
    counts = "SELECT status, count(*) FROM receiver.deliveries GROUP BY status ORDER BY status"
    statuses = rows(acme, counts)
    limits = {**SHORTEST, **({} if kept is None else {kept: 0})}
    assert retain(acme.engine, acme.settings, **limits).caught_up
    assert ems(acme.engine) == before
    replay_all(acme)
    outcome = reconcile(acme, since=ago(ALL))
    assert (outcome.recovered, outcome.unrecoverable, outcome.unconfirmed) == (0, 0, 0)
    process(acme)
    assert ems(acme.engine) == before
    assert rows(acme, counts) == statuses


def test_losses_older_than_kept_deliveries_are_recovered(acme: World) -> None:
    log_deliveries(acme, CLEARED, snapshot("cleared"), before=LONG_AGO)
    process(acme)
    days_pass(acme.engine, 20)
    retain(acme.engine, acme.settings, **SHORTEST)
    append_log(acme, attempts(CLEARED, snapshot("cleared"), 200, at=ago(LONG_AGO - HOUR)))
    append_log(acme, attempts(CREATED, card_holder(), 503, at=ago(LONG_AGO)))
    days_pass(acme.engine, -20)
    assert reconcile(acme, since=ago(ALL)).recovered == 2
    process(acme)
    assert [row["status"] for row in rows(acme, "SELECT status FROM receiver.deliveries ORDER BY id")] == [
        "processed",
        "processed",
        "duplicate",
    ]
    assert feed_types(acme) == [CLEARED, CREATED]


def test_failed_retry_of_an_old_event_is_not_an_event(acme: World) -> None:
    log_deliveries(acme, CLEARED, snapshot("cleared"), before=LONG_AGO + HOUR)
    process(acme)
    processed_on_arrival(acme)
    retain(acme.engine, acme.settings, **SHORTEST)
    append_log(acme, attempts(CLEARED, snapshot("cleared"), 503, at=ago(LONG_AGO - HOUR)))
    assert reconcile(acme, since=ago(LONG_AGO)).recovered == 0


def test_reconcile_state_survives_deletion_of_runs(acme: World) -> None:
    log_deliveries(acme, CREATED, card_holder(), before=MINUTE)
    for _ in range(3):
        reconcile(acme)
    days_pass(acme.engine, 40)
    before = rows(acme, "SELECT * FROM receiver.reconcile_state")
    retain(acme.engine, acme.settings, retain_log_days=30)
    assert rows(acme, "SELECT * FROM receiver.reconcile_state") == before
    assert value(acme, "SELECT count(*) FROM receiver.reconcile_runs") == 1
    assert value(acme, "SELECT count(*) FROM receiver.delivery_log") == 0


def test_unrecoverable_entry_without_time_stays_in_mirror(acme: World) -> None:
    without_payload = append_log(acme, attempts(CLEARED, snapshot("cleared"), 200, at=ago(MINUTE)))
    acme.provider.behaviour.log_style = LogStyle(without_payload=frozenset(without_payload))
    assert reconcile(acme).unrecoverable == 1
    execute(acme, "UPDATE receiver.delivery_log SET attempted_at = NULL")
    days_pass(acme.engine, 40)
    retain(acme.engine, acme.settings, retain_log_days=30)
    assert value(acme, "SELECT count(*) FROM receiver.delivery_log WHERE unrecoverable") == 1


def create_and_delete_card_holder(world: World, *, before: timedelta) -> None:
    """Create and delete a person, with both in OpenCard's log."""
    log_deliveries(world, CREATED, card_holder(), before=before + HOUR)
    log_deliveries(world, CLEARED, snapshot("cleared"), before=before + 2 * MINUTE)
    log_deliveries(world, DELETED, card_holder(), before=before)
    process(world)


def erase(world: World) -> None:
    assert retain(world.engine, world.settings, erase_card_holders_days=30).caught_up


def test_reconcile_restores_nothing_of_an_erased_card_holder(acme: World) -> None:
    create_and_delete_card_holder(acme, before=LONG_AGO)
    erase(acme)
    before = ems(acme.engine)
    outcome = reconcile(acme, since=ago(ALL))
    assert (outcome.matched, outcome.recovered, outcome.unconfirmed) == (3, 0, 0)
    process(acme)
    begins = {"ems.organizations": ANY}  # the log's oldest entry is known now
    assert ems(acme.engine) | begins == before | begins
    assert {bytes(row["item"]) for row in rows(acme, "SELECT item FROM receiver.delivery_log")} == {b'{"erased":true}'}


def test_card_holder_erased_during_a_run_is_not_mirrored(acme: World) -> None:
    create_and_delete_card_holder(acme, before=LONG_AGO)
    acme.provider.behaviour.before_page = lambda _path, _page: erase(acme)
    (refused,) = reconciler(acme).run(since=ago(ALL))
    assert refused.error == "card holders were erased during the run: run again"
    assert rows(acme, "SELECT item FROM receiver.delivery_log") == []
    acme.provider.behaviour.before_page = lambda _path, _page: None
    reconcile(acme, since=ago(ALL))
    assert {bytes(row["item"]) for row in rows(acme, "SELECT item FROM receiver.delivery_log")} == {b'{"erased":true}'}


def test_lost_event_of_erased_card_holder_gets_the_pseudonym(acme: World) -> None:
    create_and_delete_card_holder(acme, before=LONG_AGO)
    erase(acme)
    append_log(acme, attempts("card.transaction.invoiced", snapshot("invoiced"), 503, at=ago(LONG_AGO - HOUR)))
    assert reconcile(acme, since=ago(ALL)).recovered == 1
    process(acme)
    assert reconcile(acme, since=ago(ALL)).recovered == 0
    row = rows(acme, "SELECT state, card_holder_reference_id FROM ems.transactions")[0]
    assert (row["state"], row["card_holder_reference_id"][:7]) == ("invoiced", "erased-")
    assert value(acme, "SELECT count(body) FROM receiver.deliveries") == 0


def test_unfinished_erasure_leaves_nothing_missing(acme: World, monkeypatch: pytest.MonkeyPatch) -> None:
    create_and_delete_card_holder(acme, before=LONG_AGO)
    log_deliveries(acme, "card.transaction.invoiced", snapshot("invoiced"), before=DAY)
    log_deliveries(acme, CLEARED, {"nonsense": True, **card_holder()}, before=DAY)
    process(acme)
    monkeypatch.setattr("receiver.ops.retention.erasure.SLICE", 1)
    unfinished = "SELECT count(*) FROM receiver.erased_card_holders WHERE finished_at IS NULL"
    seen = []
    for step in range(1, 9):
        stop = StopAfter(step)
        retain(acme.engine, acme.settings, pace=Pace(rest=0, stop=stop), erase_card_holders_days=30)
        seen.append(value(acme, unfinished))
        assert reconcile(acme, since=ago(ALL)).recovered == 0, step
    assert (seen[0], seen[-1]) == (1, 0)


class StopAfter(threading.Event):
    """Asks a run to end before its step of a given number."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0

    def wait(self, timeout: float | None = None) -> bool:
        del timeout
        return False

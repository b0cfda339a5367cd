"""Each kind of data that retention deletes, and what stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from receiver.ops.retention.walk import PASS
from tests.support.factories import card_holder, snapshot
from tests.support.retention_steps import SHORTEST, days_pass, ems, removed, retain

if TYPE_CHECKING:
    from receiver.settings import Settings
    from tests.conftest import Acme

AUTHORIZED = "card.transaction.authorized"
PROCESSED_ON_ARRIVAL = (
    "UPDATE receiver.outcomes AS outcome SET processed_at = stored.received_at"
    " FROM receiver.stored_deliveries AS stored WHERE stored.id = outcome.delivery_id"
)
CLEARED = "card.transaction.cleared"


def bodies(acme: Acme) -> list[bool]:
    """Return of each delivery, in order of arrival, whether it has its body."""
    return [row["kept"] for row in acme.rows("SELECT body IS NOT NULL AS kept FROM receiver.deliveries ORDER BY id")]


@pytest.fixture
def one_of_each(acme: Acme) -> Acme:
    """A processed delivery, a duplicate, one that makes no sense, one that is unknown, and one that waits."""
    for event, payload in (
        (CLEARED, snapshot("cleared")),
        (CLEARED, snapshot("cleared")),
        (CLEARED, {"nonsense": True}),
        ("card.lost", {"id": "1"}),
    ):
        acme.deliver_ok(event, payload)
    acme.process()
    acme.deliver_ok(AUTHORIZED, snapshot("authorized"))
    assert acme.statuses() == ["processed", "duplicate", "dead", "ignored", "pending"]
    return acme


def test_without_limits_everything_stays(one_of_each: Acme, settings: Settings) -> None:
    days_pass(one_of_each.engine, 5000)
    outcome = retain(one_of_each.engine, settings)
    assert (removed(outcome), outcome.caught_up) == ({}, True)
    assert bodies(one_of_each) == [True] * 5


@pytest.mark.parametrize(
    ("setting", "kind", "left"),
    [
        ("retain_processed_days", "processed_bodies", [False, True, True, True, True]),
        ("retain_duplicate_days", "duplicate_bodies", [True, False, True, True, True]),
        ("retain_failed_days", "failed_bodies", [True, True, False, False, True]),
    ],
)
def test_limits_delete_their_bodies_and_keep_pending_ones(
    one_of_each: Acme, settings: Settings, setting: str, kind: str, left: list[bool]
) -> None:
    limit: dict[str, Any] = {setting: 20}
    days_pass(one_of_each.engine, 19)
    assert removed(retain(one_of_each.engine, settings, **limit)) == {}
    days_pass(one_of_each.engine, 2)
    rows = ems(one_of_each.engine)
    outcome = removed(retain(one_of_each.engine, settings, **limit))
    assert outcome[kind] == left.count(False)
    assert bodies(one_of_each) == left
    assert ems(one_of_each.engine) == rows
    emptied = "SELECT headers, fingerprint IS NULL AS unknown FROM receiver.deliveries WHERE body IS NULL"
    assert one_of_each.rows(emptied) == [{"headers": {}, "unknown": False}] * left.count(False)


def test_late_completion_postpones_retention(one_of_each: Acme, settings: Settings) -> None:
    days_pass(one_of_each.engine, 30)
    one_of_each.process()
    assert removed(retain(one_of_each.engine, settings, retain_processed_days=20)) == {"processed_bodies": 1}
    assert bodies(one_of_each) == [False, True, True, True, True]


def test_rows_that_a_walk_missed_are_found_by_the_next_one(one_of_each: Acme, settings: Settings) -> None:
    days_pass(one_of_each.engine, 30)
    retain(one_of_each.engine, settings, retain_processed_days=20)
    one_of_each.process()
    one_of_each.execute(PROCESSED_ON_ARRIVAL)
    assert removed(retain(one_of_each.engine, settings, retain_processed_days=20)) == {}
    one_of_each.execute(
        "UPDATE receiver.retention_walks SET pass_began_at = pass_began_at - CAST(:span AS interval)", span=PASS
    )
    assert removed(retain(one_of_each.engine, settings, retain_processed_days=20)) == {"processed_bodies": 1}


def test_delivery_selected_for_replay_keeps_its_body(one_of_each: Acme, settings: Settings) -> None:
    one_of_each.execute("INSERT INTO receiver.replays (requested_by, reason, filter) VALUES ('me', 'because', '{}')")
    one_of_each.execute(
        "INSERT INTO receiver.replay_deliveries (replay_id, delivery_id, status_before)"
        " SELECT replays.id, deliveries.id, status FROM receiver.replays, receiver.deliveries WHERE status = 'dead'"
    )
    days_pass(one_of_each.engine, 30)
    assert removed(retain(one_of_each.engine, settings, retain_failed_days=14)) == {"failed_bodies": 1}
    one_of_each.execute("UPDATE receiver.replay_deliveries SET outcome = 'dead'")
    one_of_each.execute("UPDATE receiver.retention_walks SET position = 0")
    assert removed(retain(one_of_each.engine, settings, retain_failed_days=14)) == {"failed_bodies": 1}


def test_traces_go_but_not_of_what_is_still_tried(one_of_each: Acme, settings: Settings) -> None:
    count = "SELECT count(*) FROM receiver.processing_attempts"
    one_of_each.execute(
        "INSERT INTO receiver.processing_attempts (delivery_id, number, outcome, error)"
        " SELECT id, 1, 'failed', 'why' FROM receiver.deliveries WHERE status = 'pending'"
    )
    assert one_of_each.value(count) == 3
    days_pass(one_of_each.engine, 15)
    assert removed(retain(one_of_each.engine, settings, retain_traces_days=14)) == {"processing_attempts": 2}
    assert one_of_each.value(count) == 1
    assert one_of_each.value("SELECT count(error) FROM receiver.deliveries") == 2, "the last error stays"


def test_ended_replay_loses_its_deliveries_and_keeps_its_record(one_of_each: Acme, settings: Settings) -> None:
    for ended in ("now()", "NULL"):
        one_of_each.execute(
            f"INSERT INTO receiver.replays (requested_by, reason, filter, ended_at) VALUES ('me', '', '{{}}', {ended})"  # noqa: S608
        )
    one_of_each.execute(
        "INSERT INTO receiver.replay_deliveries (replay_id, delivery_id, status_before)"
        " SELECT replays.id, deliveries.id, status FROM receiver.replays, receiver.deliveries"
    )
    days_pass(one_of_each.engine, 15)
    assert removed(retain(one_of_each.engine, settings, retain_traces_days=14))["replay_deliveries"] == 5
    left = one_of_each.rows("SELECT ended_at FROM receiver.replay_deliveries JOIN receiver.replays ON id = replay_id")
    assert left == [{"ended_at": None}] * 5
    assert one_of_each.value("SELECT count(*) FROM receiver.replays") == 2


def test_queued_delivery_keeps_its_body(one_of_each: Acme, settings: Settings) -> None:
    days_pass(one_of_each.engine, 30)
    one_of_each.execute(
        "INSERT INTO receiver.queue (delivery_id) SELECT id FROM receiver.deliveries WHERE fingerprint IS NOT NULL"
        " AND event = :event ORDER BY id LIMIT 1",
        event=CLEARED,
    )
    retain(one_of_each.engine, settings, **SHORTEST)
    assert bodies(one_of_each) == [True, False, False, False, True]


def test_the_event_log_is_kept_for_good(acme: Acme, settings: Settings) -> None:
    acme.apply("card_holder.created", card_holder())
    days_pass(acme.engine, 5000)
    retain(acme.engine, settings, **SHORTEST)
    assert acme.value("SELECT count(*) FROM ems.events") == 1


def test_processing_again_without_a_body_changes_nothing(one_of_each: Acme, settings: Settings) -> None:
    one_of_each.process()
    days_pass(one_of_each.engine, 30)
    retain(one_of_each.engine, settings, **SHORTEST)
    before, statuses = ems(one_of_each.engine), one_of_each.statuses()
    one_of_each.execute(
        "INSERT INTO receiver.queue (delivery_id) SELECT delivery_id FROM receiver.outcomes"
        " WHERE status IN ('processed', 'duplicate')"
    )
    one_of_each.process()
    assert (ems(one_of_each.engine), one_of_each.statuses()) == (before, statuses)


def test_a_dry_run_counts_what_a_run_deletes_and_writes_nothing(one_of_each: Acme, settings: Settings) -> None:
    days_pass(one_of_each.engine, 30)

    def everything() -> list[object]:
        tables = ("bodies", "outcomes", "processing_attempts", "retention_runs", "retention_walks")
        return [one_of_each.rows(f"SELECT xmin, t.* FROM receiver.{table} AS t ORDER BY t::text") for table in tables]  # noqa: S608

    before = everything()
    planned = retain(one_of_each.engine, settings, write=False, **SHORTEST)
    assert everything() == before
    assert removed(planned) == removed(retain(one_of_each.engine, settings, **SHORTEST))
    assert removed(planned) == {
        "processed_bodies": 1,
        "duplicate_bodies": 1,
        "failed_bodies": 2,
        "processing_attempts": 2,
    }

"""A replay processes stored deliveries again, and reports the outcomes."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from receiver.db import dedicated_connection
from receiver.deliveries.models import ABANDONED
from receiver.errors import OperationRefused
from receiver.ops.deliveries import Filter, read_delivery
from receiver.ops.replay import cancel_replay, start_replay
from receiver.ops.replay_selection import preview
from receiver.ops.replay_state import list_replays, what_failed
from receiver.processing.batch import apply
from receiver.processing.replays import queue_replayed
from tests.support.factories import card_holder, sample, snapshot
from tests.support.processing_steps import feed
from tests.support.replay_steps import counts, fail_with, ids, replay, start, state

if TYPE_CHECKING:
    import psycopg

    from receiver.encryption import Encryption
    from receiver.processing.claim import Claim
    from receiver.processing.failures import AttemptOutcome
    from tests.conftest import Acme, Organizations

EVENT = "card.transaction.cleared"
DEAD = Filter(statuses=("dead",))


def let_die(acme: Acme, monkeypatch: pytest.MonkeyPatch, *transactions: str) -> None:
    """Let deliveries of these transactions end as dead, for a cause that is fixed then."""
    fail_with(monkeypatch, RuntimeError("a disk is full"))
    for transaction in transactions:
        acme.deliver_ok(EVENT, snapshot("cleared", transaction=transaction))
    acme.execute("UPDATE receiver.queue SET attempts = 7")
    acme.process()
    fail_with(monkeypatch, None)


def test_dead_delivery_is_applied_once_the_cause_is_fixed(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    let_die(acme, monkeypatch, "t1", "t2")
    assert acme.statuses() == ["dead", "dead"]
    replayed = replay(acme, DEAD)
    assert counts(replayed) == (2, 2, 0)
    assert (replayed.requested_by, replayed.reason) == ("kim@ops", "the cause is fixed")
    assert replayed.filter == {"statuses": ["dead"]}
    assert acme.statuses() == ["processed", "processed"]
    assert feed(acme) == [EVENT, EVENT]


def test_a_replay_by_ids_processes_those_alone(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    let_die(acme, monkeypatch, "t1", "t2", "t3")
    first, _, third = ids(acme)
    assert counts(replay(acme, (third, first, first))) == (2, 2, 0)
    assert acme.statuses() == ["processed", "dead", "processed"]


def test_a_limit_takes_the_newest_that_can_be_replayed(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    let_die(acme, monkeypatch, "t1", "t2", "t3", "t4")
    acme.execute("DELETE FROM receiver.bodies WHERE delivery_id = (SELECT max(id) FROM receiver.stored_deliveries)")
    monkeypatch.setattr("receiver.ops.replay_selection.DELIVERIES_AT_ONCE", 2)
    with acme.engine.connect() as connection:
        seen = preview(connection, DEAD, limit=2)
    assert (seen.selected, seen.without_body, [group.number for group in seen.groups]) == (2, 1, [2])
    replayed = replay(acme, DEAD, limit=2)
    assert (counts(replayed), replayed.filter) == ((2, 2, 0), {"statuses": ["dead"], "limit": 2})
    assert acme.statuses() == ["dead", "processed", "processed", "dead"]


def test_until_it_is_processed_a_delivery_keeps_its_status(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    let_die(acme, monkeypatch, "t1")
    running = state(acme, start(acme, DEAD))
    assert (running.state, counts(running), acme.statuses()) == ("running", (1, 0, 0), ["dead"])


def test_repeated_failures_are_counted_and_named(acme: Acme) -> None:
    acme.apply(EVENT, b'{"id": 5}')
    acme.apply(EVENT, snapshot("cleared"))
    replayed = replay(acme, tuple(ids(acme)))
    assert counts(replayed) == (2, 1, 1)
    with acme.engine.connect() as connection:
        (failed,) = what_failed(connection, replayed.replay_id)
    assert (failed.status, failed.event, failed.number) == ("dead", EVENT, 1)
    assert failed.error
    assert acme.statuses() == ["dead", "processed"]


def test_replay_keeps_its_errors_after_a_later_success(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    let_die(acme, monkeypatch, "t1")
    fail_with(monkeypatch, RuntimeError("still full"))
    failing = replay(acme, DEAD)
    fail_with(monkeypatch, None)
    replay(acme, tuple(ids(acme)))
    assert acme.statuses() == ["processed"]
    with acme.engine.connect() as connection:
        (failed,) = what_failed(connection, failing.replay_id)
    assert (failed.status, failed.error) == ("failed", "RuntimeError: still full")


def test_failure_of_a_replay_restarts_the_pauses(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    let_die(acme, monkeypatch, "t1")
    fail_with(monkeypatch, RuntimeError("still full"))
    assert counts(replay(acme, DEAD)) == (1, 0, 1)
    row = acme.row(
        "SELECT status, attempts, next_attempt_at < now() + interval '15 s' AS soon FROM receiver.deliveries"
    )
    assert row == {"status": "failed", "attempts": 9, "soon": True}
    for attempt in range(2, 9):
        acme.execute("UPDATE receiver.queue SET due_at = now()")
        acme.process()
        assert acme.statuses() == ["failed" if attempt < 8 else "dead"]
    numbers = acme.rows("SELECT number FROM receiver.processing_attempts ORDER BY id")
    assert [row["number"] for row in numbers] == [*range(8, 17)]


def test_replay_tries_failed_deliveries_at_once(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, RuntimeError("a disk is full"))
    acme.apply(EVENT, snapshot("cleared"))
    fail_with(monkeypatch, None)
    assert counts(replay(acme, Filter(statuses=("failed",)))) == (1, 1, 0)
    row = acme.row("SELECT status, error, next_attempt_at FROM receiver.deliveries")
    assert row == {"status": "processed", "error": None, "next_attempt_at": None}


def test_an_unknown_event_is_handled_after_an_upgrade(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    ignored = Filter(statuses=("ignored",))
    with monkeypatch.context() as before:
        before.setattr("receiver.events.parse.canonical_name", lambda _: None)
        acme.apply(EVENT, snapshot("cleared"))
        assert counts(replay(acme, ignored)) == (1, 0, 1)
        assert acme.statuses() == ["ignored"]
    assert counts(replay(acme, ignored)) == (1, 1, 0)
    assert (acme.statuses(), feed(acme)) == (["processed"], [EVENT])


def test_event_of_another_tenant_stays_quarantined(organizations: Organizations) -> None:
    acme = organizations.adopt("acme")
    acme.apply("card_holder.created", card_holder(organization="globex"))
    quarantined = Filter(statuses=("quarantined",))
    assert counts(replay(acme, quarantined)) == (1, 0, 1)
    assert (acme.statuses(), feed(acme)) == (["quarantined"], [])
    acme.execute("UPDATE receiver.webhooks SET organization_reference_id = 'globex'")
    assert counts(replay(acme, quarantined)) == (1, 1, 0)
    assert (acme.statuses(), feed(acme)) == (["processed"], ["card_holder.created"])


def test_a_retry_stays_a_retry_and_an_event_an_event(acme: Acme) -> None:
    for event, payload in ((EVENT, snapshot("cleared")), ("card_holder.created", card_holder())):
        acme.apply(event, payload)
        acme.apply(event, payload)
    statuses = acme.statuses()
    assert statuses == ["processed", "duplicate"] * 2
    assert counts(replay(acme, tuple(ids(acme)))) == (4, 4, 0)
    assert acme.statuses() == statuses
    assert len(feed(acme)) == 2


def test_replay_keeps_equal_events_of_different_days(acme: Acme) -> None:
    for days in (3, 0):
        acme.deliver_ok(EVENT, snapshot("cleared"))
        acme.execute(
            "UPDATE receiver.stored_deliveries SET occurred_at = now() - make_interval(days => :days)"
            " WHERE id IN (SELECT delivery_id FROM receiver.queue)",
            days=days,
        )
        acme.process()
    assert counts(replay(acme, tuple(ids(acme)))) == (2, 2, 0)
    assert acme.statuses() == ["processed", "processed"]


def test_delivery_that_crashed_a_worker_is_replayed_alone(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    let_die(acme, monkeypatch, "t1", "t2", "t3")
    acme.execute(
        "UPDATE receiver.outcomes SET error = :abandoned WHERE delivery_id = :id", abandoned=ABANDONED, id=ids(acme)[1]
    )
    start(acme, DEAD)
    members = acme.rows("SELECT alone FROM receiver.replay_deliveries ORDER BY delivery_id")
    assert [row["alone"] for row in members] == [False, True, False]
    acme.process()
    assert acme.statuses() == ["processed"] * 3


def test_the_bad_delivery_of_a_batch_spoils_no_other(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    let_die(acme, monkeypatch, "t1", "bad", "t3")

    def fail_on_one(
        connection: psycopg.Connection[Any], claim: Claim, encryption: Encryption | None
    ) -> list[AttemptOutcome]:
        if any(b'"bad"' in (delivery.body or b"") for delivery in claim.deliveries):
            raise RuntimeError("it is bad")
        return apply(connection, claim, encryption)

    monkeypatch.setattr("receiver.processing.drain.apply", fail_on_one)
    assert counts(replay(acme, DEAD)) == (3, 2, 1)
    assert acme.statuses() == ["processed", "failed", "processed"]


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_a_replay_without_a_reason_is_refused(acme: Acme, reason: str) -> None:
    with pytest.raises(OperationRefused, match="needs a reason"):
        start(acme, DEAD, reason=reason)
    with pytest.raises(OperationRefused, match="needs ids or a filter"):
        start(acme, Filter())
    assert acme.value("SELECT count(*) FROM receiver.replays") == 0


def test_a_replay_of_nothing_leaves_no_record(acme: Acme) -> None:
    assert start_replay(acme.engine, DEAD, requested_by="kim@ops", reason="the cause is fixed") is None
    assert acme.value("SELECT count(*) FROM receiver.replays") == 0


def test_delivery_without_a_body_is_not_selected(acme: Acme) -> None:
    for reference in ("employee-1", "employee-2"):
        acme.apply("card_holder.created", card_holder(reference))
    first, _ = ids(acme)
    acme.execute("DELETE FROM receiver.bodies WHERE delivery_id = :id", id=first)
    assert counts(replay(acme, Filter(statuses=("processed",)))) == (1, 1, 0)
    assert start_replay(acme.engine, (first,), requested_by="kim@ops", reason="the cause is fixed") is None


def test_once_a_replay_is_cancelled_no_worker_takes_more_of_it(acme: Acme) -> None:
    acme.apply("card_holder.created", card_holder())
    replay_id = start(acme, tuple(ids(acme)))
    cancel_replay(acme.engine, replay_id, cancelled_by="kim@ops")
    with closing(dedicated_connection(acme.engine)) as connection:
        assert not queue_replayed(connection, 10)


def test_an_id_that_is_none_is_named_and_nothing_is_replayed(acme: Acme) -> None:
    acme.apply("tpa.signed", sample("tpa.signed"))
    with pytest.raises(OperationRefused, match="there is no delivery 4711"):
        start(acme, (*ids(acme), 4711))
    assert acme.value("SELECT count(*) FROM receiver.replays") == 0


def test_nul_and_markup_in_a_reason_are_kept_as_words(acme: Acme) -> None:
    acme.apply("card_holder.created", b"{}")
    acme.execute("UPDATE receiver.outcomes SET error = '<script>\N{REPLACEMENT CHARACTER}'")
    replay_id = start(acme, Filter(error="<script>\0"), by="kim\0", reason="<script>alert(1)</script>\0")
    kept = state(acme, replay_id)
    assert kept.reason == "<script>alert(1)</script>\N{REPLACEMENT CHARACTER}"
    assert kept.filter == {"error": "<script>\N{REPLACEMENT CHARACTER}"}


def test_a_delivery_shows_the_replays_that_it_was_part_of(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    let_die(acme, monkeypatch, "t1")
    first, second = replay(acme, DEAD), start(acme, tuple(ids(acme)), by="alex@ops")
    with acme.engine.connect() as connection:
        details = read_delivery(connection, ids(acme)[0])
        listed = list_replays(connection)
        assert [each.replay_id for each in list_replays(connection, before=second)] == [first.replay_id]
    assert details is not None
    assert [(each.replay_id, each.status_before, each.outcome) for each in details.replays] == [
        (first.replay_id, "dead", "processed"),
        (second, "processed", None),
    ]
    assert [(each.replay_id, each.state) for each in listed] == [(second, "running"), (first.replay_id, "ended")]

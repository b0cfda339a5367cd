"""Retracting during replays, by several workers at once, and after a month was closed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy import make_url, text

from receiver.errors import OperationRefused
from receiver.locks import Lock
from receiver.ops.closing import close_month, read_certificate, verify_closing
from receiver.ops.replay import cancel_replay
from tests.ops.test_closing import LATE, MONTH
from tests.ops.test_retracting import CLEARED, GENUINE, applied, retract, undo
from tests.support.factories import card_holder, snapshot
from tests.support.following import as_reader, following
from tests.support.processing_steps import delete_bodies, process_again
from tests.support.program import db
from tests.support.replay_steps import fail_with, replay, start
from tests.support.roles import new_role
from tests.support.session_locks import WAITING
from tests.support.verifying import contents, found, rebuilt
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Acme


def test_delivery_in_a_running_replay_is_not_retracted(acme: Acme) -> None:
    dead, *_ = applied(acme, (CLEARED, b"{}"))
    replay_id = start(acme, (dead,))
    with pytest.raises(OperationRefused, match="a replay that has not ended processes it"):
        retract(acme, dead)
    cancel_replay(acme.engine, replay_id, cancelled_by="kim@ops")
    acme.process()
    retract(acme, dead)
    assert found(acme) == []


def test_event_is_retracted_though_its_replay_failed(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    (forged,) = applied(acme, GENUINE[1])
    before = contents(acme)
    fail_with(monkeypatch, psycopg.DataError("out of range"))
    replay(acme, (forged,))
    assert acme.statuses() == ["dead"]
    retract(acme, forged)
    assert (acme.rows("SELECT FROM ems.ledger"), found(acme)) == ([], [])
    undo(acme, forged)
    assert (contents(acme), found(acme)) == (before, [])


def test_repeats_are_retracted_in_several_transactions(acme: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.ops.retracting.RETRACTED_AT_ONCE", 1)
    deliveries = applied(acme, *[GENUINE[1]] * 3)
    before = contents(acme)
    retract(acme, *deliveries)
    acme.process()
    assert (acme.rows("SELECT FROM ems.transactions"), found(acme)) == ([], [])
    undo(acme, *deliveries)
    assert (contents(acme), found(acme)) == (before, [])
    assert acme.statuses() == ["processed", "duplicate", "duplicate"]


def test_retraction_and_worker_end_without_a_deadlock(acme: Acme) -> None:
    forged, repeat = applied(acme, GENUINE[1], GENUINE[1])
    acme.execute("INSERT INTO receiver.queue (delivery_id) VALUES (:id)", id=repeat)
    with ThreadPoolExecutor(1) as pool, acme.engine.connect() as worker:
        worker.execute(text("DELETE FROM receiver.queue WHERE delivery_id = :id"), {"id": repeat})
        retracted = pool.submit(retract, acme, forged)
        assert eventually(lambda: acme.value(WAITING) == 1)
        worker.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": int(Lock.FEED)})
        worker.commit()
        retracted.result(timeout=60)
    acme.process()
    assert acme.value("SELECT delivery_id FROM ems.transactions") == repeat
    assert found(acme) == []


def test_worker_and_retraction_of_one_purchase(acme: Acme) -> None:
    deliveries = applied(
        acme, *((CLEARED, snapshot("cleared", accounting_amount=Decimal(number))) for number in range(1, 9))
    )
    for number in range(20, 28):
        acme.deliver_ok(CLEARED, snapshot("cleared", accounting_amount=Decimal(number)))
    acme.execute("UPDATE receiver.queue SET alone = true")
    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(retract, acme, each) for each in deliveries]
        acme.process()
        for each in done:
            each.result(timeout=60)
    assert found(acme) == []
    assert acme.value("SELECT accounting_amount FROM ems.ledger") == 27
    assert acme.value("SELECT sum(accounting_amount) FROM ems.ledger_journal") == 27


def test_retraction_is_one_late_change_of_a_closed_month(acme: Acme) -> None:
    _, forged = applied(acme, GENUINE[1], (CLEARED, snapshot("cleared", accounting_amount=Decimal(99))))
    close_month(acme.engine, "acme", MONTH, by="operator", acknowledge="unconfirmed")
    retract(acme, forged)
    row = acme.row(LATE)
    assert (row["kind"], row["changed"], row["accounting_amount_before"]) == ("changed", ["accounting_amount"], 99)
    certificate = read_certificate(acme.engine, "acme", MONTH)
    assert (certificate.late_changes, verify_closing(acme.engine, certificate)) == (1, {})
    undo(acme, forged)
    assert [row["accounting_amount_after"] for row in acme.rows(LATE)][-1] == 99
    certificate = read_certificate(acme.engine, "acme", MONTH)
    assert (certificate.late_changes, verify_closing(acme.engine, certificate)) == (2, {})


def test_undone_though_the_bodies_were_deleted(acme: Acme) -> None:
    deliveries = applied(acme, *GENUINE)
    before = contents(acme)
    delete_bodies(acme)
    retract(acme, *deliveries)
    assert (rebuilt(acme), not any(contents(acme).values())) == ([], True)
    undo(acme, *deliveries)
    assert (contents(acme), rebuilt(acme)) == (before, [])
    process_again(acme)
    assert (contents(acme), found(acme)) == (before, [])


def test_rebuild_does_not_count_what_is_retracted(acme: Acme) -> None:
    _, forged, _ = applied(acme, GENUINE[1], (CLEARED, snapshot("cleared", accounting_amount=Decimal(99))), GENUINE[6])
    retract(acme, forged)
    before = contents(acme)
    acme.execute(
        "UPDATE ems.events SET payload = jsonb_set(payload, '{accounting_amount}', '5') "
        "WHERE delivery_id = :id AND type = :type",
        id=forged,
        type=CLEARED,
    )
    acme.execute("UPDATE ems.transactions SET accounting_amount = 1")
    assert rebuilt(acme)
    assert (contents(acme), found(acme)) == (before, [])


def test_reader_of_the_ledger_sees_both(acme: Acme, new_database: Callable[[], str]) -> None:
    _, forged = applied(acme, GENUINE[1], (CLEARED, snapshot("cleared", accounting_amount=Decimal(99))))
    (purchase,) = applied(acme, (CLEARED, snapshot("cleared", transaction="forged")))
    url = acme.engine.url
    with new_role(url) as role:
        assert db(url, "grant-reader", role).exit_code == 0
        with following(as_reader(url, role), make_url(new_database())) as follower:
            assert {follower.line().split()[1] for _ in range(2)} == {"transaction-1", "forged"}
            retract(acme, forged)
            assert follower.line().startswith("acme transaction-1 cleared 1249.06 SEK")
            retract(acme, purchase)
            assert follower.line() == "acme forged left the ledger"
            undo(acme, purchase)
            assert follower.line().startswith("acme forged cleared")


def test_card_holder_who_was_created_by_a_forger(acme: Acme) -> None:
    forged, _ = applied(acme, ("card_holder.created", card_holder()), ("card_holder.identified", card_holder()))
    retract(acme, forged)
    row = acme.row("SELECT created_at, identified_at FROM ems.card_holders")
    assert (row["created_at"], row["identified_at"] is None, found(acme)) == (None, False, [])

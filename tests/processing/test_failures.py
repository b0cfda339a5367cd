"""Processing attempts that fail: for a time, permanently, or with a crash of the process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.deliveries.models import ABANDONED
from receiver.logs import configure_logs
from receiver.processing.claim import MAX_WORKER_CRASHES, Backlog
from receiver.processing.drain import Processor, drain
from receiver.processing.retry_schedule import PAUSES, pause_after
from receiver.records.write import writing_connection
from receiver.settings import LogFormat
from tests.support.factories import enrichment, sample, snapshot
from tests.support.processing_steps import end_leases

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    from sqlalchemy import Engine

    from receiver.processing.claim import Claim
    from tests.conftest import Acme

CLEARED = "card.transaction.cleared"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def refusing_database(acme: Acme) -> Iterator[Acme]:
    """A database that refuses TPAs named ``refused``, as one with a bug or a full disk would."""
    acme.execute("ALTER TABLE ems.tpas ADD CONSTRAINT refuses CHECK (name <> 'refused')")
    yield acme
    acme.execute("ALTER TABLE ems.tpas DROP CONSTRAINT IF EXISTS refuses")


def due_now(acme: Acme) -> None:
    acme.execute("UPDATE receiver.queue SET due_at = now()")


# --- retries -------------------------------------------------------------------------------------------------------


def test_the_pauses_are_those_promised() -> None:
    assert [pause_after(number, chance=0) for number in range(1, 9)] == [
        timedelta(seconds=10),
        MINUTE,
        5 * MINUTE,
        30 * MINUTE,
        120 * MINUTE,
        360 * MINUTE,
        timedelta(days=1),
        None,
    ]


@given(st.integers(1, len(PAUSES)), st.floats(0, 1))
def test_jitter_makes_a_pause_longer_by_a_fifth_at_most(failed: int, chance: float) -> None:
    pause = pause_after(failed, chance=chance)
    assert pause is not None
    assert PAUSES[failed - 1] <= pause <= PAUSES[failed - 1] * 1.2


def test_failed_delivery_waits_and_leaves_evidence(refusing_database: Acme) -> None:
    acme = refusing_database
    acme.apply("tpa.signed", sample("tpa.signed", name="refused"))
    row = acme.row(
        "SELECT status, attempts, error, next_attempt_at - now() BETWEEN '8 s' AND '12 s' AS soon "
        "FROM receiver.deliveries"
    )
    assert (row["status"], row["attempts"], row["soon"]) == ("failed", 1, True)
    assert "refuses" in row["error"]
    attempt = acme.row("SELECT number, outcome, error, trace FROM receiver.processing_attempts")
    assert (attempt["number"], attempt["outcome"], attempt["error"]) == (1, "failed", row["error"])
    assert "Traceback" in attempt["trace"]
    assert acme.value("SELECT count(*) FROM ems.events") == 0


def test_payloads_do_not_reach_the_evidence(refusing_database: Acme) -> None:
    acme = refusing_database
    acme.apply("tpa.signed", sample("tpa.signed", name="refused", url="https://private.invalid/"))
    attempt = acme.row("SELECT error, trace FROM receiver.processing_attempts")
    assert "private.invalid" not in attempt["error"] + attempt["trace"]
    assert acme.engine.hide_parameters


def test_a_failed_delivery_is_not_tried_before_its_time(refusing_database: Acme) -> None:
    acme = refusing_database
    acme.apply("tpa.signed", sample("tpa.signed", name="refused"))
    acme.process()
    assert acme.value("SELECT attempts FROM receiver.deliveries") == 1


@pytest.mark.usefixtures("unchanged_logging")
def test_delivery_that_keeps_failing_is_dead_at_the_end(
    refusing_database: Acme, capsys: pytest.CaptureFixture[str]
) -> None:
    acme = refusing_database
    configure_logs(level="ERROR", log_format=LogFormat.JSON)
    acme.apply("tpa.signed", sample("tpa.signed", name="refused"))
    for _ in PAUSES:
        due_now(acme)
        acme.process()
    logged = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(entry["event"], entry["status"]) for entry in logged] == [
        *[("delivery.failed", "failed")] * 7,
        ("delivery.failed", "dead"),
    ]
    pauses = [entry["next_attempt_in_seconds"] for entry in logged]
    assert pauses == [pytest.approx(pause.total_seconds(), rel=0.25) for pause in PAUSES] + [None]
    assert acme.row("SELECT status, attempts, next_attempt_at FROM receiver.deliveries") == {
        "status": "dead",
        "attempts": 8,
        "next_attempt_at": None,
    }
    outcomes = acme.rows("SELECT number, outcome FROM receiver.processing_attempts ORDER BY number")
    assert [tuple(row.values()) for row in outcomes] == [*((n, "failed") for n in range(1, 8)), (8, "dead")]


def test_next_attempt_applies_it_once_the_cause_is_fixed(refusing_database: Acme) -> None:
    acme = refusing_database
    acme.apply("tpa.signed", sample("tpa.signed", name="refused"))
    acme.execute("ALTER TABLE ems.tpas DROP CONSTRAINT refuses")
    due_now(acme)
    acme.process()
    assert acme.row("SELECT status, attempts, error FROM receiver.deliveries") == {
        "status": "processed",
        "attempts": 2,
        "error": None,
    }
    assert acme.value("SELECT name FROM ems.tpas") == "refused"


def test_the_others_of_a_failing_batch_are_applied(refusing_database: Acme) -> None:
    acme = refusing_database
    for number in range(10):
        acme.deliver_ok("tpa.signed", sample("tpa.signed", id=str(number), name="refused" if number == 4 else "fine"))
    acme.process()
    assert acme.statuses().count("processed") == 9
    assert acme.statuses()[4] == "failed"
    assert acme.value("SELECT count(*) FROM ems.events") == 9


# --- claims --------------------------------------------------------------------------------------------------------


def test_lease_that_ended_is_never_committed(acme: Acme, engine: Engine) -> None:
    acme.deliver_ok(CLEARED, snapshot("cleared"))
    with closing(Processor(engine)) as slow, closing(Processor(engine)) as other:

        def claim_and_lose(connection: psycopg.Connection[Any]) -> Claim | None:
            claim = Backlog().claim(connection, 10)
            end_leases(acme)
            other.drain()
            return claim

        slow.process("one", claim_and_lose)
    assert acme.row("SELECT status, attempts FROM receiver.deliveries") == {"status": "processed", "attempts": 1}
    assert acme.value("SELECT count(*) FROM ems.events") == 1


def test_outcome_of_a_lost_lease_is_not_written(acme: Acme, engine: Engine) -> None:
    acme.deliver_ok(CLEARED, snapshot("cleared"))
    with closing(Processor(engine)) as slow:

        def claim_and_lose(connection: psycopg.Connection[Any]) -> Claim | None:
            claim = Backlog().claim(connection, 10)
            acme.execute("UPDATE receiver.queue SET leased_until = leased_until + interval '1 ms'")
            return claim

        slow.process("one", claim_and_lose)
    assert acme.statuses() == ["pending"]
    assert acme.value("SELECT count(*) FROM ems.events") == 0


# --- the poison case -----------------------------------------------------------------------------------------------

KILLER = """
import os, signal, sys
from receiver.db import engine_for
from receiver.processing import batch
from receiver.processing.drain import Processor, drain

original = batch.fold

def die_of_poison(kind, events):
    if any(event.content.get("purchase_merchant") == "poison" for event in events):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(kind, events)

batch.fold = die_of_poison
drain(engine_for(sys.argv[1], application="killer"))
"""


def work_in_a_process_that_poison_kills(acme: Acme) -> int:
    """Drain in another process; return how it ended."""
    url = acme.engine.url.render_as_string(hide_password=False)
    return subprocess.run([sys.executable, "-c", KILLER, url], check=False, env={**os.environ}).returncode


def test_delivery_that_kills_workers_ends_dead_alone(acme: Acme) -> None:
    for number in range(10):
        merchant = "poison" if number == 3 else "fine"
        acme.deliver_ok(CLEARED, snapshot("cleared", transaction=f"t{number}", purchase_merchant=merchant))
    deaths = runs = 0
    while "dead" not in acme.statuses():
        deaths += work_in_a_process_that_poison_kills(acme) == -signal.SIGKILL
        runs += 1
        assert runs < 12, acme.statuses()
        end_leases(acme)
        due_now(acme)
    assert deaths == 1 + MAX_WORKER_CRASHES  # once with its batch, and then alone
    assert acme.statuses() == ["dead" if number == 3 else "processed" for number in range(10)]
    assert acme.value("SELECT count(*) FROM ems.transactions") == 9
    attempts = acme.rows("SELECT outcome, error FROM receiver.processing_attempts ORDER BY number")
    assert [row["outcome"] for row in attempts] == ["failed"] * (MAX_WORKER_CRASHES - 1) + ["dead"]
    assert {row["error"] for row in attempts} == {ABANDONED}
    assert acme.value("SELECT count(*) FROM receiver.queue") == 0
    assert acme.value("SELECT array_agg(deliveries ORDER BY at) FROM receiver.worker_deaths") == [10, 1, 1, 1]


def test_fresh_deliveries_are_applied_while_a_killer_waits(acme: Acme) -> None:
    acme.deliver_ok(CLEARED, snapshot("cleared", transaction="killer", purchase_merchant="poison"))
    assert work_in_a_process_that_poison_kills(acme) == -signal.SIGKILL
    acme.deliver_ok(CLEARED, snapshot("cleared", transaction="fresh"))
    end_leases(acme)
    due_now(acme)
    assert work_in_a_process_that_poison_kills(acme) in {0, -signal.SIGKILL}
    assert acme.statuses()[1] == "processed"


def test_lease_before_a_postgresql_restart_is_no_crash(acme: Acme, engine: Engine) -> None:
    acme.deliver_ok(CLEARED, snapshot("cleared"))
    acme.execute("UPDATE receiver.queue SET leased_until = '2026-01-01', attempts = 1, alone = true")
    assert drain(engine)
    assert acme.row("SELECT status, attempts FROM receiver.deliveries") == {"status": "processed", "attempts": 1}
    assert acme.value("SELECT count(*) FROM receiver.processing_attempts") == 0
    assert acme.value("SELECT count(*) FROM receiver.worker_deaths") == 0


def test_deliveries_that_a_living_worker_has_are_left_to_it(acme: Acme, engine: Engine) -> None:
    acme.deliver_ok(CLEARED, snapshot("cleared"))
    with closing(writing_connection(engine)) as connection:
        assert Backlog().claim(connection, 10) is not None
        assert drain(engine)
    assert acme.row("SELECT status, alone FROM receiver.deliveries") == {"status": "pending", "alone": False}


@pytest.mark.parametrize(
    ("event", "content", "status"),
    [
        (CLEARED, {**snapshot("cleared", transaction="t9"), "original_amount": "a lot"}, "dead"),
        (CLEARED, snapshot("cleared", transaction="t9", organization={"reference_id": "globex"}), "quarantined"),
        ("card.transaction.teleported", snapshot("cleared", transaction="t9"), "ignored"),
        ("receipt.fetched", {**enrichment("receipt.fetched", transaction="t9"), "url": None}, "dead"),
    ],
)
def test_delivery_that_is_not_applied_is_found_by_its_ids(acme: Acme, event: str, content: object, status: str) -> None:
    acme.apply(event, content)
    assert acme.row("SELECT status, transaction_id, card_holder_reference_id FROM receiver.deliveries") == {
        "status": status,
        "transaction_id": "t9",
        "card_holder_reference_id": "employee-17",
    }


def test_delivery_that_postgresql_refuses_is_found_by_its_ids(acme: Acme) -> None:
    acme.execute("ALTER TABLE ems.transactions ADD CONSTRAINT refused CHECK (1 / (mcc_code = '1234')::integer > 0)")
    try:
        acme.apply(CLEARED, snapshot("cleared", transaction="t9", mcc_code="5812"))
    finally:
        acme.execute("ALTER TABLE ems.transactions DROP CONSTRAINT refused")
    assert acme.row("SELECT status, transaction_id, card_holder_reference_id FROM receiver.deliveries") == {
        "status": "dead",
        "transaction_id": "t9",
        "card_holder_reference_id": "employee-17",
    }

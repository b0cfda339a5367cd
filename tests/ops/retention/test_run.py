"""A run yields to everybody, may be cut off anywhere, and leaves its record."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, text

from receiver.errors import OperationRefused
from receiver.locks import Lock
from receiver.ops.retention import schedule
from receiver.ops.retention.kinds import KINDS
from receiver.ops.retention.record import INTERRUPTED
from receiver.ops.retention.run import Pace
from receiver.ops.retention.walk import slicing
from tests.support.factories import card_holder, snapshot
from tests.support.killing import Killed, end_sessions, living
from tests.support.reconcile_steps import DELIVERIES
from tests.support.retention_steps import SHORTEST, days_pass, removed, retain

if TYPE_CHECKING:
    from receiver.ops.retention.kinds import RetentionKind
    from receiver.settings import Settings
    from tests.conftest import Acme


def apply_some(acme: Acme) -> None:
    for body in (snapshot("cleared"), snapshot("cleared"), {"nonsense": True}):
        acme.deliver_ok("card.transaction.cleared", body)
    acme.apply("card_holder.created", card_holder())
    days_pass(acme.engine, 30)


def left(acme: Acme) -> dict[str, Any]:
    """Return what retention leaves."""
    return {
        "deliveries": acme.rows(
            "SELECT event, body, headers, fingerprint, status FROM receiver.deliveries ORDER BY id"
        ),
        "attempts": acme.rows("SELECT * FROM receiver.processing_attempts"),
        "events": acme.value("SELECT count(*) FROM ems.events"),
    }


def forget(acme: Acme) -> None:
    acme.execute(f"TRUNCATE {', '.join(f'receiver.{table}' for table in DELIVERIES)}, receiver.retention_walks")
    acme.execute("TRUNCATE receiver.processing_attempts, ems.events, ems.transactions, ems.card_holders")


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of a cursor, left open by the death
def test_next_run_completes_one_killed_at_any_step(acme: Acme, settings: Settings) -> None:
    apply_some(acme)
    with living(acme.engine, None) as undisturbed:
        retain(acme.engine, settings, **SHORTEST)
    expected = left(acme)
    assert {each["body"] for each in expected["deliveries"]} == {None}
    assert undisturbed[0] > 30
    for last in range(1, undisturbed[0] + 1):
        forget(acme)
        apply_some(acme)
        with living(acme.engine, last), pytest.raises(Killed):
            retain(acme.engine, settings, **SHORTEST)
        end_sessions(acme.engine)
        assert retain(acme.engine, settings, **SHORTEST).caught_up, last
        assert left(acme) == expected, last


def test_of_a_run_that_was_cut_off_the_next_one_says_so(acme: Acme, settings: Settings) -> None:
    with living(acme.engine, 40), pytest.raises(Killed):
        retain(acme.engine, settings, **SHORTEST)
    end_sessions(acme.engine)
    retain(acme.engine, settings, **SHORTEST)
    runs = acme.rows("SELECT error, caught_up FROM receiver.retention_runs ORDER BY id")
    assert runs == [{"error": INTERRUPTED, "caught_up": None}, {"error": None, "caught_up": True}]


def test_one_run_works_at_a_time(acme: Acme, settings: Settings) -> None:
    inside: list[str] = []

    def meet(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "retention_runs" in statement and not inside:
            inside.append("begun")
            with pytest.raises(OperationRefused, match="another run"):
                retain(acme.engine, settings)

    event.listen(acme.engine, "before_cursor_execute", meet)
    try:
        assert retain(acme.engine, settings).caught_up
    finally:
        event.remove(acme.engine, "before_cursor_execute", meet)
    assert inside
    assert acme.value("SELECT count(*) FROM receiver.retention_runs") == 1


def test_stopped_run_leaves_the_rest_to_the_next(acme: Acme, settings: Settings) -> None:
    apply_some(acme)
    stop = threading.Event()
    stop.set()
    for pace in (Pace(stop=stop), Pace(within=timedelta(seconds=-1))):
        outcome = retain(acme.engine, settings, pace=pace, **SHORTEST)
        assert (removed(outcome), outcome.caught_up) == ({}, False)
    assert removed(retain(acme.engine, settings, **SHORTEST))["processed_bodies"] == 2


def test_rows_locked_by_a_worker_are_skipped(acme: Acme, settings: Settings) -> None:
    apply_some(acme)
    with acme.engine.connect() as worker:
        worker.execute(
            text(
                "SELECT FROM receiver.bodies JOIN receiver.outcomes USING (delivery_id) WHERE status = 'duplicate'"
                " FOR UPDATE OF bodies"
            )
        )
        outcome = retain(acme.engine, settings, **SHORTEST)
        worker.rollback()
    assert "duplicate_bodies" not in removed(outcome)
    assert removed(outcome)["processed_bodies"] == 2


def test_a_run_never_waits_for_a_table_that_is_locked(acme: Acme, settings: Settings) -> None:
    apply_some(acme)
    with acme.engine.connect() as migration:
        migration.execute(text("LOCK TABLE receiver.processing_attempts"))
        outcome = retain(acme.engine, settings, **SHORTEST)
        migration.rollback()
    assert not outcome.caught_up
    assert removed(outcome)["processed_bodies"] == 2, "and the others go on"
    assert removed(retain(acme.engine, settings, **SHORTEST)) == {"processing_attempts": 1}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_oldest_rows_are_found_by_the_primary_key(acme: Acme, kind: RetentionKind) -> None:
    with acme.engine.connect() as connection:
        for other in ("enable_seqscan", "enable_bitmapscan"):  # as in a table that is not empty
            connection.execute(text(f"SET LOCAL {other} = off"))
        asked = {"after": 1, "before": datetime.now(UTC)}
        query = slicing(kind.table, kind.key, kind.time)
        plan = "\n".join(connection.scalars(text(f"EXPLAIN {query.text}"), asked))
    assert re.search(rf"using (pk_)?{kind.table.split('.')[1]}(_0_pkey)?\b", plan), plan
    assert not re.search(r"\bSort +\(", plan), plan


def test_job_reads_the_environment_and_yields_to_a_running_one(
    acme: Acme, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_some(acme)
    for name, value in {**environment, "RETAIN_PROCESSED_DAYS": "14"}.items():
        monkeypatch.setenv(name, value)
    schedule.retain()
    assert acme.value("SELECT count(body) FROM receiver.deliveries WHERE status = 'processed'") == 0
    assert acme.value("SELECT to_regclass('receiver.events_16777216') IS NOT NULL"), "the job makes partitions, too"
    with acme.engine.connect() as other:
        other.execute(text("SELECT pg_advisory_lock(:key)"), {"key": Lock.RETENTION})
        schedule.retain()
        other.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": Lock.RETENTION})
    assert acme.value("SELECT count(*) FROM receiver.retention_runs") == 1

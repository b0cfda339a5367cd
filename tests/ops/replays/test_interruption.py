"""Interrupted and concurrent replays end with the right totals, and new deliveries are processed first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from receiver.db import dedicated_connection
from receiver.deliveries.models import ABANDONED
from receiver.errors import OperationRefused
from receiver.ops.deliveries import Filter
from receiver.ops.replay import cancel_replay, start_replay
from receiver.processing.batch import apply
from receiver.processing.claim import Backlog, claim_alone, end_leases
from receiver.processing.drain import Processor, drain
from receiver.processing.replays import end_replays, queue_replayed
from receiver.records.write import writing_connection
from tests.support.factories import card_holder, snapshot
from tests.support.processing_steps import feed
from tests.support.replay_steps import counts, ids, replay, start, state
from tests.support.stored import become

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    from sqlalchemy import Engine

    from receiver.encryption import Encryption
    from receiver.processing.claim import Claim
    from receiver.processing.failures import AttemptOutcome
    from tests.conftest import Acme

EVENT = "card.transaction.cleared"
DEAD = Filter(statuses=("dead",))
VERSIONS = "SELECT xmin, outcomes.* FROM receiver.outcomes ORDER BY delivery_id"


@pytest.fixture
def dead(acme: Acme) -> Acme:
    """Twelve deliveries that are dead for a cause that is fixed."""
    for number in range(12):
        acme.deliver_ok(EVENT, snapshot("cleared", transaction=f"t{number}"))
    become(acme.engine, "dead", ids(acme), attempts=8, error="RuntimeError: a disk is full")
    return acme


def process_replayed(engine: Engine, number: int) -> None:
    """Process so many deliveries of a replay, as a worker does."""
    with closing(Processor(engine)) as processor:
        assert queue_replayed(processor.connection("test"), number)
        assert processor.process("test", lambda connection: Backlog().claim(connection, number))
        end_replays(processor.connection("test"))


def members(acme: Acme) -> list[str | None]:
    return [row["outcome"] for row in acme.rows("SELECT outcome FROM receiver.replay_deliveries ORDER BY delivery_id")]


# --- fresh ones first ------------------------------------------------------------------------------------------------


def test_fresh_deliveries_do_not_wait_for_a_large_replay(dead: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    replayed = ids(dead)
    start(dead, DEAD)
    order: list[str] = []

    def note_order(
        connection: psycopg.Connection[Any], claim: Claim, encryption: Encryption | None
    ) -> list[AttemptOutcome]:
        order.extend("replayed" if delivery.id in replayed else "fresh" for delivery in claim.deliveries)
        if len(order) in {2, 6}:  # while it runs, more arrive
            for number in range(3):
                dead.deliver_ok("card_holder.created", card_holder(f"employee-{len(order)}-{number}"))
        return apply(connection, claim, encryption)

    monkeypatch.setattr("receiver.processing.drain.apply", note_order)
    dead.deliver_ok("card_holder.created", card_holder("employee-a"))
    dead.deliver_ok("card_holder.created", card_holder("employee-b"))
    assert drain(dead.engine, batch_size=4)
    assert order[:2] == ["fresh"] * 2
    arrived = [place for place, which in enumerate(order) if which == "fresh"]
    assert len(arrived) == len(order) - 12
    for place in arrived[2:]:  # at most one batch of replayed ones was at hand when they came
        assert order[:place].count("replayed") <= 4 * (1 + (place > 8))
    assert set(dead.statuses()) == {"processed"}


def test_small_replay_does_not_wait_for_a_large_one(dead: Acme) -> None:
    large = start(dead, tuple(ids(dead)[1:]))
    small = start(dead, tuple(ids(dead)[:1]))
    batches = 0
    while state(dead, small).state == "running":
        process_replayed(dead.engine, 1)
        batches += 1
    assert batches <= 12
    dead.process()
    assert counts(state(dead, large)) == (11, 11, 0)


# --- two at once -----------------------------------------------------------------------------------------------------


def test_concurrent_replays_of_the_same_do_no_harm(dead: Acme) -> None:
    with ThreadPoolExecutor(4) as pool:
        both = list(pool.map(lambda by: start(dead, DEAD, by=by), ("kim@ops", "alex@ops")))
        assert all(pool.map(lambda _: drain(dead.engine, batch_size=3), range(4)))
    dead.process()
    assert [counts(state(dead, each)) for each in both] == [(12, 12, 0)] * 2
    assert (set(dead.statuses()), len(feed(dead))) == ({"processed"}, 12)


# --- cancelling ------------------------------------------------------------------------------------------------------


def test_cancelled_replay_leaves_the_unprocessed_unchanged(dead: Acme) -> None:
    untouched = dead.rows(VERSIONS)[5:]
    replay_id = start(dead, DEAD)
    process_replayed(dead.engine, 5)
    cancel_replay(dead.engine, replay_id, cancelled_by="alex@ops")
    assert state(dead, replay_id).state == "cancelling"
    dead.process()
    cancelled = state(dead, replay_id)
    assert (cancelled.state, counts(cancelled), cancelled.cancelled_by) == ("cancelled", (12, 5, 0), "alex@ops")
    assert members(dead) == ["processed"] * 5 + ["cancelled"] * 7
    assert dead.rows(VERSIONS)[5:] == untouched
    assert counts(replay(dead, DEAD)) == (7, 7, 0)


def test_cancelled_replay_counts_the_claimed_batch(dead: Acme) -> None:
    replay_id = start(dead, DEAD)
    with closing(writing_connection(dead.engine)) as connection:
        assert queue_replayed(connection, 5)
        claim = Backlog().claim(connection, 5)
        assert claim
        cancel_replay(dead.engine, replay_id, cancelled_by="alex@ops")
        end_replays(connection)
        assert state(dead, replay_id).state == "cancelling"
        apply(connection, claim)
        end_replays(connection)
    assert counts(state(dead, replay_id)) == (12, 5, 0)


# --- deaths ----------------------------------------------------------------------------------------------------------


def test_command_killed_during_selection_processes_nothing(dead: Acme, environment: dict[str, str]) -> None:
    script = (
        "import os, signal\n"
        "from receiver.ops import replay, replay_selection\n"
        "replay_selection.DELIVERIES_AT_ONCE = 5\n"
        "select = replay.select_batch\n"
        "def select_one_and_die(*arguments):\n"
        "    if select_one_and_die.done: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    select_one_and_die.done = True\n"
        "    return select(*arguments)\n"
        "select_one_and_die.done = False\n"
        "replay.select_batch = select_one_and_die\n"
        "from receiver.cli import main\n"
        "main(['replay', '--status', 'dead', '--reason', 'fixed'])\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, check=False, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    replay_id = dead.value("SELECT id FROM receiver.replays")
    assert (state(dead, replay_id).state, len(members(dead))) == ("selecting", 5)
    dead.process()
    assert set(dead.statuses()) == {"dead"}

    dead.execute("UPDATE receiver.replays SET selecting_at = now() - interval '2 minutes'")
    assert state(dead, replay_id).state == "interrupted"
    dead.execute("UPDATE receiver.replays SET selecting_at = now() - interval '11 minutes'")
    dead.process()
    assert (state(dead, replay_id).state, counts(state(dead, replay_id))) == ("cancelled", (5, 0, 0))
    assert set(dead.statuses()) == {"dead"}
    assert counts(replay(dead, DEAD)) == (12, 12, 0)


def test_selecting_after_cancellation_raises(dead: Acme, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.ops.replay_selection.DELIVERIES_AT_ONCE", 5)

    def cancelled_meanwhile(*_: object) -> int:
        cancel_replay(dead.engine, dead.value("SELECT id FROM receiver.replays"), cancelled_by="alex@ops")
        return 0

    monkeypatch.setattr("receiver.ops.replay.select_batch", cancelled_meanwhile)
    with pytest.raises(OperationRefused, match="was cancelled while it was being selected"):
        start(dead, DEAD)
    dead.process()
    assert set(dead.statuses()) == {"dead"}


def test_batch_of_a_crashed_worker_is_processed_one_by_one(dead: Acme) -> None:
    replay_id = start(dead, DEAD)
    die_over_replayed(dead.engine, 4)
    queued = dead.rows("SELECT alone FROM receiver.queue")
    assert [row["alone"] for row in queued] == [True] * 4
    dead.process()
    assert counts(state(dead, replay_id)) == (12, 12, 0)


def test_replayed_delivery_that_crashes_again_has_failed(dead: Acme) -> None:
    dead.execute("UPDATE receiver.outcomes SET attempts = 3, error = :error", error=ABANDONED)
    first = ids(dead)[0]
    dead.execute(
        "INSERT INTO receiver.processing_attempts (delivery_id, number, outcome, error)"
        " SELECT :id, number, 'failed', :error FROM generate_series(1, 3) AS number",
        id=first,
        error=ABANDONED,
    )
    replay_id = start(dead, (first,))
    die_over_replayed(dead.engine, 1)
    drain(dead.engine)
    assert counts(state(dead, replay_id)) == (1, 0, 1)
    for deaths in (2, 3):
        assert dead.row("SELECT status, attempts FROM receiver.deliveries WHERE id = :id", id=first) == {
            "status": "failed",
            "attempts": 2 + deaths,
        }
        dead.execute("UPDATE receiver.queue SET due_at = now() WHERE delivery_id = :id", id=first)
        die_over_one(dead.engine)
    assert dead.statuses()[0] == "dead"
    assert counts(replay(dead, (first,))) == (1, 1, 0)


def die_over_replayed(engine: Engine, number: int) -> None:
    """Queue of a replay and claim that as a worker does, and die; its lease ends."""
    with closing(dedicated_connection(engine)) as connection, short_leases():
        assert queue_replayed(connection, number)
        claim = Backlog().claim(connection, number) or claim_alone(connection)
        assert claim
        assert len(claim.deliveries) == number
        until_ended(connection)


def die_over_one(engine: Engine) -> None:
    """Claim one that waits to be processed alone as a worker does, and die; its lease ends."""
    with closing(dedicated_connection(engine)) as connection, short_leases():
        assert claim_alone(connection)
        until_ended(connection)


@contextmanager
def short_leases() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("receiver.processing.claim.LEASE", timedelta(milliseconds=1))
        yield


def until_ended(connection: psycopg.Connection[Any]) -> None:
    """End leases until there is none."""
    while connection.execute("SELECT 1 FROM receiver.queue WHERE leased_until IS NOT NULL").fetchone():
        end_leases(connection)


def test_replay_leaves_what_a_worker_has_until_it_is_free(dead: Acme) -> None:
    first, second, *_ = ids(dead)
    dead.execute("INSERT INTO receiver.queue (delivery_id, attempts) VALUES (:id, 8)", id=first)
    with closing(writing_connection(dead.engine)) as connection:
        claim = Backlog().claim(connection, 1)
        assert claim
        dead.execute("UPDATE receiver.outcomes SET status = 'failed' WHERE delivery_id = :id", id=first)
        replay_id = start(dead, (first, second))
        dead.process()
        assert members(dead) == [None, "processed"]
        assert state(dead, replay_id).state == "running"
        apply(connection, claim)
    dead.process()
    assert counts(state(dead, replay_id)) == (2, 2, 0)


def test_replay_does_not_wait_for_the_next_retry(dead: Acme) -> None:
    waiting = ids(dead)[:3]
    dead.execute(
        "INSERT INTO receiver.queue (delivery_id, due_at, failed_at, attempts, alone)"
        " SELECT id, now() + interval '1 hour', now(), 3, true FROM unnest(CAST(:ids AS bigint[])) AS id",
        ids=waiting,
    )
    dead.execute("UPDATE receiver.outcomes SET status = 'failed' WHERE delivery_id = ANY(:ids)", ids=waiting)
    replay_id = start(dead, Filter(statuses=("failed",)))
    with closing(writing_connection(dead.engine)) as connection:
        assert queue_replayed(connection, 10)
        claim = Backlog().claim(connection, 10)
        assert claim
        assert [delivery.id for delivery in claim.deliveries] == waiting
        connection.execute(*claim.release(alone=False))
    dead.process()
    assert counts(state(dead, replay_id)) == (3, 3, 0)


def test_queueing_a_replay_reads_no_more_of_a_long_queue(dead: Acme) -> None:
    dead.execute(
        "INSERT INTO receiver.queue (delivery_id) SELECT 1000000 + number FROM generate_series(1, 20000) AS number"
    )
    dead.execute("ANALYZE receiver.queue")
    start(dead, DEAD)
    with closing(writing_connection(dead.engine)) as connection:
        read = (
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relid = 'receiver.queue'::regclass"
        )
        with connection.transaction():
            assert queue_replayed(connection, 10)
            ((rows,),) = connection.execute(read).fetchall()
            assert rows <= 100


def test_deleted_body_does_not_keep_a_replay_from_ending(dead: Acme) -> None:
    replay_id = start(dead, DEAD)
    dead.execute("DELETE FROM receiver.bodies WHERE delivery_id = ANY(:ids)", ids=ids(dead)[:2])
    dead.process()
    assert (state(dead, replay_id).state, counts(state(dead, replay_id))) == ("ended", (12, 10, 0))


# --- fresh traffic ---------------------------------------------------------------------------------------------------


def test_replay_under_load_loses_and_repeats_nothing(dead: Acme) -> None:
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            drain(dead.engine, batch_size=4)

    with ThreadPoolExecutor(3) as pool:
        workers = [pool.submit(work) for _ in range(2)]
        replays = []
        for number in range(20):
            dead.deliver_ok(EVENT, snapshot("cleared", transaction=f"fresh-{number}"))
            if number % 5 == 0:
                replays.append(start_replay(dead.engine, DEAD, requested_by="kim", reason="fixed"))
                replays.append(start_replay(dead.engine, Filter(events=(EVENT,)), requested_by="alex", reason="again"))
        deadline = time.monotonic() + 120
        started = [each for each in replays if each is not None]
        while any(state(dead, each).ended_at is None for each in started) and time.monotonic() < deadline:
            with dead.engine.connect() as connection:
                connection.execute(text("SELECT pg_sleep(0.05)"))
        ended.set()
        for worker in workers:
            worker.result()
    dead.process()
    assert set(dead.statuses()) == {"processed"}
    assert len(feed(dead)) == 32
    for each in started:
        replayed = state(dead, each)
        assert (replayed.state, replayed.failed) == ("ended", 0)
        assert replayed.processed == replayed.selected

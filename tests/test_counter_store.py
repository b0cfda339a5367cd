"""The counts of many processes are added up in PostgreSQL: nothing twice, nothing lost, no waiting."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import text

from receiver.counter_store import Flusher, connecting, flushing
from receiver.counters import SIGN_INS_FAILED, WAKE_UPS_FAILED, count_failed_sign_in, unstored_counts
from tests.support.applications import unreachable_database
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from receiver.counter_store import Connect
    from receiver.settings import Settings


@pytest.fixture
def connect(engine: Engine, settings: Settings) -> Connect:
    del engine  # asked for so that there is a database
    unstored_counts.take()  # other tests' counts
    return connecting(settings.database_url)


def rows(engine: Engine) -> list[tuple[str, float]]:
    """Return each process's failed sign-ins and wake-ups."""
    with engine.connect() as connection:
        return sorted(
            (name.removesuffix("_total"), value)
            for name, value in connection.execute(
                text(
                    "SELECT name, value FROM receiver.counters"
                    " WHERE name IN ('receiver_sign_ins_failed_total', 'receiver_wake_ups_failed_total')"
                )
            )
        )


def test_counts_of_several_flushes_and_processes_add_up(engine: Engine, connect: Connect) -> None:
    flushers = [Flusher(connect), Flusher(connect)]
    for flusher in flushers * 2:
        count_failed_sign_in()
        assert flusher.flush()
    WAKE_UPS_FAILED.inc()
    assert flushers[0].flush()
    failed = "receiver_sign_ins_failed"
    assert rows(engine) == [(failed, 2), (failed, 2), ("receiver_wake_ups_failed", 1)]


def test_job_processes_count_in_the_rows_of_their_worker(engine: Engine, settings: Settings, connect: Connect) -> None:
    del connect
    worker = uuid.uuid4()
    for _ in range(3):
        with flushing(settings.database_url, process=worker):
            count_failed_sign_in()
    assert rows(engine) == [("receiver_sign_ins_failed", 3)]


def test_nothing_is_written_when_nothing_was_counted(engine: Engine, connect: Connect) -> None:
    assert Flusher(connect).flush()
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM receiver.counter_flushes")) == 0


def test_a_flush_whose_answer_is_lost_is_not_added_twice(engine: Engine, connect: Connect) -> None:
    answers_lost = 2

    @contextmanager
    def losing() -> Iterator[psycopg.Connection[Any]]:
        nonlocal answers_lost
        with connect() as connection:
            yield connection
        if answers_lost:
            answers_lost -= 1
            raise psycopg.OperationalError("the connection is lost")

    flusher = Flusher(losing)
    SIGN_INS_FAILED.inc(5)
    assert [flusher.flush(), flusher.flush()] == [False, False]
    SIGN_INS_FAILED.inc()
    assert flusher.flush()
    assert rows(engine) == [("receiver_sign_ins_failed", 6)]


def test_while_postgresql_is_away_counts_wait_in_memory(engine: Engine, connect: Connect) -> None:
    away = True

    def sometimes() -> Any:
        return connecting(unreachable_database())() if away else connect()

    flusher = Flusher(sometimes)
    for _ in range(3):
        count_failed_sign_in()
        assert not flusher.flush()
    away = False
    assert flusher.flush()
    assert rows(engine) == [("receiver_sign_ins_failed", 3)]


def test_counts_are_stored_at_intervals(engine: Engine, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.counter_store.FLUSH_SECONDS", 0.01)
    flusher = Flusher(connect)
    flusher.start()
    try:
        for number in (1, 2):
            count_failed_sign_in()
            expected = [("receiver_sign_ins_failed", number)]
            assert eventually(lambda expected=expected: rows(engine) == expected)  # type: ignore[misc]
    finally:
        flusher.close()


def test_ending_process_stores_its_counts(engine: Engine, connect: Connect) -> None:
    flusher = Flusher(connect)
    flusher.start()
    count_failed_sign_in()
    flusher.close()
    assert rows(engine) == [("receiver_sign_ins_failed", 1)]

"""What ``status`` and ``/metrics`` show of retention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from receiver.ops.retention import record

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from receiver.ops.retention.record import LastRetentionRun


def last(engine: Engine) -> LastRetentionRun | None:
    with engine.connect() as connection:
        return record.last_retention_run(
            lambda query: [dict(row) for row in connection.execute(text(query)).mappings()]
        )


def begin(engine: Engine) -> int:
    with engine.begin() as connection:
        return record.begin(connection)


def test_before_the_first_run_there_is_none(engine: Engine) -> None:
    assert last(engine) is None


def test_run_reports_deletions_while_running_and_at_the_end(engine: Engine) -> None:
    run_id = begin(engine)
    with engine.begin() as connection:
        record.count(connection, run_id, {"log": 3})
    under_way = last(engine)
    assert under_way is not None
    assert (under_way.ended_at, under_way.removed, under_way.succeeded_at) == (None, {"log": 3}, None)
    with engine.begin() as connection:
        record.end(connection, run_id, {"log": 5, "traces": 1}, caught_up=True)
    ended = last(engine)
    assert ended is not None
    assert (ended.removed, ended.caught_up, ended.error) == ({"log": 5, "traces": 1}, True, None)
    assert ended.ended_at == ended.succeeded_at
    assert ended.ended_at is not None


def test_next_run_marks_an_interrupted_run_as_failed(engine: Engine) -> None:
    first = begin(engine)
    with engine.begin() as connection:
        record.end(connection, first, {}, caught_up=True)
    well = last(engine)
    assert well is not None
    second = begin(engine)
    third = begin(engine)
    with engine.begin() as connection:
        record.end(connection, third, {}, caught_up=False, error="PostgreSQL went away")
        cut_off = connection.scalar(text("SELECT error FROM receiver.retention_runs WHERE id = :id"), {"id": second})
    assert cut_off == record.INTERRUPTED
    failed = last(engine)
    assert failed is not None
    assert (failed.error, failed.succeeded_at) == ("PostgreSQL went away", well.ended_at)

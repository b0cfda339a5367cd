"""Steps of the tests of replays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from receiver.ops.deliveries import Filter
from receiver.ops.replay import start_replay
from receiver.ops.replay_state import ReplayState, read_replay
from receiver.processing.batch import apply

if TYPE_CHECKING:
    import pytest

    from receiver.ops.replay_selection import Selection
    from tests.conftest import Acme

EVERYTHING = Filter(statuses=("processed", "duplicate", "ignored", "quarantined", "failed", "dead"))


def ids(acme: Acme) -> list[int]:
    return [row["id"] for row in acme.rows("SELECT id FROM receiver.deliveries ORDER BY id")]


def start(
    acme: Acme,
    wanted: Selection,
    *,
    by: str = "kim@ops",
    reason: str = "the cause is fixed",
    limit: int | None = None,
) -> int:
    replay_id = start_replay(acme.engine, wanted, requested_by=by, reason=reason, limit=limit)
    assert replay_id is not None, "nothing was selected"
    return replay_id


def state(acme: Acme, replay_id: int) -> ReplayState:
    with acme.engine.connect() as connection:
        return read_replay(connection, replay_id)


def replay(acme: Acme, wanted: Selection, *, limit: int | None = None) -> ReplayState:
    """Replay, have a worker process it, and return how it ended."""
    replay_id = start(acme, wanted, limit=limit)
    acme.process()
    ended = state(acme, replay_id)
    assert ended.state == "ended"
    return ended


def counts(replayed: ReplayState) -> tuple[int, int, int]:
    return replayed.selected, replayed.processed, replayed.failed


def product(acme: Acme) -> dict[str, list[dict[str, Any]]]:
    """Return everything that the EMS can read, to the last column."""
    tables = acme.rows(
        "SELECT relname AS name FROM pg_class"
        " WHERE relnamespace = 'ems'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1"
    )
    return {table["name"]: acme.rows(f'SELECT * FROM ems."{table["name"]}" AS t ORDER BY t::text') for table in tables}  # noqa: S608


def fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
    """Let applying deliveries fail from now on; ``None``: no more."""

    def fail(*_: object) -> None:
        assert error is not None
        raise error

    monkeypatch.setattr("receiver.processing.drain.apply", apply if error is None else fail)

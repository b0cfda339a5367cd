"""A process that is killed at any of its steps."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import event, text

from tests.support.session_locks import ADVISORY
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


@contextmanager
def living(engine: Engine, last: int | None) -> Iterator[list[int]]:
    """Let what follows run in a process that ends at its *last* step: each statement and each commit is one."""
    steps = [0]

    def step(*_: object) -> None:
        steps[0] += 1
        if last is not None and steps[0] >= last:
            raise Killed

    event.listen(engine, "before_cursor_execute", step)
    event.listen(engine, "commit", step)
    try:
        yield steps
    finally:
        event.remove(engine, "before_cursor_execute", step)
        event.remove(engine, "commit", step)


def end_sessions(engine: Engine) -> None:
    """Do what the death of a process does to its sessions, and wait for PostgreSQL to have noticed: locks go last."""
    engine.dispose()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        assert eventually(lambda: connection.scalar(text(ADVISORY)) == 0)

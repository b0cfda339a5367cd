"""A run of retention: what is due goes, kind by kind in turns, each turn a small transaction, within its time.

It yields to everybody: it takes no row that somebody else holds, waits for no lock longer than ``LOCK_TIMEOUT``, and
rests between its steps in proportion to the work. It may be cut off at any moment: what is done stays done, with the
position in the same transaction, and the next run goes on there.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog
from psycopg import errors as refusals
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from receiver.counters import RETENTION_REMOVED
from receiver.errors import OperationRefused
from receiver.ops.retention import record
from receiver.ops.retention.kinds import KINDS
from receiver.ops.retention.walk import begin_walk, next_span, read_position, remember, slicing
from receiver.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy import Connection, Engine

    from receiver.ops.retention.kinds import Kind
    from receiver.settings import Settings

log = structlog.stdlib.get_logger(__name__)

RETENTION_LOCK: Final = 0x0C4D_0003
"""Key of the advisory lock under which one run at a time works."""
LOCK_TIMEOUT: Final = "500ms"
"""Shorter than PostgreSQL waits before it looks for a deadlock: whoever is in the way, it is retention that yields."""
BUSY: Final = "another run of retention is at work at this moment: it does the same; wait for it, or run again"
COUNT_EVERY: Final = 5.0
"""Seconds after which the run's row tells anew how much went."""

_TRY_LOCK: Final = text("SELECT pg_try_advisory_lock(:key)")
_UNLOCK: Final = text("SELECT pg_advisory_unlock(:key)")
_NOW: Final = text("SELECT clock_timestamp()")
_FEED_BEGINS: Final = text("SELECT deleted_through FROM ems.feed_horizon")
# what a crash of PostgreSQL takes back is done again
_GENTLY: Final = text(
    "SELECT set_config('lock_timeout', :lock_timeout, true), set_config('synchronous_commit', 'off', true)"
)
_YIELDED: Final = (refusals.LockNotAvailable, refusals.DeadlockDetected, refusals.SerializationFailure)


@dataclass(frozen=True, slots=True)
class Kept:
    """One kind of things, for how long it is kept, and how much of it went."""

    kind: str
    words: str
    setting: str
    days: int
    """0 for ever."""
    removed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run."""

    kinds: tuple[Kept, ...]
    caught_up: bool
    """Whether nothing is left that was kept long enough."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How much of its machine a run takes."""

    within: timedelta | None = None
    """How long it may go on; ``None`` until all is done."""
    rest: float = 1.0
    """How long it rests after a step, in parts of what the step took."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when it is asked to end."""


@dataclass(slots=True)
class _Turn:
    """One kind's walk."""

    kind: Kind
    before: datetime
    position: int
    removed: int = 0
    yielded: bool = False


def run_retention(
    engine: Engine,
    settings: Settings,
    *,
    pace: Pace = Pace(),
    write: bool = True,
    progress: Progress = Progress(),  # noqa: B008
) -> Outcome:
    """Let go what was kept long enough; with ``write=False`` only count it.

    Raises ``OperationRefused`` while another run is at work.
    """
    with _alone(engine) if write else nullcontext():
        run = _Run(engine, settings, pace, write=write, progress=progress)
        return run.to_its_end()


class _Run:
    def __init__(self, engine: Engine, settings: Settings, pace: Pace, *, write: bool, progress: Progress) -> None:
        self._engine = engine
        self._settings = settings
        self._pace = pace
        self._write = write
        self._progress = progress
        self._turns: list[_Turn] = []

    def to_its_end(self) -> Outcome:
        with self._engine.begin() as connection:
            run_id = record.begin(connection) if self._write else None
            self._turns = self._begin(connection)
        self._progress.total(len(self._turns))
        try:
            caught_up = self._take_turns(run_id)
        except Exception as error:
            self._end(run_id, caught_up=False, error=type(error).__name__)
            raise
        self._end(run_id, caught_up=caught_up)
        return Outcome(tuple(self._kept(kind) for kind in KINDS), caught_up)

    def _begin(self, connection: Connection) -> list[_Turn]:
        now = connection.execute(_NOW).scalar_one()
        turns = []
        for kind in KINDS:
            days = kind.days(self._settings)
            if days:
                if not kind.passes:
                    position = connection.scalar(_FEED_BEGINS) or 0
                else:
                    position = (begin_walk if self._write else read_position)(connection, kind.name)
                turns.append(_Turn(kind, now - timedelta(days=days), position))
        return turns

    def _take_turns(self, run_id: int | None) -> bool:
        """Let each kind take one step after the other; return whether all arrived."""
        walking = list(self._turns)
        begun = counted = time.monotonic()
        while walking:
            for turn in list(walking):
                if self._pace.stop.is_set():
                    return False
                started = time.monotonic()
                if self._pace.within is not None and started - begun > self._pace.within.total_seconds():
                    return False
                self._progress.stage(f"{turn.kind.words}: {turn.removed}")
                if self._step(turn):
                    walking.remove(turn)
                    self._progress.advance()
                if run_id is not None and started - counted > COUNT_EVERY:
                    counted = started
                    with self._engine.begin() as connection:
                        record.count(connection, run_id, self._removed())
                self._pace.stop.wait(self._pace.rest * (time.monotonic() - started))
        return not any(turn.yielded for turn in self._turns)

    def _step(self, turn: _Turn) -> bool:
        """Do the next slice of a walk; return whether it has arrived, or cannot go on now."""
        kind = turn.kind
        try:
            with self._engine.begin() as connection:
                connection.execute(_GENTLY, {"lock_timeout": LOCK_TIMEOUT})
                query = slicing(kind.table, kind.key, kind.time)
                span, arrived = next_span(connection, query, after=turn.position, before=turn.before)
                if not self._write:
                    removed, done = kind.count(connection, span), True
                else:
                    removed, done = kind.remove(connection, span)
                    if done and span.until > span.after:
                        remember(connection, kind.name, span.until)
        except DBAPIError as error:
            if not isinstance(error.orig, _YIELDED):
                raise
            turn.yielded = True
            return True
        turn.removed += removed
        if self._write:
            RETENTION_REMOVED.labels(kind.name).inc(removed)
        if done:
            turn.position = span.until
        elif not removed:
            turn.yielded = True  # all that is left of the span is held by somebody else
            return True
        return arrived and done

    def _kept(self, kind: Kind) -> Kept:
        removed = self._removed().get(kind.name, 0)
        return Kept(kind.name, kind.words, kind.setting, kind.days(self._settings), removed)

    def _removed(self) -> dict[str, int]:
        return {turn.kind.name: turn.removed for turn in self._turns}

    def _end(self, run_id: int | None, *, caught_up: bool, error: str | None = None) -> None:
        removed = self._removed()
        if run_id is not None:
            with self._engine.begin() as connection:
                record.end(connection, run_id, removed, caught_up=caught_up, error=error)
        if any(removed.values()):
            log.info("retention", caught_up=caught_up, **{kind: number for kind, number in removed.items() if number})


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """Hold the lock of retention; PostgreSQL gives it back when the process is gone."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.scalar(_TRY_LOCK, {"key": RETENTION_LOCK}):
            raise OperationRefused(BUSY)
        try:
            yield
        finally:
            with suppress(DBAPIError):  # then the session is gone, and the lock with it
                connection.execute(_UNLOCK, {"key": RETENTION_LOCK})

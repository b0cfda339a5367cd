"""A run of retention: deletes expired data, kind by kind in turns, each turn a small transaction, within its time.

It yields to all other work: it takes no row that is locked, waits for no lock longer than half a second, and
rests between its steps in proportion to the work. It may be interrupted at any moment: each step commits its
position too, and the next run continues there.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

import psycopg
import structlog
from psycopg import errors as refusals
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from receiver.counters import RETENTION_REMOVED
from receiver.db import held_lock
from receiver.encryption import Encryption
from receiver.errors import OperationRefused
from receiver.locks import Lock
from receiver.ops.retention import erasure, record
from receiver.ops.retention.kinds import KINDS
from receiver.ops.retention.walk import begin_walk, next_span, read_position, remember, slicing
from receiver.ops.retention.yielding import yielding_transaction
from receiver.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy import Connection, Engine

    from receiver.ops.retention.kinds import RetentionKind
    from receiver.settings import Settings

log = structlog.stdlib.get_logger(__name__)

BUSY: Final = "another run of retention is at work at this moment: it does the same; wait for it, or run again"
COUNT_EVERY: Final = 5.0
"""Seconds after which the run's row is updated with the number deleted."""

_NOW: Final = text("SELECT clock_timestamp()")
_YIELDED: Final = (refusals.LockNotAvailable, refusals.DeadlockDetected, refusals.SerializationFailure)


@dataclass(frozen=True, slots=True)
class Kept:
    """One kind of data: for how long it is kept, and how much was deleted."""

    kind: str
    words: str
    setting: str
    days: int
    """0: permanently."""
    removed: int


@dataclass(frozen=True, slots=True)
class RetentionOutcome:
    """What a run deleted, by kind of data."""

    kinds: tuple[Kept, ...]
    caught_up: bool
    """Whether no expired data are left."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How much of its machine a run takes."""

    within: timedelta | None = None
    """How long it may go on; ``None`` until all is done."""
    rest: float = 1.0
    """How long it rests after a step, in parts of what the step took."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when it is asked to end."""

    def is_over(self, seconds: float) -> bool:
        """Return whether a run is to end that has taken *seconds*."""
        return self.stop.is_set() or (self.within is not None and seconds > self.within.total_seconds())


class Turn(Protocol):
    """A part of a run that takes turns with the others: a kind's walk, or the erasure of card holders."""

    name: str
    words: str
    removed: int
    yielded: bool
    """Whether something is left that others held."""

    def step(self) -> bool:
        """Do one step; return whether it is finished, or cannot go on now."""


class Walking:
    """One kind's walk."""

    def __init__(self, engine: Engine, kind: RetentionKind, *, before: datetime, position: int, write: bool) -> None:
        self.name = kind.name
        self.words = kind.words
        self.removed = 0
        self.yielded = False
        self._engine = engine
        self._kind = kind
        self._before = before
        self._position = position
        self._write = write

    def step(self) -> bool:
        """Do the next slice; return whether the walk is finished, or cannot go on now."""
        kind = self._kind
        with yielding_transaction(self._engine) as connection:
            query = slicing(kind.table, kind.key, kind.time)
            span, arrived = next_span(connection, query, after=self._position, before=self._before)
            if self._write:
                removed, done = kind.remove(connection, span)
                if done and span.until > span.after:
                    remember(connection, kind.name, span.until)
            else:
                removed, done = kind.count(connection, span), True
        self.removed += removed
        if done:
            self._position = span.until
            return arrived
        self.yielded = not removed  # then all that is left of the span is locked by others
        return self.yielded


def run_retention(
    engine: Engine,
    settings: Settings,
    *,
    pace: Pace = Pace(),
    write: bool = True,
    progress: Progress = Progress(),  # noqa: B008
) -> RetentionOutcome:
    """Delete expired data; with ``write=False`` only count it.

    Raises ``OperationRefused`` while another run is at work.
    """
    with _alone(engine) if write else nullcontext():
        return _RetentionRun(engine, settings, pace, write=write, progress=progress).to_its_end()


class _RetentionRun:
    def __init__(self, engine: Engine, settings: Settings, pace: Pace, *, write: bool, progress: Progress) -> None:
        self._engine = engine
        self._settings = settings
        self._pace = pace
        self._write = write
        self._progress = progress
        self._turns: list[Turn] = []

    def to_its_end(self) -> RetentionOutcome:
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
        removed = self._removed()
        kinds = [(kind.name, kind.words, kind.setting, kind.days(self._settings)) for kind in KINDS]
        kinds.append((erasure.NAME, erasure.WORDS, erasure.SETTING, self._settings.erase_card_holders_days))
        return RetentionOutcome(tuple(Kept(*kind, removed.get(kind[0], 0)) for kind in kinds), caught_up)

    def _begin(self, connection: Connection) -> list[Turn]:
        now: datetime = connection.execute(_NOW).scalar_one()
        turns: list[Turn] = []
        for kind in KINDS:
            days = kind.days(self._settings)
            if not days:
                continue
            position = (begin_walk if self._write else read_position)(connection, kind.name)
            before = now - timedelta(days=days)
            turns.append(Walking(self._engine, kind, before=before, position=position, write=self._write))
        days = self._settings.erase_card_holders_days
        turns.append(
            erasure.Erasing(
                self._engine,
                Encryption(self._settings.encryption_keys),
                before=now - timedelta(days=days) if days else None,
                write=self._write,
            )
        )
        return turns

    def _take_turns(self, run_id: int | None) -> bool:
        """Let each take one step in turn; return whether all are finished."""
        waiting = list(self._turns)
        begun = counted = time.monotonic()
        while waiting:
            for turn in list(waiting):
                started = time.monotonic()
                if self._pace.is_over(started - begun):
                    return False
                self._progress.stage(f"{turn.words}: {turn.removed}")
                if self._step(turn):
                    waiting.remove(turn)
                    self._progress.advance()
                if run_id is not None and started - counted > COUNT_EVERY:
                    counted = started
                    with self._engine.begin() as connection:
                        record.count(connection, run_id, self._removed())
                self._pace.stop.wait(self._pace.rest * (time.monotonic() - started))
        return not any(turn.yielded for turn in self._turns)

    def _step(self, turn: Turn) -> bool:
        before = turn.removed
        try:
            arrived = turn.step()
        except (DBAPIError, psycopg.Error) as error:
            if not isinstance(getattr(error, "orig", error), _YIELDED):
                raise
            turn.yielded = arrived = True
        if self._write and turn.removed > before:
            RETENTION_REMOVED.labels(turn.name).inc(turn.removed - before)
        return arrived

    def _removed(self) -> dict[str, int]:
        return {turn.name: turn.removed for turn in self._turns}

    def _end(self, run_id: int | None, *, caught_up: bool, error: str | None = None) -> None:
        removed = self._removed()
        if run_id is not None:
            with self._engine.begin() as connection:
                record.end(connection, run_id, removed, caught_up=caught_up, error=error)
        if any(removed.values()):
            log.info(
                "retention.ended", caught_up=caught_up, **{kind: number for kind, number in removed.items() if number}
            )


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """Hold the lock of retention. Raises ``OperationRefused`` when another process holds it."""
    with held_lock(engine, Lock.RETENTION) as held:
        if not held:
            raise OperationRefused(BUSY)
        yield

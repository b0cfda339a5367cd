"""Follows the change feed of schema ``ems``, ``ems.events``."""

from __future__ import annotations

import logging
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg

from opencard_ems.read import Kind, connect, read
from opencard_ems.rows import Event, FeedHorizon, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Result = TypeVar("Result")
_log: Final = logging.getLogger(__name__)
IDLE: Final = 60.0
"""Seconds to wait for a notification before reading anyway, so that a lost one costs a minute."""
POLL: Final = 1.0
"""Seconds between two reads of a replica, where no session can LISTEN."""
LONGEST_PAUSE: Final = 30.0
"""Seconds between two attempts to connect, at most."""


class EventsDeletedError(Exception):
    """Events after the position were deleted, so that not every event can be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Events to process. Store *position* in the transaction in which you store your results."""

    events: list[Event]
    """In order of position; may be empty."""
    position: int
    """The position to continue from."""
    reload: str | None
    """Why all rows are to be read again: the events do not name every change after your position. Usually ``None``."""
    _feed: _Feed = field(repr=False, compare=False)

    def read(self, kind: type[Kind]) -> list[Kind]:
        """Return the rows of the transactions that the events are about, as they are now; all rows if *reload* is set.

        *kind* is a table or view with one or more rows for each transaction.
        """
        if self.reload is not None:
            return self._feed.retry(lambda connection: read(connection, kind))
        keys = {
            (event.organization_reference_id, event.transaction_id)
            for event in self.events
            if event.transaction_id is not None
        }
        of_these = [[key[0] for key in keys], [key[1] for key in keys]]
        if issubclass(kind, Transaction):
            where = "WHERE (organization_reference_id, id) IN (SELECT * FROM unnest(%s::text[], %s::text[]))"
        else:
            where = (
                "WHERE (organization_reference_id, transaction_id) IN (SELECT * FROM unnest(%s::text[], %s::text[]))"
            )
        return self._feed.retry(lambda connection: read(connection, kind, where, of_these))


def follow(
    url: str,
    position: int,
    *,
    every_event: bool = False,
    batch_size: int = 500,
    consumer: str | None = None,
    primary: str | None = None,
    wait: bool = True,
) -> Iterator[Batch]:
    """Yield what changed after *position*, which is 0 at first and then that of the last batch whose work you stored.

    When you ask for the next batch, the position of the one before is committed with ``ems.commit_position``, as
    *consumer* (default: the name of the role). A lost connection is opened again; only a first one that fails raises
    ``psycopg.OperationalError``.

    *every_event*: you process each event once, instead of reading again what changed. *url* may name a replica, which
    is polled; then *primary* is where the position is committed, if anywhere. Without *wait*, it ends when nothing is
    new.

    Raises ``EventsDeletedError`` with *every_event*, if an operator deleted events that you have not read.
    """
    with closing(_Feed(url, consumer, primary)) as feed:
        feed.commit(position)
        while True:
            batch = feed.next(position, batch_size, every_event=every_event)
            if batch is not None:
                yield batch
                position = batch.position
            elif wait:
                feed.wait()
            else:
                return
            feed.commit(position)


class _Feed:
    """The feed over connections that are opened again when they are lost."""

    def __init__(self, url: str, consumer: str | None, primary: str | None) -> None:
        self._url = url
        self._consumer = consumer
        self._primary = primary
        self._connection: psycopg.Connection[Any] | None = None
        self._is_replica = False
        self._was_connected = False
        self._committed: int | None = None
        self._commit_again_at = 0.0

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def retry(self, work: Callable[[psycopg.Connection[Any]], Result]) -> Result:
        """Return what *work* does, which is repeated on a new connection when one is lost."""
        pause = 0.5
        while True:
            try:
                return work(self._connected())
            except psycopg.OperationalError as error:
                if not self._was_connected:
                    raise
                _log.warning("PostgreSQL is not available (%s), next attempt in %s s", _line(error), pause)
            self.close()
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = connect(self._url)
            (self._is_replica,) = self._connection.execute("SELECT pg_is_in_recovery()").fetchone() or (False,)
            if not self._is_replica:  # before the first read, so that no notification is missed
                self._connection.execute("LISTEN ems_events")
            self._was_connected = True
        return self._connection

    def next(self, position: int, size: int, *, every_event: bool) -> Batch | None:
        """Return the batch after *position*, or ``None`` if nothing is new."""
        events, horizon = self.retry(lambda connection: _read_next(connection, position, size))
        if horizon is not None and horizon.deleted_through > position:
            why = f"events after position {position} were deleted"
            if every_event:
                raise EventsDeletedError(why)
            return self._reload(why)
        if horizon is not None and horizon.epoch_start > position:
            why = f"epoch {horizon.epoch} of the feed began: the database was restored or failed over"
            if not every_event:
                return self._reload(why)
            # none of the epoch is missing, and what was lost before it is delivered again
            of_old_epoch = [event for event in events if event.position <= horizon.epoch_start]
            to = of_old_epoch[-1].position if of_old_epoch else horizon.epoch_start
            return Batch(events=of_old_epoch, position=to, reload=None, _feed=self)
        return Batch(events=events, position=events[-1].position, reload=None, _feed=self) if events else None

    def _reload(self, why: str) -> Batch:
        """Return a batch with the newest position: what is read after it is at least as new."""
        newest = self.retry(lambda connection: connection.execute(_NEWEST).fetchone())
        return Batch(events=[], position=newest[0] if newest else 0, reload=why, _feed=self)

    def wait(self) -> None:
        """Return when something may be new."""
        read_by = self._connection

        def notified(connection: psycopg.Connection[Any]) -> None:
            if connection is not read_by:
                return  # reconnected: it got no notification of what was committed before its LISTEN
            for _notice in connection.notifies(timeout=IDLE, stop_after=1):
                pass

        if self._is_replica:
            time.sleep(POLL)
        else:
            self.retry(notified)

    def commit(self, position: int) -> None:
        """Report that everything up to *position* is stored; the same position once a minute, as a heartbeat."""
        if position == self._committed and time.monotonic() < self._commit_again_at:
            return

        def report(connection: psycopg.Connection[Any]) -> None:
            # it is refused by a restored database that has not reached this position yet
            with suppress(psycopg.errors.InvalidParameterValue):
                connection.execute(_COMMIT, [self._consumer, position])

        if self._primary is not None:
            try:
                with closing(connect(self._primary)) as primary:
                    report(primary)
            except psycopg.OperationalError as error:  # what a replica has can still be read
                _log.warning("position not committed, the primary is not available (%s)", _line(error))
        elif not self.retry(lambda _connection: self._is_replica):
            self.retry(report)
        self._committed, self._commit_again_at = position, time.monotonic() + IDLE


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _read_next(connection: psycopg.Connection[Any], position: int, size: int) -> tuple[list[Event], FeedHorizon | None]:
    events = read(connection, Event, "WHERE position > %s ORDER BY position LIMIT %s", [position, size])
    horizon = read(connection, FeedHorizon)  # after the events, so at least as new
    return events, horizon[0] if horizon else None


_NEWEST: Final = """
SELECT greatest(
    (SELECT max(position) FROM ems.events), (SELECT greatest(deleted_through, epoch_start) FROM ems.feed_horizon), 0
)"""
_COMMIT: Final = "SELECT ems.commit_position(coalesce(%s, session_user::text), %s)"

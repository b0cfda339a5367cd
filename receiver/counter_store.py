"""The counts of all processes on all machines, added up in PostgreSQL.

Each process adds what it has counted to rows of its own, about once a second and at its end, so that none waits for
another. A flush has an id: sent again after its answer was lost, it changes nothing. The job processes of a worker,
one at a time, write to its rows. Because flushes only add, the rows of processes that no longer flush can be merged at
any time: one that flushes again begins new rows. While PostgreSQL is unreachable, counts stay in memory.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
import psycopg
import structlog
from psycopg_pool import PoolTimeout

from receiver.connections import WEB, in_transaction, open_connection
from receiver.counters import unstored_counts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.counters import Sample

log = structlog.stdlib.get_logger(__name__)

Connect: TypeAlias = Callable[[], AbstractContextManager[psycopg.Connection[Any]]]

FLUSH_SECONDS: Final = 1.0
"""How often a process stores its counts; a process that is killed loses at most this much."""
CONNECT_SECONDS: Final = 2
STATEMENT_SECONDS: Final = 5
UNREACHABLE: Final = (psycopg.Error, PoolTimeout)

_FLUSH: Final = """
WITH turn AS (
    INSERT INTO receiver.counter_flushes AS last (process, flush_id, flushed_at)
    VALUES (%(process)s, %(flush_id)s, clock_timestamp())
    ON CONFLICT (process) DO UPDATE SET flush_id = excluded.flush_id, flushed_at = excluded.flushed_at
    WHERE last.flush_id <> excluded.flush_id
    RETURNING process
), counted AS (
    SELECT counted.* FROM turn,
        jsonb_to_recordset(%(counts)s::jsonb) AS counted (name text, labels jsonb, value double precision)
), refused AS (
    INSERT INTO receiver.refused_deliveries AS refused (webhook_id, reason, minute, number, last_at)
    SELECT CAST(labels ->> 'webhook_id' AS bigint), labels ->> 'reason', date_trunc('minute', now(), 'UTC'), value,
        now() - interval '1 second'
    FROM counted WHERE name = 'receiver_deliveries_refused_total' ORDER BY 1, 2
    ON CONFLICT (webhook_id, reason, minute)
        DO UPDATE SET number = refused.number + excluded.number, last_at = excluded.last_at
)
INSERT INTO receiver.counters AS counter (process, name, labels, value)
SELECT %(process)s, name, labels, value FROM counted ORDER BY name, labels
ON CONFLICT (process, name, labels) DO UPDATE SET value = counter.value + excluded.value
"""


@dataclass(frozen=True, slots=True)
class _Flush:
    """Counts that were sent to PostgreSQL, perhaps without an answer: they are sent again under the same id."""

    id: uuid.UUID
    counts: dict[Sample, float]

    def document(self) -> str:
        rows = [{"name": name, "labels": dict(labels), "value": value} for (name, labels), value in self.counts.items()]
        return msgspec.json.encode(rows).decode()


class Flusher:
    """Adds the counts of this process to those in PostgreSQL, in a separate thread; failures affect nothing else."""

    def __init__(self, connect: Connect, *, process: uuid.UUID | None = None) -> None:
        """*connect* opens an autocommitting connection; *process* is whose rows are added to, by default new ones."""
        self._connect = connect
        self._process = process or uuid.uuid4()
        self._unanswered: _Flush | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="counters", daemon=True)

    def start(self) -> None:
        """Flush from now on."""
        self._thread.start()

    def close(self) -> None:
        """Flush a last time and end the thread."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout=CONNECT_SECONDS + STATEMENT_SECONDS)
        self.flush()

    def flush(self) -> bool:
        """Store the counts in PostgreSQL and return whether all of them are stored."""
        with self._lock:
            if self._unanswered is not None and not self._send(self._unanswered):
                return False
            counts = unstored_counts.take()
            return not counts or self._send(_Flush(uuid.uuid4(), counts))

    def _send(self, flush: _Flush) -> bool:
        self._unanswered = flush
        parameters = {"process": self._process, "flush_id": flush.id, "counts": flush.document()}
        try:
            with self._connect() as connection, in_transaction(connection):
                connection.execute(_FLUSH, parameters)
        except UNREACHABLE as error:
            log.debug("counters.postponed", error=type(error).__name__)
            return False
        self._unanswered = None
        return True

    def _run(self) -> None:
        while not self._closing.wait(FLUSH_SECONDS):
            self.flush()


def connecting(database_url: str) -> Connect:
    """Return how a process without a pool connects for each flush."""
    timeouts = replace(WEB, statement=STATEMENT_SECONDS)

    @contextmanager
    def connect() -> Iterator[psycopg.Connection[Any]]:
        with open_connection(
            database_url,
            application="counters",
            timeouts=timeouts,
            connect_timeout=CONNECT_SECONDS,
            prepare_threshold=None,
        ) as connection:
            yield connection

    return connect


@contextmanager
def flushing(database_url: str, *, process: uuid.UUID | None = None) -> Iterator[None]:
    """Flush what is counted in this block, while it runs and at its end."""
    flusher = Flusher(connecting(database_url), process=process)
    flusher.start()
    try:
        yield
    finally:
        flusher.close()

"""Processes the due deliveries, batch by batch."""

from __future__ import annotations

import threading
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import psycopg
import stamina
import structlog
from psycopg import DataError
from rq.timeouts import BaseTimeoutException

from receiver.counters import BATCH_DELIVERIES, BATCH_SECONDS, BATCHES_FAILED, VISIBLE_SECONDS
from receiver.db import was_cut_off
from receiver.processing.batch import apply
from receiver.processing.claim import Backlog, claim_alone, end_leases, make_due
from receiver.processing.failures import AttemptFailure, AttemptOutcome, count_outcomes, name_of, write_failures
from receiver.processing.replays import end_replays, queue_replayed
from receiver.records.write import Outdated, writing_connection
from receiver.tracing import batch_span

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from sqlalchemy import Engine

    from receiver.encryption import Encryption
    from receiver.events.event import ClaimedDelivery
    from receiver.processing.claim import Claim
    from receiver.tracing import BatchTrace

    TakeClaim: TypeAlias = Callable[[psycopg.Connection[Any]], Claim | None]

log = structlog.stdlib.get_logger(__name__)

BATCH_SIZE: Final = 500
ALONE_AT_ONCE: Final = 20
"""How many are processed alone between two batches: so neither they nor the others wait long."""
DRAIN_SECONDS: Final = 30.0
"""Seconds after which a job leaves the rest to the next one: far below RQ's time-out."""
RELEASE_SECONDS: Final = 20.0
"""Seconds for which a process whose connection was lost tries to release its claims."""

stop_requested = threading.Event()
"""Set when the worker was asked to end: the job finishes its batch and leaves the rest to others."""


class Processor:
    """Processes deliveries, over connections that it keeps from one time to the next."""

    def __init__(self, engine: Engine, encryption: Encryption | None = None) -> None:
        """*encryption* is for what recognizes erased card holders."""
        self._engine = engine
        self._encryption = encryption
        self._connections: dict[str, psycopg.Connection[Any]] = {}

    def close(self) -> None:
        """Close the connections."""
        while self._connections:
            self._connections.popitem()[1].close()

    def drain(self, *, wake_another: Callable[[], object] = lambda: None, batch_size: int = BATCH_SIZE) -> bool:
        """Process what is due, and return whether nothing is left of it. Raises psycopg's errors.

        A full batch means that there is more: it calls *wake_another*, and starts a second processing thread, so that
        Python works on one batch while PostgreSQL works on the other. The second takes new deliveries first.
        """
        connection = self.connection("first")
        make_due(connection)
        count_outcomes(end_leases(connection))
        end_replays(connection)
        deadline = time.monotonic() + DRAIN_SECONDS
        with ThreadPoolExecutor(1, thread_name_prefix="second-processing") as background:
            second: list[Future[bool]] = []

            def there_is_more() -> None:
                wake_another()
                if not second:
                    newest = Backlog(new_first=True)
                    second.append(
                        background.submit(self.process_backlog, "second", newest, deadline, batch_size, wake_another)
                    )

            nothing_left = self.process_backlog("first", Backlog(), deadline, batch_size, there_is_more)
            return all(thread.result() for thread in second) and nothing_left

    def process_backlog(
        self, name: str, backlog: Backlog, deadline: float, batch_size: int, there_is_more: Callable[[], object]
    ) -> bool:
        """Process batch by batch, and after each some alone; return whether nothing is left that is due."""
        while time.monotonic() < deadline and not stop_requested.is_set():
            together = self.process(name, lambda connection: backlog.claim(connection, batch_size))
            alone = self._process_alone(name)
            full = together is not None and together.full
            if full:
                there_is_more()
            if not full and not self._queue_replayed(name, batch_size) and not together and not alone:
                return not stop_requested.is_set()
        return False

    def _process_alone(self, name: str) -> bool:
        """Process some of the deliveries that are to be processed alone."""
        number = 0
        while number < ALONE_AT_ONCE and not stop_requested.is_set() and self.process(name, claim_alone):
            number += 1
        return bool(number)

    def _queue_replayed(self, name: str, batch_size: int) -> bool:
        """Store the outcomes of replayed deliveries, and queue the next."""
        connection = self.connection(name)
        end_replays(connection)
        return queue_replayed(connection, batch_size)

    def process(self, name: str, take: TakeClaim) -> Claim | None:
        """Claim deliveries, apply them, and commit effect and outcome together; return what was claimed."""
        connection = self.connection(name)
        began, began_at = time.perf_counter(), time.time_ns()
        claim = take(connection)
        if claim is None:
            return None
        with batch_span(began_at, [(each.id, name_of(each.event), each.trace) for each in claim.deliveries]) as trace:
            outcomes = self._apply(name, connection, claim, trace)
            trace.ended({outcome.delivery_id: outcome.status for outcome in outcomes or ()})
        if outcomes is None:
            return claim
        count_outcomes(outcomes)
        seconds = time.perf_counter() - began
        BATCH_SECONDS.observe(seconds)
        applied = {outcome.delivery_id for outcome in outcomes if outcome.status == "processed"}
        for arrived in claim.arrival_times_at_first_attempt(applied):
            VISIBLE_SECONDS.observe((claim.begun - arrived).total_seconds() + seconds)
        BATCH_DELIVERIES.observe(len(claim.deliveries))
        ids = [delivery.id for delivery in claim.deliveries]
        log.info("batch.processed", deliveries=len(ids), first_delivery_id=min(ids), last_delivery_id=max(ids))
        return claim

    def _apply(
        self, name: str, connection: psycopg.Connection[Any], claim: Claim, trace: BatchTrace
    ) -> list[AttemptOutcome] | None:
        """Apply a claim and return the outcomes; ``None`` when its lease ended before the commit."""
        try:
            return apply(connection, claim, self._encryption)
        except BaseTimeoutException:
            raise  # without an outcome: the lease ends by itself
        except Outdated as error:
            trace.failed(error)
            log.warning("lease.ended_before_commit", deliveries=len(claim.deliveries))
            connection.execute(*claim.mark_not_crashed())
            return None
        except Exception as error:
            if isinstance(error, psycopg.Error) and was_cut_off(error):
                self._release(name, claim)
                raise
            trace.failed(error)
            return after_failure(connection, claim, error)

    def connection(self, name: str) -> psycopg.Connection[Any]:
        """Return the connection of a processing thread, a new one where it was lost."""
        known = self._connections.get(name)
        if known is None or known.closed or known.broken:
            if known is not None:
                known.close()
            known = self._connections[name] = writing_connection(self._engine)
        return known

    def _release(self, name: str, claim: Claim) -> None:
        """Give back a claim whose connection was lost, over a new one: no delivery caused that.

        Raises psycopg's errors when PostgreSQL cannot be reached for long; then the lease ends by itself.
        """
        for attempt in stamina.retry_context(on=psycopg.Error, attempts=None, timeout=RELEASE_SECONDS, wait_max=1.0):
            with attempt:
                self.connection(name).execute(*claim.release(alone=False))
                self.connection(name).execute(*claim.mark_not_crashed())


def drain(
    engine: Engine,
    *,
    encryption: Encryption | None = None,
    wake_another: Callable[[], object] = lambda: None,
    batch_size: int = BATCH_SIZE,
) -> bool:
    """Process what is due, and return whether nothing is left of it; see ``Processor``."""
    with closing(Processor(engine, encryption)) as processor:
        return processor.drain(wake_another=wake_another, batch_size=batch_size)


def after_failure(connection: psycopg.Connection[Any], claim: Claim, error: Exception) -> list[AttemptOutcome]:
    """Let the deliveries of a failed batch be tried alone; of a delivery that failed alone, keep the evidence."""
    if len(claim.deliveries) > 1:
        log.warning("batch.failed", deliveries=len(claim.deliveries), error=_words(error))
        connection.execute(*claim.release(alone=True))
        BATCHES_FAILED.inc()
        return []
    (delivery,) = claim.deliveries
    failure = _failure(delivery, error)
    with connection.transaction():
        connection.execute(*claim.hold())
        outcomes = write_failures(connection, [failure])
    for outcome in outcomes:
        pause = None if outcome.pause is None else round(outcome.pause)
        log.error(
            "delivery.failed",
            delivery_id=delivery.id,
            status=outcome.status,
            next_attempt_in_seconds=pause,
            error=failure.error,
        )
    return outcomes


def _failure(delivery: ClaimedDelivery, error: Exception) -> AttemptFailure:
    """Return the evidence of a failed attempt. Values that PostgreSQL refuses will be refused again: no retry."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    return AttemptFailure(
        delivery_id=delivery.id,
        event=delivery.event,
        number=delivery.attempts,
        error=_words(error),
        trace=f"Traceback (most recent call last):\n{frames}{_words(error)}",
        retryable=not isinstance(error, DataError),
        before_replay=delivery.attempts_before_replay,
        body=delivery.body,
    )


def _words(error: Exception) -> str:
    """Return an error in one line.

    PostgreSQL puts whole rows into the later lines of its errors; the first names the constraint, which must suffice.
    """
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"

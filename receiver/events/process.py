"""The RQ job: from stored deliveries to changed records.

``process_deliveries`` drains what waits, batch by batch; ``process_batch`` is the road of one batch. Claim, effect and
outcome commit together, so a crash leaves the deliveries as they were.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import structlog
from redis import RedisError
from rq import get_current_job
from rq.timeouts import BaseTimeoutException
from sqlalchemy.exc import DataError, DBAPIError, OperationalError

from receiver.connections import WORK
from receiver.counters import BATCH_DELIVERIES, BATCH_SECONDS, BATCHES_FAILED, WAKE_UPS_FAILED
from receiver.db import engine_for, was_cut_off
from receiver.encryption import Encryption
from receiver.events.apply import apply
from receiver.events.awaited_tests import resolve_expired
from receiver.events.claim import (
    Backlog,
    claim_suspect,
    delete_note,
    mark_suspects,
    note_claim,
    plan_anew,
    recover_abandoned,
    take_back,
)
from receiver.events.handlers.receipts import receipts_wait
from receiver.events.late_tests import set_aside_tests
from receiver.events.outcomes import counted_when_committed
from receiver.events.replayed import claim_replayed, claim_replayed_alone, end_replays, settle_replayed
from receiver.events.settle import Failure, settle_failures
from receiver.queue import connect, wake_files_worker, wake_worker, woken_again, worker_is_awake
from receiver.settings import load_settings, unset_for_api

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from redis import Redis
    from sqlalchemy import Connection, Engine

    from receiver.events.event import StoredDelivery

    Claim: TypeAlias = Callable[[Connection], list[StoredDelivery]]
    NoteOutcome: TypeAlias = Callable[[Connection, list[StoredDelivery]], None]

log = structlog.stdlib.get_logger(__name__)

BATCH_SIZE: Final = 500
SUSPECTS_AT_ONCE: Final = 20
"""How many suspects are processed between two batches: they shall neither wait for ever nor keep the others waiting."""
DRAIN_SECONDS: Final = 30.0
"""How long one job goes on before it hands over to a next one, or stays for more: far below RQ's time-out."""
STAY_SECONDS: Final = 5.0
"""How long a job waits for the next wake-up before it ends."""
LOOK_UP_SECONDS: Final = 0.5
"""How long it waits without looking whether it is to stop."""


stop_requested = threading.Event()
"""Set when the worker was asked to end: the job finishes its batch and leaves the rest to others."""


def process_deliveries() -> None:
    """Process everything that waits, then return. Run by RQ; any number may run at once.

    In a worker it stays for a while and takes the next wake-up, too: what comes soon finds a process that is ready.
    """
    settings = load_settings(os.environ)
    redis = connect(settings.redis_url)
    engine = engine_for(
        settings.database_url,
        application="worker",
        bounds=WORK,
        encryption=Encryption(settings.encryption_keys),
    )
    wake_another = _quietly(wake_worker, redis)
    stay_until = time.monotonic() + DRAIN_SECONDS if get_current_job() else 0.0
    try:
        while True:
            _quietly(worker_is_awake, redis)()
            nothing_left = drain(engine, wake_another=wake_another)
            if not nothing_left:
                wake_another()
            if not unset_for_api(settings) and receipts_wait(engine):
                _quietly(wake_files_worker, redis)()
            stay = min(stay_until, time.monotonic() + STAY_SECONDS)
            if not nothing_left or not _woken_again(redis, until=stay):
                return
    except DBAPIError as error:  # nothing is lost with the connection
        if not isinstance(error, OperationalError) and not was_cut_off(error):
            raise
        log.warning("PostgreSQL is away; the sweep comes again", error=str(error.orig).partition("\n")[0])
    finally:
        engine.dispose()
        redis.close()


def _woken_again(redis: Redis, *, until: float) -> bool:
    """Wait for the next wake-up; return False when none came, or this process is not to stay."""
    while (left := until - time.monotonic()) > 0 and not stop_requested.is_set():
        try:
            if woken_again(redis, within=min(left, LOOK_UP_SECONDS)):
                return True
        except RedisError:
            return False
    return False


def _quietly(act: Callable[[Redis], object], redis: Redis) -> Callable[[], None]:
    """Return *act* without its errors: Redis only wakes, and what is not woken is found by the sweep."""

    def try_it() -> None:
        try:
            act(redis)
        except RedisError as error:
            WAKE_UPS_FAILED.inc()
            log.warning("Redis is away; the sweep will do", error=type(error).__name__)

    return try_it


def drain(engine: Engine, *, wake_another: Callable[[], object] = lambda: None, batch_size: int = BATCH_SIZE) -> bool:
    """Process what is due, and return whether nothing is left of it.

    A full batch means that there is more: it calls *wake_another*, and starts a second lane in this process, so that
    Python works on one batch while PostgreSQL works on the other. The second takes what is fresh before what is old.
    """
    plan_anew(engine)
    recover_abandoned(engine)
    resolve_expired(engine)
    end_replays(engine)
    deadline = time.monotonic() + DRAIN_SECONDS
    with ThreadPoolExecutor(1, thread_name_prefix="second-lane") as beside:
        second: list[Future[bool]] = []

        def there_is_more() -> None:
            wake_another()
            if not second:
                fresh_first = Backlog(fresh_first=True)
                second.append(beside.submit(drain_lane, engine, fresh_first, deadline, batch_size, wake_another))

        nothing_left = drain_lane(engine, Backlog(), deadline, batch_size, there_is_more)
        return all(lane.result() for lane in second) and nothing_left


def drain_lane(
    engine: Engine, backlog: Backlog, deadline: float, batch_size: int, there_is_more: Callable[[], object]
) -> bool:
    """Process batch by batch, and after each some suspects alone; return whether nothing is left that is due."""
    while time.monotonic() < deadline and not stop_requested.is_set():
        together = process_batch(engine, lambda connection: backlog.claim(connection, batch_size))
        alone = process_alone(engine, claim_suspect)
        replayed = 0 if together == batch_size else process_replayed(engine, batch_size)
        if batch_size in {together, replayed}:
            there_is_more()
        if not together and not alone and not replayed:
            return True
    return False


def process_alone(engine: Engine, claim: Claim, note_outcome: NoteOutcome | None = None) -> int:
    """Process some of the deliveries that are to be processed alone, each in a transaction of its own."""
    number = 0
    while number < SUSPECTS_AT_ONCE and not stop_requested.is_set() and process_batch(engine, claim, note_outcome):
        number += 1
    return number


def process_replayed(engine: Engine, batch_size: int) -> int:
    """Process a batch of what replays selected, and some of it alone; return how many that were."""
    together = process_batch(engine, lambda connection: claim_replayed(connection, batch_size), note_replayed)
    alone = process_alone(engine, claim_replayed_alone, note_replayed)
    if together or alone:
        end_replays(engine)
    return together or alone


def note_replayed(connection: Connection, claimed: Sequence[StoredDelivery]) -> None:
    """Tell the replays what became of *claimed*."""
    settle_replayed(connection, {delivery.id: delivery.attempts for delivery in claimed})


def process_batch(engine: Engine, claim: Claim, note_outcome: NoteOutcome | None = None) -> int:
    """Claim deliveries, apply them, and commit effect and outcome together; return how many were claimed."""
    note: int | None = None
    began = time.perf_counter()
    try:
        with counted_when_committed(), engine.connect() as connection, connection.begin():
            claimed = claim(connection)
            if not claimed:
                return 0
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as notes:
                note = note_claim(notes, claimed)
            try:
                with counted_when_committed(), connection.begin_nested():
                    apply(connection, set_aside_tests(connection, claimed))
            except BaseTimeoutException:
                raise  # without an outcome: the note tells
            except Exception as error:
                if isinstance(error, DBAPIError) and was_cut_off(error):
                    raise
                after_failure(connection, claimed, error)
            if note_outcome is not None:
                note_outcome(connection, claimed)
            delete_note(connection, note)
    except DBAPIError as error:
        if note is not None and was_cut_off(error):
            take_back(engine, note)
        raise
    BATCH_SECONDS.observe(time.perf_counter() - began)
    BATCH_DELIVERIES.observe(len(claimed))
    ids = [delivery.id for delivery in claimed]
    log.info("batch processed", deliveries=len(ids), first_delivery_id=min(ids), last_delivery_id=max(ids))
    return len(claimed)


def after_failure(connection: Connection, claimed: Sequence[StoredDelivery], error: Exception) -> None:
    """Let the deliveries of a failed batch be tried alone; of a delivery that failed alone, keep the evidence."""
    if len(claimed) > 1:
        log.warning("batch failed; its deliveries are processed alone", deliveries=len(claimed), error=_words(error))
        mark_suspects(connection, [delivery.id for delivery in claimed])
        BATCHES_FAILED.inc()
        return
    (delivery,) = claimed
    failure = _failure(delivery, error)
    log.error("delivery failed", delivery_id=delivery.id, error=failure.error)
    settle_failures(connection, [failure])


def _failure(delivery: StoredDelivery, error: Exception) -> Failure:
    """Return the evidence of a failed attempt. Values that PostgreSQL refuses will be refused again: no retry."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    return Failure(
        delivery_id=delivery.id,
        event=delivery.event,
        number=delivery.attempts + 1,
        error=_words(error),
        trace=f"Traceback (most recent call last):\n{frames}{_words(error)}",
        retryable=not isinstance(error, DataError),
        before_replay=delivery.attempts_before_replay,
        body=delivery.body,
    )


def _words(error: Exception) -> str:
    """Return an error in one line.

    PostgreSQL puts whole rows into the later lines of its errors; the first names the constraint, which has to do.
    """
    said = str(error.orig if isinstance(error, DBAPIError) else error).partition("\n")[0]
    return f"{type(error).__name__}: {said}"

"""The RQ job: from stored deliveries to changed records.

``process_deliveries`` drains what waits, batch by batch; ``process_batch`` is the road of one batch. Claim, effect and
outcome commit together, so a crash leaves the deliveries as they were.
"""

from __future__ import annotations

import os
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
from redis import RedisError
from rq.timeouts import BaseTimeoutException
from sqlalchemy.exc import DataError, DBAPIError, OperationalError

from receiver.db import engine_for
from receiver.errors import EventError, WrongTenant
from receiver.events.claim import (
    claim_batch,
    claim_suspect,
    delete_note,
    mark_suspects,
    note_claim,
    recover_abandoned,
)
from receiver.events.handlers.transactions import date_back
from receiver.events.registry import load_handlers
from receiver.events.retries import is_card_holder_event, judge_by_value, new_by_sequence
from receiver.events.settle import (
    Failure,
    Rejection,
    settle_events,
    settle_failures,
    settle_rejections,
)
from receiver.events.understand import NotHandled, understand
from receiver.queue import connect, wake_worker, worker_is_awake
from receiver.records.feed import append_to_feed
from receiver.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection, Engine

    from receiver.events.event import Event, StoredDelivery
    from receiver.events.retries import DatedBack
    from receiver.records.upsert import Row

log = structlog.stdlib.get_logger(__name__)

BATCH_SIZE: Final = 500
SUSPECTS_AT_ONCE: Final = 20
"""How many suspects are processed between two batches: they shall neither wait for ever nor keep the others waiting."""
DRAIN_SECONDS: Final = 30.0
"""How long one job goes on before it hands over to a next one: far below RQ's time-out."""


class StopRequest:
    """Whether the worker was asked to end: the job finishes its batch and leaves the rest to others."""

    def __init__(self) -> None:
        self.requested = False


stop_request = StopRequest()


def process_deliveries() -> None:
    """Process everything that waits, then return. Run by RQ; any number may run at once."""
    settings = load_settings(os.environ)
    redis = connect(settings.redis_url)
    engine = engine_for(settings.database_url, application="worker")
    try:
        worker_is_awake(redis)
        if not drain(engine, wake_another=lambda: wake_worker(redis)):
            wake_worker(redis)
    except RedisError as error:  # what is left waits for the next wake-up, or for the sweep
        log.warning("could not hand over to another worker", error=type(error).__name__)
    except OperationalError as error:  # likewise; nothing is lost with the connection
        log.warning("PostgreSQL is away; the sweep comes again", error=str(error.orig).partition("\n")[0])
    finally:
        engine.dispose()
        redis.close()


def drain(engine: Engine, *, wake_another: Callable[[], object] = lambda: None, batch_size: int = BATCH_SIZE) -> bool:
    """Process what is due, and return whether nothing is left of it.

    A full batch means that there is more: it calls *wake_another*, and starts a second lane in this process, so that
    Python works on one batch while PostgreSQL works on the other.
    """
    recover_abandoned(engine)
    deadline = time.monotonic() + DRAIN_SECONDS
    with ThreadPoolExecutor(1, thread_name_prefix="second-lane") as beside:
        second: list[Future[bool]] = []

        def there_is_more() -> None:
            wake_another()
            if not second:
                second.append(beside.submit(drain_lane, engine, deadline, batch_size, wake_another))

        nothing_left = drain_lane(engine, deadline, batch_size, there_is_more)
        return all(lane.result() for lane in second) and nothing_left


def drain_lane(engine: Engine, deadline: float, batch_size: int, there_is_more: Callable[[], object]) -> bool:
    """Process batch by batch, and after each some suspects alone; return whether nothing is left that is due."""
    while time.monotonic() < deadline and not stop_request.requested:
        together = process_batch(engine, lambda connection: claim_batch(connection, batch_size))
        if together == batch_size:
            there_is_more()
        alone = process_suspects(engine)
        if not together and not alone:
            return True
    return False


def process_suspects(engine: Engine) -> int:
    """Process some of the deliveries that are to be processed alone, each in a transaction of its own."""
    number = 0
    while number < SUSPECTS_AT_ONCE and not stop_request.requested and process_batch(engine, claim_suspect):
        number += 1
    return number


def process_batch(engine: Engine, claim: Callable[[Connection], list[StoredDelivery]]) -> int:
    """Claim deliveries, apply them, and commit effect and outcome together; return how many were claimed."""
    with engine.connect() as connection, connection.begin():
        claimed = claim(connection)
        if not claimed:
            return 0
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as notes:
            note = note_claim(notes, claimed)
        try:
            with connection.begin_nested():
                apply(connection, claimed)
        except BaseTimeoutException:
            raise  # without an outcome: the note tells
        except Exception as error:
            if isinstance(error, DBAPIError) and error.connection_invalidated:
                raise
            after_failure(connection, claimed, error)
        delete_note(connection, note)
    log.info("batch processed", deliveries=len(claimed))
    return len(claimed)


def after_failure(connection: Connection, claimed: Sequence[StoredDelivery], error: Exception) -> None:
    """Let the deliveries of a failed batch be tried alone; of a delivery that failed alone, keep the evidence."""
    if len(claimed) > 1:
        log.warning("batch failed; its deliveries are processed alone", deliveries=len(claimed), error=_words(error))
        mark_suspects(connection, [delivery.id for delivery in claimed])
        return
    (delivery,) = claimed
    failure = _failure(delivery, error)
    log.error("delivery failed", delivery_id=delivery.id, error=failure.error)
    settle_failures(connection, [failure])


def apply(connection: Connection, deliveries: Sequence[StoredDelivery]) -> None:
    """Understand *deliveries*, tell events from retries, apply the events, and append them to the feed."""
    events, rejections = understand_all(deliveries)
    judged = tell_retries_apart(connection, events)
    settle_rejections(connection, rejections)
    settle_events(connection, judged.retries, "duplicate")
    settle_events(connection, judged.new, "processed")
    apply_events(connection, judged.new)
    date_back(connection, judged.dated_back)
    append_to_feed(connection, [_feed_row(event) for event in judged.new])


def understand_all(deliveries: Sequence[StoredDelivery]) -> tuple[list[Event], list[Rejection]]:
    """Return the events in *deliveries*, oldest first, and what makes no sense, with the reason."""
    handlers = load_handlers()
    events, rejections = [], []
    for delivery in sorted(deliveries, key=lambda delivery: (delivery.occurred_at, delivery.id)):
        try:
            events.append(understand(delivery, handlers))
        except NotHandled as error:
            rejections.append(Rejection(delivery, "ignored", str(error)))
        except WrongTenant as error:
            rejections.append(Rejection(delivery, "quarantined", str(error)))
        except EventError as error:
            rejections.append(Rejection(delivery, "dead", str(error)))
    return events, rejections


@dataclass(frozen=True, slots=True)
class Judged:
    """Events, told from retries; those that a later batch has to judge are in neither list and go on waiting."""

    new: list[Event]
    """Oldest first; among them may be stored deliveries of before that were taken for retries."""
    retries: list[Event]
    dated_back: list[DatedBack]


def tell_retries_apart(connection: Connection, events: Sequence[Event]) -> Judged:
    """Tell which of *events* (oldest first) are new and which are retries of known ones."""
    new_holders, revalued = new_by_sequence(connection, [event for event in events if is_card_holder_event(event)])
    by_value = judge_by_value(connection, [event for event in events if not is_card_holder_event(event)])
    new_ids = new_holders | by_value.new
    handlers = load_handlers()
    new = [event for event in events if event.delivery_id in new_ids]
    new += [understand(delivery, handlers) for delivery in revalued]
    not_retries = new_ids | by_value.later
    return Judged(
        new=sorted(new, key=lambda event: (event.occurred_at, event.delivery_id)),
        retries=[event for event in events if event.delivery_id not in not_retries],
        dated_back=by_value.dated_back,
    )


def apply_events(connection: Connection, events: Sequence[Event]) -> None:
    """Hand each event to its handler, all events of one handler at once."""
    handlers = load_handlers()
    for apply_them in dict.fromkeys(handler.apply for handler in handlers.values()):
        theirs = [event for event in events if handlers[event.name].apply is apply_them]
        if theirs:
            apply_them(connection, theirs)


def _feed_row(event: Event) -> Row:
    return {
        "type": event.name,
        "organization_reference_id": event.organization_reference_id,
        "card_holder_reference_id": event.card_holder_reference_id,
        "transaction_id": event.transaction_id,
        "occurred_at": event.occurred_at,
        "source": event.source,
        "delivery_id": event.delivery_id,
        "payload": None if event.document is None else msgspec.Raw(event.document),
    }


def _failure(delivery: StoredDelivery, error: Exception) -> Failure:
    """Return the evidence of a failed attempt. Values that PostgreSQL refuses will be refused again: no retry."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    return Failure(
        delivery_id=delivery.id,
        number=delivery.attempts + 1,
        error=_words(error),
        trace=f"Traceback (most recent call last):\n{frames}{_words(error)}",
        retryable=not isinstance(error, DataError),
    )


def _words(error: Exception) -> str:
    """Return an error in one line.

    PostgreSQL puts whole rows into the later lines of its errors; the first names the constraint, which has to do.
    """
    said = str(error.orig if isinstance(error, DBAPIError) else error).partition("\n")[0]
    return f"{type(error).__name__}: {said}"

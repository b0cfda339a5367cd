"""The road of a batch: understand, tell events from retries, apply, append to the feed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from receiver.errors import EventError, NotHandled, WrongTenant
from receiver.events.dated_back import set_back
from receiver.events.erased import conceal, empty_concealed
from receiver.events.handlers.transactions import date_snapshots_back
from receiver.events.payloads import TransactionPayload
from receiver.events.registry import load_handlers
from receiver.events.retries import is_card_holder_event, judge_by_value, new_by_sequence
from receiver.events.settle import Rejection, settle_events, settle_rejections
from receiver.events.understand import understand
from receiver.records.feed import append_to_feed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from receiver.events.event import Event, StoredDelivery
    from receiver.events.retries import DatedBack
    from receiver.records.upsert import Row


def apply(connection: Connection, deliveries: Sequence[StoredDelivery]) -> None:
    """Understand *deliveries*, tell events from retries, apply the events, and append them to the feed.

    What is about an erased card holder goes this way under a pseudonym.
    """
    events, rejections = understand_all(deliveries)
    events, concealed = conceal(connection, events, deliveries)
    judged = tell_retries_apart(connection, events)
    settle_rejections(connection, rejections)
    settle_events(connection, judged.retries, "duplicate")
    settle_events(connection, judged.new, "processed")
    empty_concealed(connection, concealed & {event.delivery_id for event in (*judged.new, *judged.retries)})
    apply_events(connection, [*judged.new, *filter(is_card_holder_event, judged.retries)])
    if judged.dated_back:
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
    new = [_as_known(event, by_value.occurred) for event in events if event.delivery_id in new_ids]
    new += [_again(understand(delivery, handlers), delivery) for delivery in revalued]
    not_retries = new_ids | by_value.later
    return Judged(
        new=sorted(new, key=lambda event: (event.occurred_at, event.delivery_id)),
        retries=[event for event in events if event.delivery_id not in not_retries],
        dated_back=by_value.dated_back,
    )


def _as_known(event: Event, occurred: Mapping[int, datetime]) -> Event:
    """Return *event* with the time since when it counts, where it is known: a replay must not take back its dating."""
    known = occurred.get(event.delivery_id)
    return event if known is None or known == event.occurred_at else replace(event, occurred_at=known)


def _again(event: Event, delivery: StoredDelivery) -> Event:
    """Return the event in a delivery of before, which tells its payload itself: the stored body may be gone."""
    return event if event.document is not None else replace(event, document=delivery.body)


def apply_events(connection: Connection, events: Sequence[Event]) -> None:
    """Hand each event to its handler, all events of one handler at once."""
    handlers = load_handlers()
    for apply_them in dict.fromkeys(handler.apply for handler in handlers.values()):
        theirs = [event for event in events if handlers[event.name].apply is apply_them]
        if theirs:
            apply_them(connection, theirs)


def date_back(connection: Connection, dated_back: Sequence[DatedBack]) -> None:
    """Let known events count from an earlier moment, as if they had been processed in the order they occurred in."""
    date_snapshots_back(connection, [known for known in dated_back if _is_snapshot(known.copy)])
    others = [known for known in dated_back if not _is_snapshot(known.copy)]
    if others:
        apply_events(connection, set_back(connection, others))


def _is_snapshot(event: Event) -> bool:
    return isinstance(event.payload, TransactionPayload)


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

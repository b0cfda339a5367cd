"""Is it new? Tells events from retries, for there is no delivery id.

By value: a transaction snapshot or an enrichment equal to one that was taken for an event within a day is a retry,
whatever came between. By sequence: card-holder events, see ``card_holder_history``.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from receiver.events.card_holder_history import TIME_COLUMNS, Mention, card_holder_body, newly_events
from receiver.events.event import StoredDelivery
from receiver.events.recall import recall
from receiver.records.upsert import rows_parameter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from receiver.events.event import Event

WINDOW: Final = timedelta(days=1)
"""How far apart two equal events are to be two."""

HolderKey = tuple[str, str]

# One statement decides and remembers, and holds the row's lock until the commit: a second worker with the same event
# waits, and then sees it.
_REMEMBER: Final = text(
    """
INSERT INTO receiver.known_events AS known (fingerprint, occurrences, delivery_ids)
SELECT fingerprint, ARRAY[occurred_at], ARRAY[delivery_id]
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS told (fingerprint bytea, occurred_at timestamptz, delivery_id bigint)
ON CONFLICT (fingerprint) DO UPDATE
SET occurrences = known.occurrences || excluded.occurrences,
    delivery_ids = known.delivery_ids || excluded.delivery_ids
WHERE excluded.delivery_ids[1] <> ALL (known.delivery_ids) AND NOT EXISTS (
    SELECT FROM unnest(known.occurrences) AS before (occurred_at)
    WHERE before.occurred_at BETWEEN excluded.occurrences[1] - CAST(:time_window AS interval)
        AND excluded.occurrences[1] + CAST(:time_window AS interval)
)
RETURNING delivery_ids[array_upper(delivery_ids, 1)]
"""
)
_TOLD: Final = text(
    "SELECT delivery_id FROM ems.events WHERE delivery_id = ANY(:ids) "
    "UNION ALL SELECT id FROM receiver.deliveries WHERE id = ANY(:ids) AND left_feed"
)
_KNOWN: Final = text(
    "SELECT fingerprint, occurrences, delivery_ids FROM receiver.known_events WHERE fingerprint = ANY(:fingerprints)"
)
_DATE_BACK: Final = text(
    "UPDATE receiver.known_events SET occurrences = array_replace(occurrences, :known, :earlier) "
    "WHERE fingerprint = :fingerprint"
)
_LOCK_CARD_HOLDERS: Final = text(
    """
INSERT INTO ems.card_holders AS stored (organization_reference_id, reference_id, updated_at)
SELECT organization_reference_id, reference_id, clock_timestamp()
FROM jsonb_to_recordset(CAST(:keys AS jsonb)) AS holder (organization_reference_id text, reference_id text)
ON CONFLICT (organization_reference_id, reference_id) DO UPDATE SET reference_id = excluded.reference_id
"""
)
_HISTORY: Final = text(
    """
SELECT delivery.id, delivery.event, delivery.version, delivery.body, delivery.source, delivery.occurred_at,
    delivery.attempts, holder.organization_reference_id, holder.reference_id,
    delivery.status = 'processed' OR delivery.left_feed OR EXISTS (
        SELECT FROM ems.events AS event WHERE event.delivery_id = delivery.id
    ) AS counted
FROM jsonb_to_recordset(CAST(:keys AS jsonb)) AS holder (organization_reference_id text, reference_id text)
JOIN receiver.deliveries AS delivery ON delivery.card_holder_reference_id = holder.reference_id
    AND delivery.event LIKE 'card\\_holder.%' AND delivery.status IN ('processed', 'duplicate')
JOIN receiver.webhooks AS webhook ON webhook.id = delivery.webhook_id
    AND webhook.organization_reference_id = holder.organization_reference_id
"""
)


def is_card_holder_event(event: Event) -> bool:
    """Return whether *event* is valued by sequence."""
    return event.name in TIME_COLUMNS


@dataclass(frozen=True, slots=True)
class DatedBack:
    """A known event of which an earlier copy was found: it occurred when that copy did."""

    delivery_id: int
    """The delivery that was taken for the event."""
    occurred_at: datetime
    copy: Event
    """The earlier copy."""


@dataclass(frozen=True, slots=True)
class ByValue:
    """What was found out about events that are valued by value, by delivery."""

    new: set[int]
    later: set[int]
    """To be judged in a later batch."""
    dated_back: list[DatedBack]
    occurred: dict[int, datetime]
    """Of deliveries that were taken for an event before (a replay): since when it counts, perhaps dated back."""


def judge_by_value(connection: Connection, events: Sequence[Event]) -> ByValue:
    """Tell which of *events* (oldest first) are new.

    A delivery that was taken for the event before (a replay) is new again. Two equal events of one batch that are
    more than a day apart cannot be judged by one statement, so the later one waits. Where several workers are at it,
    a retry may have been judged before its original: then the event is dated back to the original's time.
    """
    first: dict[bytes, Event] = {}
    later: set[int] = set()
    for event in events:
        known = first.setdefault(event.fingerprint, event)
        if event.occurred_at - known.occurred_at > WINDOW:
            later.add(event.delivery_id)
    if not first:
        return ByValue(set(), later, [], {})
    candidates = [first[fingerprint] for fingerprint in sorted(first)]
    rows = [
        {
            "fingerprint": "\\x" + event.fingerprint.hex(),
            "occurred_at": event.occurred_at,
            "delivery_id": event.delivery_id,
        }
        for event in candidates
    ]
    recall(connection, candidates)
    new = set(connection.scalars(_REMEMBER, {"rows": rows_parameter(rows), "time_window": WINDOW}).all())
    refused = {event.fingerprint: event for event in candidates if event.delivery_id not in new}
    if not refused:
        return ByValue(new, later, [], {})
    occurred: dict[int, datetime] = {}
    dated_back = []
    for fingerprint, occurrences, delivery_ids in connection.execute(_KNOWN, {"fingerprints": list(refused)}).all():
        copy = refused[bytes(fingerprint)]
        occurred.update(zip(delivery_ids, occurrences, strict=True))
        if any(timedelta() <= copy.occurred_at - occurred_at <= WINDOW for occurred_at in occurrences):
            continue  # a retry of that one, whatever came within a day after
        for occurred_at, delivery_id in zip(occurrences, delivery_ids, strict=True):
            own = delivery_id == copy.delivery_id  # dated by its first attempt since, however long before that was
            if timedelta() < occurred_at - copy.occurred_at and (own or occurred_at - copy.occurred_at <= WINDOW):
                occurred[delivery_id] = copy.occurred_at
                dated_back.append(DatedBack(delivery_id, copy.occurred_at, copy))
                connection.execute(
                    _DATE_BACK, {"known": occurred_at, "earlier": copy.occurred_at, "fingerprint": fingerprint}
                )
    new |= {event.delivery_id for event in events if event.delivery_id in occurred and event.delivery_id not in later}
    return ByValue(new, later, dated_back, occurred)


def new_by_sequence(connection: Connection, events: Sequence[Event]) -> tuple[set[int], list[StoredDelivery]]:
    """Return the deliveries of card-holder *events* that are new, and stored retries that turn out to be events.

    Locks the card holders until the commit, so that their histories grow one event at a time.
    """
    keys = sorted({_holder(event) for event in events})
    if not keys:
        return set(), []
    connection.execute(_LOCK_CARD_HOLDERS, {"keys": _keys_parameter(keys)})
    own = {event.delivery_id for event in events}
    replayed = set(connection.scalars(_TOLD, {"ids": list(own)}))
    mentions: dict[HolderKey, list[Mention]] = defaultdict(list)
    stored: dict[int, StoredDelivery] = {}
    for row in read_history(connection, keys):
        if row["id"] not in own:
            mentions[row["organization_reference_id"], row["reference_id"]].append(_mention(row))
            stored[row["id"]] = _stored_delivery(row)
    for event in events:
        mentions[_holder(event)].append(
            Mention(event.delivery_id, event.name, event.occurred_at, counted=event.delivery_id in replayed),
        )
    chosen = set[int]().union(*(newly_events(mentions[key]) for key in keys))
    return chosen & own | replayed, [stored[delivery_id] for delivery_id in sorted(chosen - own)]


def histories(connection: Connection, events: Sequence[Event]) -> dict[HolderKey, list[Mention]]:
    """Return all mentions of the card holders of *events*, those settled just now too."""
    keys = sorted({_holder(event) for event in events})
    mentions: dict[HolderKey, list[Mention]] = {key: [] for key in keys}
    for row in read_history(connection, keys):
        mentions[row["organization_reference_id"], row["reference_id"]].append(_mention(row))
    return mentions


def read_history(connection: Connection, keys: Sequence[HolderKey]) -> list[dict[str, Any]]:
    """Return the settled deliveries about card holders."""
    return [dict(row) for row in connection.execute(_HISTORY, {"keys": _keys_parameter(keys)}).mappings()]


def _keys_parameter(keys: Sequence[HolderKey]) -> str:
    return rows_parameter(
        [{"organization_reference_id": organization, "reference_id": reference} for organization, reference in keys]
    )


def _holder(event: Event) -> HolderKey:
    return event.organization_reference_id, event.card_holder_reference_id or ""


def _mention(row: dict[str, Any]) -> Mention:
    return Mention(row["id"], row["event"], row["occurred_at"], counted=row["counted"])


def _stored_delivery(row: dict[str, Any]) -> StoredDelivery:
    names = ("id", "organization_reference_id", "event", "version", "source", "occurred_at", "attempts")
    body = row["body"]
    if body is None:
        body = card_holder_body(row["organization_reference_id"], row["reference_id"])
    return StoredDelivery(**{name: row[name] for name in names}, body=body)

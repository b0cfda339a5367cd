"""Everything that happened to a purchase, oldest first: deliveries, events, the log, the journal, replays, files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from receiver.ops.audit import arguments
from receiver.ops.purchases.difference import FieldChange, difference, exact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, TextClause

    from receiver.ops.deliveries import DeliverySummary

VIEW: Final = "transactions show"
"""The action of looking at a purchase with personal data, in records."""
CHANGED: Final = "receiver.changed"
"""The type of an entry of the feed that no event of OpenCard announces."""
TRANSACTION_STATES: Final = ("authorized", "deleted", "cleared", "invoiced")
MAX_ROWS: Final = 500
"""How many of each kind are shown at most."""
ORDER: Final = ("log", "delivery", "processing failed", "event", "ledger", "file", "confirmed", "replay", "viewed")
"""Kinds in the order in which they happen, where the times are equal."""
_EVENTS: Final = text(
    f"""
SELECT position, type, occurred_at, recorded_at, source, delivery_id, retracted_at, CAST(payload AS text) AS payload
FROM ems.events WHERE organization_reference_id = :organization AND subject_id = :transaction
ORDER BY occurred_at, position LIMIT {MAX_ROWS}
"""  # noqa: S608 - a constant
)
_ATTEMPTS: Final = text(
    f"""
SELECT delivery_id, number, attempted_at, outcome, error FROM receiver.processing_attempts
WHERE delivery_id = ANY(:deliveries) ORDER BY id LIMIT {MAX_ROWS}
"""  # noqa: S608 - likewise
)
_REPLAYS: Final = text(
    f"""
SELECT replay.id, replay.created_at, replay.requested_by, replay.reason, member.delivery_id, member.status_before,
    member.outcome
FROM receiver.replay_deliveries AS member JOIN receiver.replays AS replay ON replay.id = member.replay_id
WHERE member.delivery_id = ANY(:deliveries) ORDER BY replay.id, member.delivery_id LIMIT {MAX_ROWS}
"""  # noqa: S608 - likewise
)
_LOG: Final = text(
    f"""
SELECT entry.attempted_at, entry.event, entry.response_status, entry.webhook_id
FROM receiver.delivery_log AS entry
WHERE entry.webhook_id = ANY(:webhooks) AND entry.attempted_at IS NOT NULL AND entry.fingerprint IN (
    SELECT fingerprint FROM receiver.deliveries WHERE id = ANY(:deliveries) AND fingerprint IS NOT NULL
)
ORDER BY entry.attempted_at, entry.id LIMIT {MAX_ROWS}
"""  # noqa: S608 - likewise
)
_JOURNAL: Final = text(
    f"""
SELECT recorded_at, position, kind, booked_on, accounting_amount, accounting_currency, original_amount,
    original_currency, vat_amount, vat_currency, receipt_state, changed
FROM ems.ledger_journal WHERE organization_reference_id = :organization AND transaction_id = :transaction
ORDER BY position, line LIMIT {MAX_ROWS}
"""  # noqa: S608 - likewise
)
_VIEWS: Final = text(
    f"""
SELECT at, actor, action, object FROM receiver.audit
WHERE (action = '{VIEW}' AND object = ANY(:views)) OR (action = 'deliveries show' AND object = ANY(:delivery_ids))
ORDER BY id DESC LIMIT {MAX_ROWS}
"""  # noqa: S608 - likewise
)


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened to a purchase."""

    at: datetime
    kind: str
    """One of ``ORDER``."""
    text: str
    """For people; without personal data."""
    status: str | None = None
    """Of the delivery; or the outcome of the attempt or the replay."""
    delivery_id: int | None = None
    position: int | None = None
    replay_id: int | None = None
    first: bool = False
    """Whether it is the first event of its kind, so that *changes* are all of its fields."""
    changes: tuple[FieldChange, ...] = ()
    """Of an event: what differs from the event of the same kind that occurred before it."""
    payload: str | None = field(default=None, repr=False)
    """Of an event, when personal data were asked for."""


def read_timeline(
    connection: Connection,
    organization: str,
    transaction_id: str,
    deliveries: Sequence[DeliverySummary],
    receipts: Sequence[Mapping[str, Any]],
    *,
    personal: bool,
) -> tuple[Happening, ...]:
    """Return what happened, oldest first. *deliveries* and *receipts* are those of the purchase."""
    purchase = {"organization": organization, "transaction": transaction_id}
    stored = {"deliveries": [each.id for each in deliveries]}
    log = {**stored, "webhooks": sorted({each.webhook_id for each in deliveries})}
    views = {
        "views": [view_arguments(transaction_id), view_arguments(transaction_id, organization)],
        "delivery_ids": [str(each.id) for each in deliveries],
    }
    happened = [
        *_of_log(rows_of(connection, _LOG, log)),
        *_of_deliveries(deliveries),
        *_of_attempts(rows_of(connection, _ATTEMPTS, stored)),
        *_of_events(rows_of(connection, _EVENTS, purchase), personal=personal),
        *_of_journal(rows_of(connection, _JOURNAL, purchase)),
        *_of_files(receipts),
        *_of_replays(rows_of(connection, _REPLAYS, stored)),
        *_of_views(rows_of(connection, _VIEWS, views)),
    ]
    return tuple(sorted(happened, key=lambda each: (each.at, ORDER.index(each.kind))))


def view_arguments(transaction_id: str, organization: str | None = None) -> str:
    """Return what the record of a view has of the purchase: the command's arguments."""
    return arguments([("", transaction_id), ("organization", organization), ("personal", True)]) or ""


def rows_of(connection: Connection, query: TextClause, parameters: Mapping[str, object]) -> tuple[dict[str, Any], ...]:
    """Return the rows of a query, by column."""
    return tuple(dict(row) for row in connection.execute(query, parameters).mappings())


def _of_log(rows: Iterable[Mapping[str, Any]]) -> Iterator[Happening]:
    for row in rows:
        answered = "no answer" if row["response_status"] is None else f"answered {row['response_status']}"
        said = f"OpenCard's log: {row['event']} sent to webhook {row['webhook_id']}, {answered}"
        yield Happening(row["attempted_at"], "log", said)


def _of_deliveries(deliveries: Sequence[DeliverySummary]) -> Iterator[Happening]:
    for each in deliveries:
        if each.source == "log":
            said = f"{each.event} recovered from OpenCard's log of webhook {each.webhook_id}"
        else:
            said = f"{each.event} received by webhook {each.webhook_id}, answered 200"
        if each.error is not None:
            said = f"{said}; {each.error}"
        yield Happening(each.received_at, "delivery", said, status=each.status, delivery_id=each.id)
        if each.confirmed_at is not None:
            found = f"reconcile found delivery {each.id} in OpenCard's log"
            yield Happening(each.confirmed_at, "confirmed", found, delivery_id=each.id)


def _of_attempts(rows: Iterable[Mapping[str, Any]]) -> Iterator[Happening]:
    for row in rows:
        said = f"processing attempt {row['number']} of delivery {row['delivery_id']} failed: {row['error']}"
        yield Happening(
            row["attempted_at"], "processing failed", said, status=row["outcome"], delivery_id=row["delivery_id"]
        )


def _of_events(rows: Iterable[Mapping[str, Any]], *, personal: bool) -> Iterator[Happening]:
    before: dict[str, dict[str, Any]] = {}
    for row in rows:
        payload = exact(row["payload"].encode()) or {}
        kind = _kind(row["type"])
        if kind == CHANGED:
            said = f"{row['type']}: {payload.get('reason', 'rows_rebuilt').replace('_', ' ')}"
            yield Happening(row["recorded_at"], "event", said, delivery_id=row["delivery_id"], position=row["position"])
            continue
        said = f"{row['type']} applied; it occurred at {row['occurred_at']:%Y-%m-%d %H:%M:%S} UTC"
        if row["retracted_at"] is not None:
            said = f"{said}; retracted as forged at {row['retracted_at']:%Y-%m-%d %H:%M:%S} UTC"
        yield Happening(
            row["recorded_at"],
            "event",
            said,
            delivery_id=row["delivery_id"],
            position=row["position"],
            first=kind not in before,
            changes=difference(before.get(kind), payload, personal=personal),
            payload=row["payload"] if personal else None,
        )
        if row["retracted_at"] is None:
            before[kind] = payload


def _kind(event: str) -> str:
    """Return what events share that are compared with each other: the states of a purchase are of one kind."""
    return "snapshot" if event.rpartition(".")[2] in TRANSACTION_STATES else event


def _of_journal(rows: Iterable[Mapping[str, Any]]) -> Iterator[Happening]:
    for row in rows:
        amounts = ", ".join(
            f"{row[f'{name}_amount']:f} {row[f'{name}_currency'] or ''}".rstrip()
            for name in ("original", "accounting")
            if row[f"{name}_amount"] is not None
        )
        said = f"{row['kind']} of {amounts or 'no amount'} on {row['booked_on']}, receipt {row['receipt_state']}"
        if row["changed"]:
            said = f"{said}; changed: {', '.join(row['changed'])}"
        yield Happening(row["recorded_at"], "ledger", said, position=row["position"])


def _of_files(receipts: Sequence[Mapping[str, Any]]) -> Iterator[Happening]:
    for row in receipts:
        if row["downloaded_at"] is not None:
            said = f"file of a receipt stored: {row['file_key']}, {row['file_size']} bytes"
            yield Happening(row["downloaded_at"], "file", said, delivery_id=row["delivery_id"])


def _of_replays(rows: Iterable[Mapping[str, Any]]) -> Iterator[Happening]:
    for row in rows:
        said = (
            f"replay {row['id']} of delivery {row['delivery_id']}, which was {row['status_before']}, "
            f"by {row['requested_by']}: {row['reason']}"
        )
        yield Happening(
            row["created_at"],
            "replay",
            said,
            status=row["outcome"] or "pending",
            delivery_id=row["delivery_id"],
            replay_id=row["id"],
        )


def _of_views(rows: Iterable[Mapping[str, Any]]) -> Iterator[Happening]:
    for row in rows:
        what = "card holder and payloads" if row["action"] == VIEW else f"the payload of delivery {row['object']}"
        yield Happening(row["at"], "viewed", f"{row['actor']} viewed {what}")

"""Writing what became of deliveries."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog
from sqlalchemy import text

from receiver.events.content import named_ids
from receiver.events.outcomes import name_of, note_outcomes
from receiver.events.retry_schedule import pause_after
from receiver.records.upsert import Row, rows_parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from receiver.events.event import Event, StoredDelivery

log = structlog.stdlib.get_logger(__name__)

_SETTLE: Final = text(
    """
UPDATE receiver.deliveries AS delivery
SET status = outcome.status, attempts = delivery.attempts + 1, processed_at = clock_timestamp(),
    next_attempt_at = NULL, error = outcome.error, fingerprint = outcome.fingerprint,
    transaction_id = outcome.transaction_id, card_holder_reference_id = outcome.card_holder_reference_id
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS outcome (
    id bigint, status text, error text, fingerprint bytea, transaction_id text, card_holder_reference_id text
)
WHERE delivery.id = outcome.id
"""
)
_RETRY: Final = text(
    """
UPDATE receiver.deliveries AS delivery
SET status = outcome.status, attempts = outcome.number, attempts_before_replay = outcome.before_replay,
    error = outcome.error, suspect = true,
    transaction_id = coalesce(outcome.transaction_id, delivery.transaction_id),
    card_holder_reference_id = coalesce(outcome.card_holder_reference_id, delivery.card_holder_reference_id),
    next_attempt_at = clock_timestamp() + make_interval(secs => outcome.pause),
    processed_at = CASE WHEN outcome.status = 'dead' THEN clock_timestamp() END
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS outcome (
    id bigint, status text, number integer, before_replay integer, error text, pause double precision,
    transaction_id text, card_holder_reference_id text
)
WHERE delivery.id = outcome.id
"""
)
_ATTEMPTS: Final = text(
    """
INSERT INTO receiver.processing_attempts (delivery_id, number, attempted_at, outcome, error, trace)
SELECT id, number, clock_timestamp(), status, error, trace FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS outcome (
    id bigint, status text, number integer, error text, trace text
)
"""
)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A delivery that cannot be applied, and trying again would not help."""

    delivery: StoredDelivery
    status: str
    """``dead``, ``ignored`` or ``quarantined``."""
    error: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A try to apply a delivery that went wrong."""

    delivery_id: int
    event: str
    number: int
    """1 for the first attempt."""
    error: str
    trace: str | None
    retryable: bool
    before_replay: int = 0
    """How many attempts were before its last replay: they do not count for the pause."""
    body: bytes | None = field(default=None, repr=False)
    """By which a search finds the delivery; ``None`` where reading it may have killed the worker."""


def settle_events(connection: Connection, events: Sequence[Event], status: str) -> None:
    """Write that *events* are ``processed`` or ``duplicate``."""
    rows: list[Row] = [
        {
            "id": event.delivery_id,
            "status": status,
            "fingerprint": "\\x" + event.fingerprint.hex(),
            "transaction_id": event.transaction_id,
            "card_holder_reference_id": event.card_holder_reference_id,
        }
        for event in events
    ]
    if rows:
        connection.execute(_SETTLE, {"rows": rows_parameter(rows)})
        note_outcomes((event.name, status) for event in events)


def settle_rejections(connection: Connection, rejections: Sequence[Rejection]) -> None:
    """Write deliveries that make no sense, with the reason; each leaves its attempt as evidence."""
    if not rejections:
        return
    rows: list[Row] = [
        {
            "id": rejection.delivery.id,
            "status": rejection.status,
            "number": rejection.delivery.attempts + 1,
            "error": _text(rejection.error),
            **_ids(rejection.delivery.body),
        }
        for rejection in rejections
    ]
    connection.execute(_SETTLE, {"rows": rows_parameter(rows)})
    connection.execute(_ATTEMPTS, {"rows": rows_parameter(rows)})
    note_outcomes((rejection.delivery.event, rejection.status) for rejection in rejections)
    for each in rejections:
        say = log.info if each.status == "ignored" else log.warning
        say(
            "delivery set aside",
            delivery_id=each.delivery.id,
            status=each.status,
            event_name=name_of(each.delivery.event),
        )


def settle_failures(connection: Connection, failures: Sequence[Failure]) -> None:
    """Write failed attempts: ``failed`` with the time of the next one, or ``dead`` when there is none.

    What failed is tried alone from then on, so that it spoils no other batch.
    """
    if not failures:
        return
    rows: list[Row] = []
    for failure in failures:
        counted = failure.number - failure.before_replay
        pause = pause_after(counted, chance=random.random()) if failure.retryable else None  # noqa: S311
        rows.append(
            {
                "id": failure.delivery_id,
                "status": "dead" if pause is None else "failed",
                "number": failure.number,
                "before_replay": failure.before_replay,
                "error": _text(failure.error),
                "trace": None if failure.trace is None else _text(failure.trace),
                "pause": None if pause is None else pause.total_seconds(),
                **({} if failure.body is None else _ids(failure.body)),
            }
        )
    connection.execute(_RETRY, {"rows": rows_parameter(rows)})
    connection.execute(_ATTEMPTS, {"rows": rows_parameter(rows)})
    note_outcomes((failure.event, str(row["status"])) for failure, row in zip(failures, rows, strict=True))


def _ids(body: bytes) -> Row:
    transaction, card_holder = named_ids(body)
    return {"transaction_id": transaction, "card_holder_reference_id": card_holder}


def _text(words: str) -> str:
    """Return *words* as PostgreSQL takes them."""
    return words.replace("\0", "\N{REPLACEMENT CHARACTER}")

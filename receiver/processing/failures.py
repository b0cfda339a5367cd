"""Stores failed attempts: the evidence, and when each delivery is tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import structlog

from receiver.counters import ATTEMPTS, OTHER
from receiver.events.catalogue import canonical_name
from receiver.events.content import named_ids
from receiver.json_rows import Row, rows_parameter
from receiver.processing.retry_schedule import pause_after
from receiver.sql import read_sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import psycopg

    from receiver.events.event import ClaimedDelivery

log = structlog.stdlib.get_logger(__name__)

_FAIL: Final = read_sql(__package__, "fail")


class AttemptOutcome(NamedTuple):
    """The outcome of a processing attempt."""

    delivery_id: int
    event: str
    """In any spelling."""
    status: str
    pause: float | None = None
    """Seconds until the next attempt; ``None`` if there is none."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A delivery that cannot be applied, and trying again would not help."""

    delivery: ClaimedDelivery
    status: str
    """``dead``, ``ignored`` or ``quarantined``."""
    error: str


@dataclass(frozen=True, slots=True)
class AttemptFailure:
    """An attempt to apply a delivery that went wrong."""

    delivery_id: int
    event: str
    number: int
    """1 for the first attempt."""
    error: str
    trace: str | None = None
    retryable: bool = True
    before_replay: int = 0
    """How many attempts were before its last replay: they do not count for the pause."""
    body: bytes | None = field(default=None, repr=False)
    """By which a search finds the delivery; ``None`` where reading it may have crashed the worker."""


def reject(rejections: Sequence[Rejection]) -> tuple[str, dict[str, Any]]:
    """Return the statement that notes deliveries which cannot be applied, with the reason."""
    return _FAIL, {
        "rows": rows_parameter(
            [
                _row(each.delivery.id, each.status, each.delivery.attempts, each.error, each.delivery.body)
                for each in rejections
            ]
        )
    }


def write_failures(connection: psycopg.Connection[Any], failures: Sequence[AttemptFailure]) -> list[AttemptOutcome]:
    """Note failed attempts: ``failed`` with the time of the next one, or ``dead`` when there is none.

    What failed is tried alone from then on, so that it spoils no other batch.
    """
    rows: list[Row] = []
    for failure in failures:
        counted = failure.number - failure.before_replay
        pause = pause_after(counted, chance=random.random()) if failure.retryable else None  # noqa: S311
        row = _row(
            failure.delivery_id, "dead" if pause is None else "failed", failure.number, failure.error, failure.body
        )
        row["trace"] = None if failure.trace is None else _text(failure.trace)
        row["pause"] = None if pause is None else pause.total_seconds()
        row["attempts_before_replay"] = failure.before_replay
        rows.append(row)
    connection.execute(_FAIL, {"rows": rows_parameter(rows)})
    return [
        AttemptOutcome(failure.delivery_id, failure.event, row["status"], row["pause"])
        for failure, row in zip(failures, rows, strict=True)
    ]


def name_of(event: str) -> str:
    """Return an event's name in the catalogue, for counters and logs; what a sender makes up is ``other``."""
    return canonical_name(event) or OTHER


def count_outcomes(outcomes: Iterable[AttemptOutcome]) -> None:
    """Count attempts that are committed."""
    numbers: dict[tuple[str, str], int] = {}
    for outcome in outcomes:
        key = (name_of(outcome.event), outcome.status)
        numbers[key] = numbers.get(key, 0) + 1
    for labels, number in numbers.items():
        ATTEMPTS.labels(*labels).inc(number)


def _row(delivery_id: int, status: str, attempts: int, error: str, body: bytes | None) -> Row:
    transaction, card_holder = (None, None) if body is None else named_ids(body)
    return {
        "delivery_id": delivery_id,
        "status": status,
        "attempts": attempts,
        "attempts_before_replay": 0,
        "error": _text(error),
        "transaction_id": transaction,
        "card_holder_reference_id": card_holder,
    }


def _text(words: str) -> str:
    """Return *words* as PostgreSQL takes them."""
    return words.replace("\0", "\N{REPLACEMENT CHARACTER}")

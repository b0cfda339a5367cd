"""Test deliveries that an operator asked OpenCard for, told from the real ones that arrive beside them.

A test looks like any delivery, so while one is awaited, all that may be it are *held*: ``claim`` leaves them alone.
Resolving decides: the test becomes ``ignored`` and reaches nobody, the others go on as if nothing had been. What cannot
be told is ``quarantined`` for a person, for a real event must not be lost, and a test must not be booked.

The command that awaits the test resolves it; where that command was killed, the workers do, once nobody waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog
from sqlalchemy import text

from receiver.errors import OperationRefused
from receiver.events.event import StoredDelivery
from receiver.events.outcomes import counted_when_committed
from receiver.events.recognize import decide, spellings
from receiver.events.settle import Rejection, settle_rejections

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from receiver.events.recognize import Decision

log = structlog.stdlib.get_logger(__name__)

TEST: Final = "test delivery"
UNCLEAR: Final = "arrived while a test delivery was awaited; nothing tells which is the test"
CLOCKS: Final = timedelta(minutes=10)
"""By how much OpenCard's clock, which dates what its log tells, may be behind."""

# The lock lets one command at a time look and insert: two tests of one event at once could not be told apart.
_LOCK_WEBHOOK: Final = text("SELECT id FROM receiver.webhooks WHERE id = :webhook_id FOR NO KEY UPDATE")
_UNRESOLVED: Final = text(
    "SELECT expires_at FROM receiver.awaited_tests "
    "WHERE webhook_id = :webhook_id AND events && CAST(:events AS text[]) AND resolved_at IS NULL LIMIT 1"
)
_AWAIT: Final = text(
    "INSERT INTO receiver.awaited_tests (webhook_id, events, requested_at, expires_at) "
    "VALUES (:webhook_id, :events, clock_timestamp(), clock_timestamp() + :at_most) RETURNING id"
)
_NOTE_ANSWER: Final = text(
    """
UPDATE receiver.awaited_tests
SET expires_at = clock_timestamp() + :wait, fingerprint = :told, sent_at = CASE WHEN :sent THEN clock_timestamp() END
WHERE id = :id AND resolved_at IS NULL
"""
)
_EXPIRED: Final = text(
    "SELECT id FROM receiver.awaited_tests WHERE resolved_at IS NULL AND expires_at <= now() ORDER BY id"
)
_LOCK: Final = text(
    "SELECT fingerprint, sent_at FROM receiver.awaited_tests WHERE id = :id AND resolved_at IS NULL "
    "FOR UPDATE SKIP LOCKED"
)
_RESOLVED: Final = text(
    "UPDATE receiver.awaited_tests SET resolved_at = clock_timestamp(), delivery_id = :delivery_id "
    "WHERE id = :id AND resolved_at IS NULL"
)
_WITHDRAW: Final = text("DELETE FROM receiver.awaited_tests WHERE id = :id AND resolved_at IS NULL")
# What was tried before was claimed before the test was asked for. The columns are those of StoredDelivery, in order.
_CANDIDATES: Final = """
SELECT {columns}
FROM receiver.awaited_tests AS awaited
JOIN receiver.webhooks AS webhook ON webhook.id = awaited.webhook_id
JOIN receiver.deliveries AS delivery ON delivery.webhook_id = awaited.webhook_id
    AND delivery.event = ANY(awaited.events)
    AND delivery.received_at >= awaited.requested_at AND delivery.received_at < awaited.expires_at
WHERE awaited.id = :id AND awaited.resolved_at IS NULL AND delivery.status = 'pending' AND delivery.attempts = 0
    AND (delivery.source = 'push' OR delivery.occurred_at >= awaited.requested_at - CAST(:clocks AS interval))
ORDER BY delivery.id
"""
_STORED: Final = (
    "delivery.id, webhook.organization_reference_id, delivery.event, delivery.version, delivery.body, "
    "delivery.source, delivery.occurred_at, delivery.attempts"
)
_READ_CANDIDATES: Final = text(_CANDIDATES.format(columns=_STORED))
_LOCK_CANDIDATES: Final = text(_CANDIDATES.format(columns=_STORED) + "FOR UPDATE OF delivery")
_CANDIDATE_IDS: Final = text(_CANDIDATES.format(columns="delivery.id"))
_AWAITED: Final = text(
    """
SELECT awaited.resolved_at IS NOT NULL AS resolved, awaited.delivery_id, awaited.fingerprint AS told,
    awaited.sent_at IS NOT NULL AS sent, ARRAY(
        SELECT id FROM receiver.deliveries AS delivery
        WHERE delivery.webhook_id = awaited.webhook_id AND delivery.event = ANY(awaited.events)
            AND delivery.received_at >= awaited.requested_at AND delivery.received_at < awaited.expires_at
            AND delivery.status = 'quarantined' AND delivery.error = :unclear
        ORDER BY id
    ) AS unclear
FROM receiver.awaited_tests AS awaited WHERE awaited.id = :id
"""
)


@dataclass(frozen=True, slots=True)
class Awaited:
    """An awaited test as it stands: once it is *resolved*, which delivery it was, or which might have been it."""

    resolved: bool
    delivery_id: int | None
    told: bytes | None
    sent: bool
    unclear: tuple[int, ...]


def await_test(engine: Engine, webhook_id: int, event: str, *, at_most: timedelta) -> int:
    """Hold deliveries of *event* from now on, *at_most* so long; return the awaited test's id.

    To be called right before OpenCard is asked. Raises ``OperationRefused`` while another test of it is awaited.
    """
    resolve_expired(engine)
    which = {"webhook_id": webhook_id, "events": spellings(event)}
    with engine.begin() as connection:
        connection.execute(_LOCK_WEBHOOK, which)
        until = connection.scalar(_UNRESOLVED, which)
        if until is not None:
            raise OperationRefused(
                f"another test of {event} is awaited on webhook {webhook_id}, until {until:%H:%M:%S %Z} at the latest, "
                "and two could not be told apart: wait for it, then run again"
            )
        return int(connection.execute(_AWAIT, {**which, "at_most": at_most}).scalar_one())


def note_answer(engine: Engine, awaited_id: int, *, sent: bool, told: bytes | None, wait: timedelta) -> None:
    """Note what OpenCard answered: whether it surely sends the test, and what; it is waited for *wait* from now on."""
    with engine.begin() as connection:
        connection.execute(_NOTE_ANSWER, {"id": awaited_id, "sent": sent, "told": told, "wait": wait})


def withdraw(engine: Engine, awaited_id: int) -> None:
    """Release what is held and forget the test: OpenCard sends none."""
    with engine.begin() as connection:
        connection.execute(_WITHDRAW, {"id": awaited_id})


def candidate_ids(connection: Connection, awaited_id: int) -> list[int]:
    """Return the deliveries that may be the test, in order of arrival; empty once it is resolved."""
    return list(connection.scalars(_CANDIDATE_IDS, {"id": awaited_id, "clocks": CLOCKS}))


def would_decide(connection: Connection, awaited_id: int) -> Decision:
    """Return what resolving would decide now."""
    awaited = read_awaited(connection, awaited_id)
    return decide(_candidates(connection, awaited_id, _READ_CANDIDATES), told=awaited.told, sent=awaited.sent)


def read_awaited(connection: Connection, awaited_id: int) -> Awaited:
    """Return an awaited test as it stands."""
    row = connection.execute(_AWAITED, {"id": awaited_id, "unclear": UNCLEAR}).mappings().one()
    return Awaited(**{**row, "unclear": tuple(row["unclear"])})


def resolve(engine: Engine, awaited_id: int) -> bool:
    """Decide, settle what is decided, and release the rest, in one transaction.

    Returns whether it did: not when somebody else is at it, or was.
    """
    with counted_when_committed(), engine.begin() as connection:
        awaited = connection.execute(_LOCK, {"id": awaited_id}).one_or_none()
        if awaited is None:
            return False
        candidates = {each.id: each for each in _candidates(connection, awaited_id, _LOCK_CANDIDATES)}
        decision = decide(list(candidates.values()), told=awaited.fingerprint, sent=awaited.sent_at is not None)
        if decision.test is not None:
            settle_rejections(connection, [Rejection(candidates[decision.test], "ignored", TEST)])
        settle_rejections(
            connection, [Rejection(candidates[delivery_id], "quarantined", UNCLEAR) for delivery_id in decision.unclear]
        )
        connection.execute(_RESOLVED, {"id": awaited_id, "delivery_id": decision.test})
    log.info(
        "awaited test resolved",
        delivery_id=decision.test,
        quarantined=len(decision.unclear),
        released=len(candidates) - len(decision.unclear) - (decision.test is not None),
    )
    return True


def resolve_expired(engine: Engine) -> None:
    """Resolve the tests that nobody waits for any more, because the command that did was killed."""
    with engine.connect() as connection:
        expired = list(connection.scalars(_EXPIRED))
    for awaited_id in expired:
        resolve(engine, awaited_id)


def _candidates(connection: Connection, awaited_id: int, query: Any) -> list[StoredDelivery]:  # noqa: ANN401 - SQL
    return [StoredDelivery(*row) for row in connection.execute(query, {"id": awaited_id, "clocks": CLOCKS}).all()]

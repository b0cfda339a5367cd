"""Deliveries that a replay selected, claimed and settled. They come when nothing fresh waits.

Until it is processed a delivery keeps the status that it has: its row in ``replay_deliveries`` is what waits. So a
replay is cancelled by forgetting what waits, and whatever dies on the way leaves nothing to mend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
from sqlalchemy import text

from receiver.events.portion import stored_delivery, within_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Engine

    from receiver.events.event import StoredDelivery

log = structlog.stdlib.get_logger(__name__)

CANCELLED: Final = "cancelled"
WITHOUT_BODY: Final = "without-body"
CUT_OFF_AFTER: Final = "10 minutes"
"""How long after selecting last went on it counts as cut off."""
CUT_OFF: Final = "nobody: selecting was cut off"
AT_ONCE: Final = 5000

# at random, so that a small replay does not wait for a large one
_TURNS: Final = text(
    "SELECT id FROM receiver.replays WHERE ended_at IS NULL AND selected_at IS NOT NULL AND cancelled_at IS NULL "
    "ORDER BY random()"
)
# The columns are those of StoredDelivery, in its order: what was tried before the replay counts for no pause.
_CLAIM: Final = within_bytes(
    """
SELECT delivery.id, webhook.organization_reference_id, delivery.event, delivery.version, delivery.body,
    delivery.source, delivery.occurred_at, delivery.attempts, delivery.attempts AS attempts_before_replay
FROM receiver.replay_deliveries AS member
JOIN receiver.deliveries AS delivery ON delivery.id = member.delivery_id
JOIN receiver.webhooks AS webhook ON webhook.id = delivery.webhook_id
WHERE member.replay_id = :replay_id AND member.outcome IS NULL AND member.alone = :alone
    AND delivery.body IS NOT NULL
    AND delivery.id NOT IN (SELECT unnest(delivery_ids) FROM receiver.processing_batches)
ORDER BY member.delivery_id
LIMIT :limit
FOR UPDATE OF member, delivery SKIP LOCKED
""",
    order="id",
)
# Nothing here waits for a row: whoever holds it may be waiting for the feed, which this transaction may hold.
_ALONE: Final = text(
    """
UPDATE receiver.replay_deliveries SET alone = true WHERE (replay_id, delivery_id) IN (
    SELECT replay_id, delivery_id FROM receiver.replay_deliveries
    WHERE delivery_id = ANY(:ids) AND outcome IS NULL FOR UPDATE SKIP LOCKED
)
"""
)
_SETTLE: Final = text(
    """
WITH settled AS (
    SELECT member.replay_id, member.delivery_id, delivery.status
    FROM unnest(CAST(:ids AS bigint[]), CAST(:attempts AS integer[])) AS claimed (id, attempts)
    JOIN receiver.deliveries AS delivery ON delivery.id = claimed.id AND delivery.attempts > claimed.attempts
    JOIN receiver.replay_deliveries AS member ON member.delivery_id = delivery.id AND member.outcome IS NULL
    FOR UPDATE OF member SKIP LOCKED
)
UPDATE receiver.replay_deliveries AS member SET outcome = settled.status, settled_at = clock_timestamp()
FROM settled WHERE member.replay_id = settled.replay_id AND member.delivery_id = settled.delivery_id
"""
)
_CUT_OFF: Final = text(
    f"""
UPDATE receiver.replays SET cancelled_at = clock_timestamp(), cancelled_by = :cut_off
WHERE ended_at IS NULL AND selected_at IS NULL AND cancelled_at IS NULL
    AND selecting_at < clock_timestamp() - interval '{CUT_OFF_AFTER}'
"""  # noqa: S608 - a constant
)
_OPEN: Final = text(
    "SELECT id, cancelled_at IS NOT NULL AS cancelled FROM receiver.replays "
    "WHERE ended_at IS NULL AND (selected_at IS NOT NULL OR cancelled_at IS NOT NULL) ORDER BY id"
)
_CLOSE: Final = """
UPDATE receiver.replay_deliveries SET outcome = :outcome, settled_at = clock_timestamp()
WHERE (replay_id, delivery_id) IN (
    SELECT member.replay_id, member.delivery_id FROM receiver.replay_deliveries AS member
    JOIN receiver.deliveries AS delivery ON delivery.id = member.delivery_id
    WHERE member.replay_id = :replay_id AND member.outcome IS NULL AND {which}
    LIMIT :at_once FOR UPDATE OF member SKIP LOCKED
)
"""
_CLOSE_CANCELLED: Final = text(_CLOSE.format(which="true"))
_CLOSE_WITHOUT_BODY: Final = text(_CLOSE.format(which="delivery.body IS NULL"))
_END: Final = text(
    """
UPDATE receiver.replays AS replay
SET ended_at = clock_timestamp(), processed = counted.processed, failed = counted.failed
FROM (
    SELECT count(*) FILTER (WHERE outcome IN ('processed', 'duplicate')) AS processed,
        count(*) FILTER (WHERE outcome IN ('failed', 'dead', 'quarantined', 'ignored')) AS failed
    FROM receiver.replay_deliveries WHERE replay_id = :replay_id
) AS counted
WHERE replay.id = :replay_id AND replay.ended_at IS NULL AND NOT EXISTS (
    SELECT FROM receiver.replay_deliveries WHERE replay_id = :replay_id AND outcome IS NULL
)
RETURNING replay.selected, replay.processed, replay.failed
"""
)


def claim_replayed(connection: Connection, limit: int, *, alone: bool = False) -> list[StoredDelivery]:
    """Lock and return up to *limit* deliveries of one replay, oldest first; *alone*: of those to be processed alone."""
    for replay_id in connection.scalars(_TURNS).all():
        asked = {"replay_id": replay_id, "limit": limit, "alone": alone}
        claimed = [stored_delivery(row) for row in connection.execute(_CLAIM, asked)]
        if claimed:
            return claimed
    return []


def claim_replayed_alone(connection: Connection) -> list[StoredDelivery]:
    """Lock and return one delivery that a replay has to process alone; empty when there is none."""
    return claim_replayed(connection, 1, alone=True)


def replay_alone(connection: Connection, delivery_ids: list[int]) -> None:
    """Let replays process deliveries alone from now on."""
    connection.execute(_ALONE, {"ids": delivery_ids})


def settle_replayed(connection: Connection, attempts: Mapping[int, int]) -> None:
    """Note for the replays of deliveries what became of them; *attempts*: by delivery, how many there were before.

    What was not settled, because a later batch has to judge it or because it is to be tried alone, goes on waiting.
    """
    connection.execute(_SETTLE, {"ids": list(attempts), "attempts": list(attempts.values())})


def end_replays(engine: Engine) -> None:
    """End the replays of which nothing waits any more, and write their totals."""
    with engine.begin() as connection:
        connection.execute(_CUT_OFF, {"cut_off": CUT_OFF})
        unfinished = connection.execute(_OPEN).all()
    for replay_id, cancelled in unfinished:
        end_replay(engine, replay_id, cancelled=cancelled)


def end_replay(engine: Engine, replay_id: int, *, cancelled: bool) -> None:
    """End a replay if nothing of it waits any more; what waits of a *cancelled* one is not processed."""
    close, outcome = (_CLOSE_CANCELLED, CANCELLED) if cancelled else (_CLOSE_WITHOUT_BODY, WITHOUT_BODY)
    asked = {"replay_id": replay_id, "outcome": outcome, "at_once": AT_ONCE}
    closed = AT_ONCE
    while closed == AT_ONCE:
        with engine.begin() as connection:
            closed = connection.execute(close, asked).rowcount
    with engine.begin() as connection:
        ended = connection.execute(_END, {"replay_id": replay_id}).one_or_none()
    if ended is not None:
        log.info("replay ended", replay_id=replay_id, **ended._mapping)  # noqa: SLF001 - SQLAlchemy's public name

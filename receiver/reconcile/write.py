"""Write the result of a comparison in one transaction: recovered deliveries, confirmations, the mirror of the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
from sqlalchemy import text

from receiver.reconcile.erased import ERASED_ITEM

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sqlalchemy import Connection

log = structlog.stdlib.get_logger(__name__)

VERIFICATION: Final = "delivery-log"
"""How a recovered delivery is verified: OpenCard's API reported it."""

# In which direction the log was read: 1 if times grow, -1 if they fall, 0 if it has no order.
_DIRECTION: Final = text(
    """
SELECT CASE WHEN rises > 3 * falls THEN 1 WHEN falls > 3 * rises THEN -1 ELSE 0 END
FROM (
    SELECT count(*) FILTER (WHERE at > before) AS rises, count(*) FILTER (WHERE at < before) AS falls
    FROM (SELECT attempted_at AS at, lag(attempted_at) OVER (ORDER BY number) AS before FROM pg_temp.log_read) AS entry
) AS steps
"""
)
# Ids grow in order of time, so that workers, who claim in order of arrival, claim the oldest first. A log may have
# whole seconds: within a second its own order counts, or else its ids, and an entry that follows a delivery that
# arrived in that second occurred after it.
_RECOVER: Final = text(
    """
WITH sequence AS (
    SELECT number, attempted_at, attempted_at - CAST(:clock_offset AS interval) AS at, fingerprint, row_number() OVER (
        ORDER BY attempted_at NULLS FIRST, :direction * number,
        CASE WHEN opencard_event_id ~ '^[0-9]{1,18}$' THEN CAST(opencard_event_id AS bigint) END, number) AS place
    FROM pg_temp.log_read
), placed AS (
    SELECT entry.number, entry.place, entry.at, max(arrived.at) OVER (
        PARTITION BY entry.attempted_at ORDER BY entry.place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS before
    FROM sequence AS entry
    LEFT JOIN (
        SELECT fingerprint, min(at) AS at FROM pg_temp.log_stored WHERE NOT from_log GROUP BY fingerprint
    ) AS arrived ON arrived.fingerprint = entry.fingerprint
        AND arrived.at > entry.at AND arrived.at < entry.at + interval '1 second'
), recovered AS MATERIALIZED (
    SELECT nextval('receiver.stored_deliveries_id_seq') AS id, entry.event,
        coalesce(entry.payload, substr(entry.item, entry.payload_from, entry.payload_bytes)) AS payload,
        coalesce(greatest(placed.at, placed.before + interval '1 microsecond'), :started_at) AS occurred_at
    FROM pg_temp.log_found AS missing
    JOIN pg_temp.log_read AS entry ON entry.number = missing.number
    JOIN placed ON placed.number = missing.number
    WHERE missing.finding = 'missing'
    ORDER BY placed.place
), stored AS (
    INSERT INTO receiver.stored_deliveries (id, webhook_id, event, verification, source, occurred_at)
    SELECT id, :webhook_id, event, :verification, 'log', occurred_at FROM recovered
), bodies AS (
    INSERT INTO receiver.bodies (delivery_id, body, headers) SELECT id, payload, '{}' FROM recovered
), queued AS (
    INSERT INTO receiver.queue (delivery_id) SELECT id FROM recovered
)
INSERT INTO receiver.confirmations (delivery_id, confirmed_at) SELECT id, clock_timestamp() FROM recovered
"""
)
_CONFIRM: Final = text(
    """
INSERT INTO receiver.confirmations AS known (delivery_id, confirmed_at)
SELECT id, clock_timestamp()
FROM (SELECT DISTINCT number AS id FROM pg_temp.log_found WHERE finding = 'confirmed' ORDER BY 1) AS confirmed
ON CONFLICT (delivery_id) DO UPDATE SET confirmed_at = excluded.confirmed_at WHERE known.confirmed_at IS NULL
"""
)
# A delivery that a worker holds keeps its time, which the worker has read; the next run corrects it. The others are
# queued again as new rows, so that a claim that began before this run's commit, with the old time, does not find them.
_REQUEUE: Final = text(
    """
WITH requeued AS (
    DELETE FROM receiver.queue WHERE delivery_id IN (
        SELECT delivery_id FROM receiver.queue
        WHERE delivery_id IN (SELECT number FROM pg_temp.log_found WHERE finding = 'backdated')
            AND leased_until IS NULL
        FOR UPDATE SKIP LOCKED
    )
    RETURNING delivery_id, due_at, attempts, alone, failed_at, trace
)
INSERT INTO receiver.queue (delivery_id, due_at, attempts, alone, failed_at, trace) SELECT * FROM requeued
RETURNING delivery_id
"""
)
# A processed delivery is processed again with the corrected time, so that newer events win.
_BACKDATE: Final = text(
    """
WITH backdated AS MATERIALIZED (
    SELECT first.id, first.at, outcome.status
    FROM (
        SELECT number AS id, min(at) AS at FROM pg_temp.log_found WHERE finding = 'backdated' GROUP BY number
    ) AS first
    JOIN receiver.stored_deliveries AS stored ON stored.id = first.id
    LEFT JOIN receiver.confirmations AS confirmation ON confirmation.delivery_id = first.id
    LEFT JOIN receiver.outcomes AS outcome ON outcome.delivery_id = first.id
    WHERE coalesce(confirmation.occurred_at, stored.occurred_at) > first.at
        AND (first.id = ANY(:requeued) OR NOT EXISTS (SELECT FROM receiver.queue WHERE delivery_id = first.id))
    ORDER BY first.id
), queued AS (
    INSERT INTO receiver.queue (delivery_id, due_at)
    SELECT id, clock_timestamp() FROM backdated WHERE status IN ('processed', 'duplicate')
    ON CONFLICT (delivery_id) DO UPDATE SET due_at = excluded.due_at
)
INSERT INTO receiver.confirmations AS known (delivery_id, occurred_at) SELECT id, at FROM backdated
ON CONFLICT (delivery_id) DO UPDATE SET occurred_at = least(known.occurred_at, excluded.occurred_at)
"""
)
# The log may spell an entry differently than in an earlier run, for example with ids: the newest reading counts.
_DELETE_OTHER_SPELLINGS: Final = text(
    """
DELETE FROM receiver.delivery_log AS known USING pg_temp.log_read AS entry
WHERE known.webhook_id = :webhook_id
    AND known.event = entry.event AND known.fingerprint IS NOT DISTINCT FROM entry.fingerprint
    AND date_trunc('second', known.attempted_at) IS NOT DISTINCT FROM date_trunc('second', entry.attempted_at)
    AND (known.attempted_at >= :oldest OR known.attempted_at IS NULL)
    AND NOT EXISTS (SELECT FROM pg_temp.log_read AS same WHERE same.identity = known.identity)
"""
)
_CLOSE_UNRECOVERABLE: Final = text(
    """
UPDATE receiver.delivery_log AS entry SET unrecoverable = false
WHERE webhook_id = :webhook_id AND unrecoverable AND (attempted_at IS NULL OR attempted_at >= :open_since)
    AND NOT EXISTS (SELECT FROM pg_temp.log_found WHERE finding = 'unrecoverable' AND number = -entry.id)
"""
)
_MIRROR: Final = text(
    """
INSERT INTO receiver.delivery_log AS known (
    webhook_id, identity, opencard_event_id, event, response_status, attempted_at, fingerprint, item, unrecoverable
)
SELECT :webhook_id, entry.identity, entry.opencard_event_id, entry.event, entry.response_status, entry.attempted_at,
    entry.fingerprint, CASE WHEN entry.about_erased THEN CAST(:erased_item AS bytea) ELSE entry.item END,
    lost.number IS NOT NULL
FROM pg_temp.log_read AS entry
LEFT JOIN pg_temp.log_found AS lost ON lost.finding = 'unrecoverable' AND lost.number = entry.number
ON CONFLICT (webhook_id, identity) DO UPDATE
SET event = excluded.event, response_status = excluded.response_status, attempted_at = excluded.attempted_at,
    fingerprint = excluded.fingerprint, item = excluded.item, unrecoverable = excluded.unrecoverable
WHERE (known.event, known.response_status, known.attempted_at, known.fingerprint, known.unrecoverable)
    IS DISTINCT FROM (
        excluded.event, excluded.response_status, excluded.attempted_at, excluded.fingerprint, excluded.unrecoverable
    )
"""
)
# The log of a webhook that was adopted may reach back to before the organization was added here.
_LOG_BEGINS: Final = text(
    """
UPDATE ems.organizations AS organization SET log_begins_at = :oldest
FROM receiver.webhooks AS webhook
WHERE webhook.id = :webhook_id AND organization.organization_reference_id = webhook.organization_reference_id
    AND organization.log_begins_at > :oldest
"""
)
_UNCONFIRMED: Final = text(
    """
SELECT count(*) FROM receiver.stored_deliveries AS stored
WHERE webhook_id = :webhook_id AND source = 'push' AND received_at < :before
    AND received_at >= coalesce(CAST(:after AS timestamptz), '-infinity')
    AND NOT EXISTS (
        SELECT FROM receiver.confirmations AS confirmation
        WHERE confirmation.delivery_id = stored.id AND confirmation.confirmed_at IS NOT NULL
    )
    AND NOT EXISTS (SELECT FROM receiver.delivery_decisions AS decision WHERE decision.delivery_id = stored.id)
    AND NOT EXISTS (SELECT FROM pg_temp.log_found WHERE finding = 'confirmed' AND number = stored.id)
"""
)
_MISSING: Final = text("SELECT count(*) FROM pg_temp.log_found WHERE finding = 'missing'")


def count_missing(connection: Connection) -> int:
    """Count the deliveries to recover."""
    return connection.scalar(_MISSING) or 0


def count_unconfirmed(connection: Connection, webhook_id: int, *, after: datetime | None, before: datetime) -> int:
    """Count the deliveries received between *after* and *before* that the log does not have."""
    parameters = {"webhook_id": webhook_id, "after": after, "before": before}
    return connection.scalar(_UNCONFIRMED, parameters) or 0


def write_comparison(
    connection: Connection,
    webhook_id: int,
    *,
    missing: int,
    started_at: datetime,
    open_since: datetime,
    oldest: datetime | None,
    clock_offset: timedelta,
) -> None:
    """Recover what is missing, confirm what the log has, correct times, and merge the entries into the mirror.

    *missing*: the number of deliveries to recover. *oldest*: the earliest time of an entry. *clock_offset*: how much
    the times of the log are corrected.
    """
    parameters = {"webhook_id": webhook_id}
    if missing:
        recovering = {"verification": VERIFICATION, "started_at": started_at, "clock_offset": clock_offset}
        direction = connection.scalar(_DIRECTION)
        connection.execute(_RECOVER, {**parameters, **recovering, "direction": direction})
    connection.execute(_CONFIRM)
    requeued = list(connection.scalars(_REQUEUE))
    backdated = connection.execute(_BACKDATE, {"requeued": requeued}).rowcount
    if backdated:
        log.info("reconcile.backdated", webhook_id=webhook_id, deliveries=backdated)
    connection.execute(_CLOSE_UNRECOVERABLE, {**parameters, "open_since": open_since})
    connection.execute(_DELETE_OTHER_SPELLINGS, {**parameters, "oldest": oldest})
    if oldest is not None:
        connection.execute(_LOG_BEGINS, {**parameters, "oldest": oldest})
    connection.execute(_MIRROR, {**parameters, "erased_item": ERASED_ITEM})

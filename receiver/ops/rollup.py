"""The scheduler's job ``roll_up``: keeps small what was counted, and counts the deliveries of each hour.

So readers need not read millions of rows. It may run twice at once, or not for days, without harm.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from receiver.db import engine_for
from receiver.locks import Lock
from receiver.settings import REQUIRED_FOR_DATABASE, load_settings

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Engine

log = structlog.stdlib.get_logger(__name__)

HOUR: Final = timedelta(hours=1)
HOURS_AT_ONCE: Final = 24
"""How many hours one run counts for the first time, after an upgrade for one."""

TOTALS: Final = """
SELECT
    coalesce(sum(value) FILTER (WHERE name = 'receiver_requests_total'
        AND labels @> '{"route": "delivery", "status": "200"}'), 0) AS received,
    coalesce(sum(value) FILTER (WHERE name = 'receiver_processing_attempts_total'
        AND labels ->> 'outcome' IN ('processed', 'duplicate', 'ignored')), 0) AS processed,
    coalesce(sum(value) FILTER (WHERE name = 'receiver_processing_attempts_total'
        AND labels ->> 'outcome' NOT IN ('processed', 'duplicate', 'ignored')), 0) AS failed
FROM receiver.counters
"""
COUNT_DELIVERIES: Final = """
SELECT webhook.id AS webhook_id, webhook.organization_reference_id, counted.*
FROM receiver.webhooks AS webhook CROSS JOIN LATERAL (
    SELECT date_trunc('hour', received_at, 'UTC') AS hour, source, status, count(*) AS deliveries
    FROM receiver.deliveries
    WHERE webhook_id = webhook.id AND received_at >= :since AND received_at < :until
    GROUP BY 1, 2, 3
) AS counted
"""
"""By webhook, so that the index of the stored deliveries on webhook and time answers it."""

_ALONE: Final = text("SELECT pg_try_advisory_xact_lock(:key)")
# a process that has written nothing for this time has ended, or begins new rows when it writes again
_SILENT: Final = text(
    """
WITH silent AS (
    DELETE FROM receiver.counter_flushes AS flush USING (
        SELECT process FROM receiver.counter_flushes
        WHERE flushed_at < now() - interval '10 minutes' AND process <> CAST(:merged AS uuid)
        FOR UPDATE SKIP LOCKED
    ) AS old
    WHERE flush.process = old.process
    RETURNING flush.process
), taken AS (
    DELETE FROM receiver.counters AS counter USING silent
    WHERE counter.process = silent.process
    RETURNING counter.name, counter.labels, counter.value
)
INSERT INTO receiver.counters AS counter (process, name, labels, value)
SELECT CAST(:merged AS uuid), name, labels, sum(value) FROM taken GROUP BY name, labels ORDER BY name, labels
ON CONFLICT (process, name, labels) DO UPDATE SET value = counter.value + excluded.value
"""
)
MERGED: Final = "00000000-0000-0000-0000-000000000000"
"""Whose rows hold the counts of processes that have ended."""
_MINUTE: Final = text(
    f"""
INSERT INTO receiver.counter_minutes (at, received, processed, failed)
SELECT clock_timestamp(), totals.* FROM ({TOTALS}) AS totals
"""  # noqa: S608 - a constant
)
_OLD_MINUTES: Final = text("DELETE FROM receiver.counter_minutes WHERE at < now() - interval '1 day'")
_OLD_DEATHS: Final = text("DELETE FROM receiver.worker_deaths WHERE at < now() - interval '30 days'")
_OLD_REFUSED: Final = text("DELETE FROM receiver.refused_deliveries WHERE minute < now() - interval '30 days'")
# hours that were never counted since they were over, the newest first; the last one again, and the one at hand, so far;
# and the one whose count is oldest
_HOURS: Final = text(
    """
WITH hours AS (
    SELECT generate_series(
        date_trunc('hour', now(), 'UTC') - interval '8 days',
        date_trunc('hour', now(), 'UTC') - interval '1 hour', interval '1 hour'
    ) AS hour
)
(SELECT hours.hour FROM hours LEFT JOIN receiver.counted_hours AS known
    ON known.hour = hours.hour AND known.counted_at >= known.hour + interval '1 hour'
WHERE known.hour IS NULL ORDER BY hours.hour DESC LIMIT :most)
UNION SELECT max(hour) FROM hours
UNION SELECT max(hour) + interval '1 hour' FROM hours
UNION (SELECT known.hour FROM receiver.counted_hours AS known JOIN hours ON hours.hour = known.hour
ORDER BY known.counted_at LIMIT 1)
ORDER BY hour DESC
"""
)
_CLEAR_HOUR: Final = text("DELETE FROM receiver.delivery_hours WHERE hour = :hour")
_COUNT_HOUR: Final = text(
    f"""
INSERT INTO receiver.delivery_hours (hour, webhook_id, source, status, deliveries)
SELECT hour, webhook_id, source, status, deliveries FROM ({COUNT_DELIVERIES}) AS counted
"""  # noqa: S608 - a constant
)
_HOUR_COUNTED: Final = text(
    "INSERT INTO receiver.counted_hours (hour, counted_at) VALUES (:hour, clock_timestamp()) "
    "ON CONFLICT (hour) DO UPDATE SET counted_at = excluded.counted_at"
)


def roll_up() -> None:
    """Merge the counters of ended processes, and count the deliveries by hour. Run by RQ, about once a minute."""
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    engine = engine_for(settings.database_url, application="roll up")
    try:
        roll_up_once(engine)
    except OperationalError as error:  # the next one does it
        log.warning("roll_up.postponed", error=str(error.orig).partition("\n")[0])
    finally:
        engine.dispose()


def roll_up_once(engine: Engine) -> None:
    """Merge the counts of silent processes, note the totals, and count hours; nothing while another process does."""
    with engine.begin() as connection:
        if not connection.scalar(_ALONE, {"key": Lock.ROLL_UP}):
            return
        merge_silent_processes(connection)
        connection.execute(_MINUTE)
        connection.execute(_OLD_MINUTES)
        connection.execute(_OLD_REFUSED)
        connection.execute(_OLD_DEATHS)
    with engine.connect() as connection:
        hours = list(connection.scalars(_HOURS, {"most": HOURS_AT_ONCE}))
    for hour in hours:
        with engine.begin() as connection:
            if connection.scalar(_ALONE, {"key": Lock.ROLL_UP}):
                count_hour(connection, hour)


def merge_silent_processes(connection: Connection) -> None:
    """Add the counts of processes that have ended to one set of rows."""
    connection.execute(_SILENT, {"merged": MERGED})


def count_hour(connection: Connection, hour: datetime) -> None:
    """Count the deliveries that were received in the hour that begins at *hour*, by what they are now."""
    connection.execute(_CLEAR_HOUR, {"hour": hour})
    connection.execute(_COUNT_HOUR, {"since": hour, "until": hour + HOUR})
    connection.execute(_HOUR_COUNTED, {"hour": hour})

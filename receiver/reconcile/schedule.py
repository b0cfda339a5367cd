"""The RQ job ``reconcile_due``: runs the webhooks whose time has come. The scheduler enqueues it every few seconds."""

from __future__ import annotations

import os
from collections import defaultdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import psycopg
import structlog
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from receiver.connections import RECONCILE
from receiver.db import engine_for
from receiver.encryption import Encryption
from receiver.errors import ReceiverError
from receiver.opencard.auth import Access
from receiver.processing.drain import stop_requested
from receiver.queue import wake_worker_if_possible
from receiver.reconcile.due import LOOK_BACK, is_due, reach
from receiver.reconcile.run import Reconciler
from receiver.records.epochs import LAST_RUN_ID, notice_branch
from receiver.settings import load_settings, unset_for_api

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from sqlalchemy import Connection, Engine

    from receiver.settings import Settings

log = structlog.stdlib.get_logger(__name__)

SIDE_BY_SIDE: Final = 4
"""How many webhooks are run at once: most of the time is spent waiting for OpenCard."""
AT_A_TIME: Final = 4 * SIDE_BY_SIDE
"""How many are begun before the job looks again what is due, and whether it is asked to stop."""


TOLERANCE: Final = timedelta(hours=1)
"""By how much a look-back may fall short and be one: the time from its being due to its start, above all."""

# a run from before the feed's epoch does not count: what it had found may be lost
_LAST_STARTS: Final = text(
    f"""
SELECT webhook.id, now() AS now, CASE WHEN last.id > epoch.last_run_id THEN last.started_at END AS started_at
FROM receiver.webhooks AS webhook
CROSS JOIN (SELECT coalesce(({LAST_RUN_ID}), 0) AS last_run_id) AS epoch
LEFT JOIN LATERAL (
    SELECT run.id, run.started_at FROM receiver.reconcile_runs AS run
    WHERE run.webhook_id = webhook.id AND run.started_at <= now()
    ORDER BY run.started_at DESC LIMIT 1
) AS last ON true
WHERE webhook.enabled AND webhook.opencard_webhook_id IS NOT NULL AND webhook.deleted_at IS NULL
    AND NOT webhook.test
ORDER BY started_at NULLS FIRST, webhook.id
"""  # noqa: S608 - a query of our own
)
# within a day, for who has not looked back in that time is to do so in any case
_CHECKED: Final = text(
    f"""
SELECT state.webhook_id, state.checked_until, (
    SELECT max(run.started_at) FROM receiver.reconcile_runs AS run
    WHERE run.webhook_id = state.webhook_id AND run.started_at BETWEEN now() - interval '1 day' AND now()
        AND run.ended_at IS NOT NULL AND run.error IS NULL
        AND (run.since IS NULL OR run.since <= run.started_at - CAST(:reach AS interval))
        AND run.id > coalesce(({LAST_RUN_ID}), 0)
) AS looked_back_at
FROM receiver.reconcile_state AS state
WHERE state.webhook_id = ANY(:webhook_ids)
"""  # noqa: S608
)


def what_is_missing(settings: Settings) -> str:
    """Return why the scheduler reconciles nothing; an empty text when it does."""
    if settings.reconcile_interval == 0:
        return "RECONCILE_INTERVAL is 0"
    return unset_for_api(settings)


def reconcile_due() -> None:
    """Run every webhook that is due, then return. Run by RQ; any number may run at once."""
    settings = load_settings(os.environ)
    if what_is_missing(settings):
        return  # the scheduler has other settings than this worker, and said so when it started
    engine = engine_for(settings.database_url, application="reconcile", bounds=RECONCILE)
    reconciler = Reconciler(
        engine,
        Encryption(settings.encryption_keys),
        Access.of(settings),
        grace=timedelta(seconds=settings.reconcile_grace),
    )
    try:
        notice_branch(engine)
        run_due(
            engine,
            reconciler,
            interval=timedelta(seconds=settings.reconcile_interval),
            wake=lambda: wake_worker_if_possible(settings.redis_url),
            stop=stop_requested.is_set,
        )
    except ReceiverError as error:
        log.warning("webhooks are not reconciled at this tick", error=str(error))
    except (OperationalError, psycopg.OperationalError) as error:  # the next tick comes again
        reason = str(getattr(error, "orig", error)).partition("\n")[0]
        log.warning("PostgreSQL is away; nothing is reconciled meanwhile", error=reason)
    finally:
        engine.dispose()


def run_due(
    engine: Engine,
    reconciler: Reconciler,
    *,
    interval: timedelta,
    wake: Callable[[], object],
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Run what is due, each webhook at most once, the longest waiting first; *wake* is called when events came in."""
    begun: set[int] = set()
    while not stop():
        with engine.connect() as connection:
            batch = _next(connection, interval, begun)
        if not batch:
            return
        begun |= batch.keys()
        by_reach: dict[datetime | None, list[int]] = defaultdict(list)
        for webhook_id, since in batch.items():
            by_reach[since].append(webhook_id)
        for since, webhook_ids in by_reach.items():
            outcomes = reconciler.run(webhook_ids, since=since, side_by_side=SIDE_BY_SIDE)
            if any(outcome.recovered for outcome in outcomes):
                wake()


def _next(connection: Connection, interval: timedelta, begun: Collection[int]) -> dict[int, datetime | None]:
    """Return some webhooks that are due, each with how far back to read; ``None`` for since its last run."""
    rows = connection.execute(_LAST_STARTS).all()
    due = [
        row.id
        for row in rows
        if row.id not in begun and is_due(row.id, now=row.now, last_start=row.started_at, interval=interval)
    ][:AT_A_TIME]
    if not due:
        return {}
    now = rows[0].now
    checked = connection.execute(_CHECKED, {"webhook_ids": due, "reach": LOOK_BACK - TOLERANCE})
    return {
        row.webhook_id: reach(
            row.webhook_id, now=now, checked_until=row.checked_until, last_look_back=row.looked_back_at
        )
        for row in checked
    }

"""The RQ job ``reconcile_due``: reconcile the webhooks that are due. The scheduler enqueues it every few seconds."""

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
from receiver.reconcile.due import LOOK_BACK, is_due, read_since
from receiver.reconcile.run import Reconciler
from receiver.records.epochs import LAST_RUN_ID, notice_branch
from receiver.settings import load_settings, unset_for_api

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from sqlalchemy import Connection, Engine

    from receiver.settings import Settings

log = structlog.stdlib.get_logger(__name__)

PARALLEL_RUNS: Final = 4
"""How many webhooks are reconciled in parallel: most of the time is spent waiting for OpenCard."""
BATCH_SIZE: Final = 4 * PARALLEL_RUNS
"""How many are started before the job checks again which are due, and whether it should stop."""
LOOK_BACK_TOLERANCE: Final = timedelta(hours=1)
"""By how much a look-back may fall short of ``LOOK_BACK`` and still count: an operator's machine has another clock."""

# a run from before the feed's epoch does not count, for what it found may be lost; nor one before an operator's request
_LAST_STARTS: Final = text(
    f"""
SELECT webhook.id, now() AS now, CASE
        WHEN last.id > epoch.last_run_id AND last.started_at >= coalesce(webhook.reconcile_requested_at, '-infinity')
        THEN last.started_at
    END AS started_at
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
# limited to a day: without a look-back in that time, one is due in any case
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


def unset_for_reconcile(settings: Settings) -> str:
    """Return which settings keep the scheduler from reconciling; an empty string if none does."""
    if settings.reconcile_interval == 0:
        return "RECONCILE_INTERVAL is 0"
    return unset_for_api(settings)


def reconcile_due() -> None:
    """Reconcile every webhook that is due. Run by RQ; any number may run at once."""
    settings = load_settings(os.environ)
    if unset_for_reconcile(settings):
        return  # the scheduler's settings differ from this worker's; it logs its own when it starts
    engine = engine_for(settings.database_url, application="reconcile", timeouts=RECONCILE)
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
        log.warning("reconcile.run_failed", error=str(error))
    except (OperationalError, psycopg.OperationalError) as error:  # the next tick comes again
        reason = str(getattr(error, "orig", error)).partition("\n")[0]
        log.warning("reconcile.postponed", error=reason)
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
    """Reconcile each due webhook once, the longest waiting first; call *wake* when deliveries were recovered."""
    started: set[int] = set()
    while not stop():
        with engine.connect() as connection:
            batch = _next_batch(connection, interval, started)
        if not batch:
            return
        started |= batch.keys()
        by_since: dict[datetime | None, list[int]] = defaultdict(list)
        for webhook_id, since in batch.items():
            by_since[since].append(webhook_id)
        for since, webhook_ids in by_since.items():
            outcomes = reconciler.run(webhook_ids, since=since, parallelism=PARALLEL_RUNS)
            if any(outcome.recovered for outcome in outcomes):
                wake()


def _next_batch(connection: Connection, interval: timedelta, started: Collection[int]) -> dict[int, datetime | None]:
    """Return some due webhooks, each with how far back to read; ``None`` for since its last run."""
    rows = connection.execute(_LAST_STARTS).all()
    due = [
        row.id
        for row in rows
        if row.id not in started and is_due(row.id, now=row.now, last_start=row.started_at, interval=interval)
    ][:BATCH_SIZE]
    if not due:
        return {}
    now = rows[0].now
    checked = connection.execute(_CHECKED, {"webhook_ids": due, "reach": LOOK_BACK - LOOK_BACK_TOLERANCE})
    return {
        row.webhook_id: read_since(
            row.webhook_id, now=now, checked_until=row.checked_until, last_look_back=row.looked_back_at
        )
        for row in checked
    }

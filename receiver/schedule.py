"""The scheduler process: RQ cron. It may run more than once; what it enqueues does no harm twice."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog
from redis import RedisError
from rq import Queue
from rq.cron import CronScheduler
from rq.exceptions import SchedulerNotFound, StopRequested

from receiver.bootstrap.schedule import bootstrap_due
from receiver.error_reports import start_reporting
from receiver.files.schedule import fetch_due
from receiver.logs import configure_logs
from receiver.ops.issues.watch import watching
from receiver.ops.retention.schedule import retain
from receiver.ops.rollup import roll_up
from receiver.processing.job import process_deliveries
from receiver.queue import (
    BOOTSTRAP_QUEUE,
    BOOTSTRAP_TIMEOUT,
    FAILURE_TTL,
    FILES_QUEUE,
    FILES_TIMEOUT,
    JOB_TIMEOUT,
    QUEUE,
    RECONCILE_QUEUE,
    RECONCILE_TIMEOUT,
    RETENTION_QUEUE,
    RETENTION_TIMEOUT,
    RedisOutage,
    connect,
)
from receiver.reconcile.schedule import reconcile_due, unset_for_reconcile
from receiver.settings import unset_for_api
from receiver.tracing import load_tracing, start_tracing, stop_tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from redis import Redis
    from rq.cron import CronJob

    from receiver.settings import Settings

log = structlog.stdlib.get_logger(__name__)

SWEEP_SECONDS: Final = 5
"""How often workers look for waiting deliveries and due retries without being woken."""
RECONCILE_TICK_SECONDS: Final = 5
"""How often a worker looks which webhooks are due to be reconciled."""
FILES_TICK_SECONDS: Final = 5
"""How often a worker looks for files to download without being woken."""
ROLL_UP_SECONDS: Final = 60
"""How often what was counted is brought together."""
BOOTSTRAP_TICK_SECONDS: Final = 15
"""How often at most a worker looks whether the applied configuration is to be applied again."""
RETENTION_TICK_SECONDS: Final = 300
"""How often a worker deletes expired data."""
KEPT_JOBS: Final = 2
"""How many jobs of the background queues may wait: one would do, because each runs whatever is due."""


class Scheduler(CronScheduler):
    """RQ's cron scheduler, which waits while Redis fails, and lets no jobs pile up that no worker takes."""

    _stop_requested = False

    def enqueue_jobs(self) -> list[CronJob]:
        """Enqueue what is due; of a queue whose worker is busy or away, only the newest jobs are kept."""
        now = datetime.now(UTC)
        for job in self.get_jobs():
            if job.latest_enqueue_time is not None and job.latest_enqueue_time > now:  # the clock was set back
                job.latest_enqueue_time = None
        enqueued = super().enqueue_jobs()
        for queue in (RECONCILE_QUEUE, FILES_QUEUE, BOOTSTRAP_QUEUE, RETENTION_QUEUE):
            self.connection.ltrim(Queue.redis_queue_namespace_prefix + queue, -KEPT_JOBS, -1)
        return enqueued

    def run(self) -> None:
        """Enqueue what is due until SIGTERM or SIGINT; waits while Redis fails."""
        self._install_signal_handlers()  # type: ignore[no-untyped-call]
        outage = RedisOutage()
        try:
            while not self._stop_requested:
                try:
                    self.enqueue_jobs()
                    self.heartbeat()  # registers this scheduler where Redis does not have it
                except RedisError as error:
                    outage.wait(error)
                else:
                    outage.end()
                    time.sleep(min(self.calculate_sleep_interval(), SWEEP_SECONDS))
        except StopRequested:
            pass
        finally:
            self.register_death()

    def _request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Stop, also where the exception is lost: one raised inside a log handler or a finalizer is not passed on."""
        self._stop_requested = True
        super()._request_stop(signum, frame)  # type: ignore[no-untyped-call]

    def register_death(self, *args: object, **kwargs: object) -> None:
        """Remove this scheduler from Redis, if Redis is there and still has it."""
        with suppress(RedisError, SchedulerNotFound):
            super().register_death(*args, **kwargs)  # type: ignore[arg-type]


def run_scheduler(settings: Settings) -> None:
    """Enqueue what is due until SIGTERM or SIGINT; waits while Redis is away."""
    configure_logs(level=settings.log_level, log_format=settings.log_format)
    start_reporting(settings.sentry_dsn, process="scheduler")
    load_tracing(settings)
    start_tracing(settings, process="scheduler")
    redis = connect(settings.redis_url)
    log.info("scheduler.started")
    missing = unset_for_reconcile(settings)
    if missing:
        log.warning("reconcile.unavailable", reason=missing)
    no_files = unset_for_api(settings)
    if no_files:
        log.warning("files.unavailable", reason=no_files)
    try:
        with watching(settings):
            _scheduler(redis, settings).run()
    finally:
        stop_tracing()
    log.info("scheduler.stopped")


def _scheduler(redis: Redis, settings: Settings) -> Scheduler:
    scheduler = Scheduler(connection=redis)
    for job, queue, seconds, timeout in _jobs(settings):
        scheduler.register(
            job,
            queue,
            interval=seconds,
            job_timeout=timeout,
            result_ttl=0,
            failure_ttl=FAILURE_TTL,
            ttl=seconds,  # what no worker has taken when the next one comes is not needed any more
        )
    return scheduler


def _jobs(settings: Settings) -> Iterator[tuple[Callable[[], None], str, int, int]]:
    """Yield each job with its queue, its interval in seconds, and the seconds after which a worker ends it."""
    yield process_deliveries, QUEUE, SWEEP_SECONDS, JOB_TIMEOUT
    yield roll_up, RETENTION_QUEUE, ROLL_UP_SECONDS, JOB_TIMEOUT
    if not unset_for_reconcile(settings):
        yield reconcile_due, RECONCILE_QUEUE, RECONCILE_TICK_SECONDS, RECONCILE_TIMEOUT
    if not unset_for_api(settings):
        yield fetch_due, FILES_QUEUE, FILES_TICK_SECONDS, FILES_TIMEOUT
        if settings.bootstrap_interval:
            seconds = min(BOOTSTRAP_TICK_SECONDS, settings.bootstrap_interval)
            yield bootstrap_due, BOOTSTRAP_QUEUE, seconds, BOOTSTRAP_TIMEOUT
    yield retain, RETENTION_QUEUE, RETENTION_TICK_SECONDS, RETENTION_TIMEOUT

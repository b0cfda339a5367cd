"""The scheduler process: RQ cron. It may run more than once; what it enqueues does no harm twice."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog
from redis import RedisError
from rq.cron import CronScheduler
from rq.exceptions import StopRequested

from receiver.events.process import process_deliveries
from receiver.logs import configure_logs
from receiver.queue import FAILURE_TTL, JOB_TIMEOUT, QUEUE, connect

if TYPE_CHECKING:
    from redis import Redis

    from receiver.settings import Settings

log = structlog.stdlib.get_logger(__name__)

SWEEP_SECONDS: Final = 5
"""How often workers look for what waits, due retries among it, though nobody woke them."""
RECONNECT_SECONDS: Final = 2.0


class Scheduler(CronScheduler):
    """RQ's cron scheduler, which ends cleanly though Redis is away."""

    def register_death(self, *args: object, **kwargs: object) -> None:
        """Say goodbye in Redis, if Redis is there."""
        with suppress(RedisError):
            super().register_death(*args, **kwargs)  # type: ignore[arg-type]


def run_scheduler(settings: Settings) -> None:
    """Enqueue what is due until SIGTERM or SIGINT; waits while Redis is away."""
    configure_logs(level=settings.log_level, log_format=settings.log_format)
    redis = connect(settings.redis_url)
    log.info("scheduler started")
    try:
        while True:
            try:
                _scheduler(redis).start()  # type: ignore[no-untyped-call]
            except RedisError as error:
                log.warning("waiting for Redis", error=type(error).__name__)
                time.sleep(RECONNECT_SECONDS)
            else:
                break
    except StopRequested:
        pass
    log.info("scheduler stopped")


def _scheduler(redis: Redis) -> Scheduler:
    scheduler = Scheduler(connection=redis)
    scheduler.register(
        process_deliveries,
        QUEUE,
        interval=SWEEP_SECONDS,
        job_timeout=JOB_TIMEOUT,
        result_ttl=0,
        failure_ttl=FAILURE_TTL,
        ttl=SWEEP_SECONDS,  # a sweep that no worker has taken by the next one is not needed any more
    )
    return scheduler

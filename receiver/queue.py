"""The wake-up of the workers through RQ. The queue carries no data: PostgreSQL has the backlog."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

import structlog
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Queue
from rq.exceptions import DequeueTimeout

from receiver.counters import WAKE_UPS_FAILED
from receiver.redis_url import sentinel_url
from receiver.sentinel import pool_of_master
from receiver.tracing import step_of

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.stdlib.get_logger(__name__)

QUEUE: Final = "receiver"
RECONCILE_QUEUE: Final = "receiver-reconcile"
"""A separate queue, with a separate worker: a long reconcile delays no delivery."""
FILES_QUEUE: Final = "receiver-files"
"""Likewise: slow servers and large files keep neither deliveries nor reconciling waiting."""
RETENTION_QUEUE: Final = "receiver-retention"
"""Likewise: jobs that delete or count for minutes delay no other job."""
BOOTSTRAP_QUEUE: Final = "receiver-bootstrap"
"""Likewise: a new organization waits for its webhook, and must not wait for a long reconcile as well."""
PROCESS_DELIVERIES: Final = "receiver.processing.job.process_deliveries"
"""The job, by name: processes that only wake a worker do not import the processing code."""
FETCH_DUE: Final = "receiver.files.schedule.fetch_due"
"""The job that downloads files, by name."""
JOB_TIMEOUT: Final = 180
"""Seconds after which RQ ends a job that hangs; a job by itself stops much sooner."""
RECONCILE_TIMEOUT: Final = 3600
"""The same for a reconcile: long, because the first run of a webhook reads its whole log."""
FILES_TIMEOUT: Final = 900
"""The same for downloading; the job hands over sooner."""
BOOTSTRAP_TIMEOUT: Final = 900
"""The same for bootstrap."""
RETENTION_TIMEOUT: Final = 900
"""The same for retention; the job hands over sooner."""
FAILURE_TTL: Final = 3600
"""Seconds that RQ keeps a failed job; its errors and traces are in PostgreSQL."""

WAITING: Final = "receiver:process-deliveries:waiting"
"""Set while a wake-up waits for a worker, so that a flood of deliveries enqueues one job."""
WAITING_SECONDS: Final = 5
"""After this long a wake-up counts as lost, and the next one is sent."""

FILES_WAITING: Final = "receiver:fetch-due:waiting"
"""The same for the downloading of files."""

SHORT_TIMEOUT: Final = 0.5
"""Seconds that waking may wait for Redis."""
LONG_TIMEOUT: Final = 5.0
"""Seconds that everything else may wait for it."""


FIRST_PAUSE: Final = 0.5
"""Seconds before the second try of a process that needs Redis, and at most before each later one."""
LONGEST_PAUSE: Final = 8.0


def connect(redis_url: str, *, timeout: float = LONG_TIMEOUT) -> Redis:
    """Return a client that gives up after *timeout* seconds and does not try again by itself. Connects on first use."""
    options = {
        "socket_connect_timeout": min(timeout, 5.0),
        "socket_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 30,
    }
    sentinels = sentinel_url(redis_url)
    if sentinels is None:
        return Redis.from_url(redis_url, **options)
    return Redis.from_pool(pool_of_master(sentinels, **options))


def check_writes(redis: Redis) -> None:
    """Raise ``RedisError`` unless Redis takes writes: one that is read-only or out of memory answers pings."""
    redis.set("receiver:write-check", 1, px=1)


class RedisOutage:
    """Waits while Redis fails: longer each time, and with one line in the log for all of it."""

    def __init__(self, sleep: Callable[[float], object] = time.sleep) -> None:
        self._sleep = sleep
        self._pause = FIRST_PAUSE

    def wait(self, error: RedisError) -> None:
        """Wait before the next try."""
        if self._pause == FIRST_PAUSE:
            log.warning("redis.waiting", error=type(error).__name__, reason=str(error))
        self._sleep(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def end(self) -> None:
        """End the outage: the next failure is logged again."""
        self._pause = FIRST_PAUSE


def wake_worker(redis: Redis) -> bool:
    """Enqueue the processing job unless one is waiting; return whether it was enqueued. Raises ``RedisError``."""
    if not redis.set(WAITING, 1, nx=True, ex=WAITING_SECONDS):
        return False
    Queue(QUEUE, connection=redis).enqueue(
        PROCESS_DELIVERIES, job_timeout=JOB_TIMEOUT, result_ttl=0, failure_ttl=FAILURE_TTL
    )
    return True


def wake_files_worker(redis: Redis) -> bool:
    """Enqueue the job that downloads files unless one is waiting; return whether it was. Raises ``RedisError``."""
    if not redis.set(FILES_WAITING, 1, nx=True, ex=WAITING_SECONDS):
        return False
    Queue(FILES_QUEUE, connection=redis).enqueue(
        FETCH_DUE, job_timeout=FILES_TIMEOUT, result_ttl=0, failure_ttl=FAILURE_TTL, ttl=FILES_TIMEOUT
    )
    return True


def wake_worker_if_possible(redis_url: str) -> bool:
    """Wake a worker; return whether Redis could be reached. The scheduler's sweep finds the backlog in any case."""
    with closing(connect(redis_url, timeout=SHORT_TIMEOUT)) as redis:
        try:
            wake_worker(redis)
        except RedisError as error:
            WAKE_UPS_FAILED.inc()
            log.warning("worker.not_woken", error=type(error).__name__)
            return False
    return True


def worker_is_awake(redis: Redis) -> None:
    """Let the next delivery enqueue a job again; called by the job before it looks for work. Raises ``RedisError``."""
    redis.delete(WAITING)


def woken_again(redis: Redis, *, within: float) -> bool:
    """Wait *within* seconds for a wake-up; return whether one arrived: the caller does its job. Raises ``RedisError``.

    A job of another kind is left to the worker, and ends the waiting.
    """
    queue = Queue(QUEUE, connection=redis)
    try:
        found = Queue.dequeue_any([queue], timeout=within, connection=redis)  # type: ignore[arg-type] # Redis takes parts
    except DequeueTimeout:
        return False
    if found is None:
        return False
    job, _ = found
    redis.lrem(queue.intermediate_queue_key, 1, job.id)
    if job.func_name != PROCESS_DELIVERIES:
        queue.push_job_id(job.id, at_front=True)
        return False
    job.delete(remove_from_queue=False)
    return True


class WakeUp:
    """Wakes workers from a background thread, so that Redis never delays or fails a request.

    The first call wakes at once; calls during the wake-up, or in the short pause after it, become one more wake-up.
    After a failure the pause is longer: the scheduler's sweep finds the backlog.
    """

    def __init__(self, redis_url: str, *, pause: float = 0.02, pause_after_failure: float = 2.0) -> None:
        self._redis = connect(redis_url, timeout=SHORT_TIMEOUT)
        self._pause = pause
        self._pause_after_failure = pause_after_failure
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._start = threading.Lock()
        self._carried: bytes | None = None

    def __call__(self, carried: bytes | None = None) -> None:
        """Request a wake-up; returns at once and never raises. *carried*: the context of the trace it is a step of."""
        if carried is not None:
            self._carried = carried
        self._wanted.set()
        if self._thread is None:
            with self._start:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="wake-up", daemon=True)
                    self._thread.start()

    def close(self) -> None:
        """Send the requested wake-up and end the thread; one that hangs on Redis ends with the process."""
        self._closing.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(timeout=2 * SHORT_TIMEOUT)

    def _run(self) -> None:
        with closing(self._redis):
            self._wake_when_asked()

    def _wake_when_asked(self) -> None:
        while self._wanted.wait():
            last = self._closing.is_set()  # read first: a wake-up that is requested before closing is still sent
            self._wanted.clear()
            pause = self._pause
            carried, self._carried = self._carried, None
            try:
                with step_of(carried, "wake worker"):
                    wake_worker(self._redis)
            except RedisError as error:
                pause = self._pause_after_failure
                WAKE_UPS_FAILED.inc()
                log.warning("worker.not_woken", error=type(error).__name__)
                last = self._closing.is_set()
            if last:
                return
            self._closing.wait(pause)

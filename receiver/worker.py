"""The worker process: an RQ pool whose workers import the processing code before they fork.

Each job runs in a forked process (RQ's "work-horse"), so that a delivery which kills its process kills nothing else.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
import uuid
from contextlib import nullcontext, suppress
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import structlog
from redis import RedisError
from rq import Worker, worker_registration
from rq.exceptions import DequeueTimeout, StopRequested
from rq.timeouts import HorseMonitorTimeoutException
from rq.utils import now
from rq.worker.base import WorkerStatus
from rq.worker_pool import WorkerPool

from receiver.counter_store import flushing
from receiver.counters import unstored_counts
from receiver.error_reports import flush_reports, report, start_reporting
from receiver.logs import configure_logs
from receiver.processing.drain import stop_requested
from receiver.queue import (
    BOOTSTRAP_QUEUE,
    FILES_QUEUE,
    LONG_TIMEOUT,
    PROCESS_DELIVERIES,
    QUEUE,
    RECONCILE_QUEUE,
    RETENTION_QUEUE,
    RedisOutage,
    connect,
)
from receiver.reconcile.schedule import unset_for_reconcile
from receiver.settings import load_settings, unset_for_api
from receiver.tracing import load_tracing, start_tracing, stop_tracing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.process import BaseProcess
    from resource import struct_rusage

    from redis import Redis
    from redis.client import Pipeline
    from rq import Queue
    from rq.executions import Execution
    from rq.job import Job

    from receiver.settings import Settings

log = structlog.stdlib.get_logger(__name__)

WATCH_SECONDS: Final = 1.0
"""How often a worker checks that its pool runs, and a job process that its worker does."""
ABANDON_SECONDS: Final = 10.0
"""How long what has to end soon goes on after SIGTERM before it is abandoned as if its machine had failed."""


def run_worker_pool(settings: Settings, *, processes: int) -> None:
    """Run *processes* workers until SIGTERM or SIGINT, and one more for each other queue; one that dies is replaced."""
    configure_logs(level=settings.log_level, log_format=settings.log_format)
    start_reporting(settings.sentry_dsn, process="worker")
    import_module(PROCESS_DELIVERIES.rpartition(".")[0])  # before the forks
    load_tracing(settings)
    redis = connect(settings.redis_url)
    reconcile, files = not unset_for_reconcile(settings), not unset_for_api(settings)
    background = [
        queue
        for queue, wanted in (
            (RECONCILE_QUEUE, reconcile),
            (FILES_QUEUE, files),
            (BOOTSTRAP_QUEUE, files and settings.bootstrap_interval > 0),
            (RETENTION_QUEUE, True),
        )
        if wanted
    ]
    pool = Pool(redis, processes=processes, background=background)
    log.info("worker.started", processes=processes, reconcile=reconcile, files=files)
    logging.getLogger("rq.worker").setLevel(logging.WARNING)
    pool.start(logging_level="WARNING")
    log.info("worker.stopped")


class Pool(WorkerPool):
    """A pool of workers for deliveries, and one worker for each queue of *background*, alone."""

    def __init__(self, redis: Redis, *, processes: int, background: Sequence[str]) -> None:
        workers = processes + len(background)
        super().__init__([QUEUE], connection=redis, num_workers=workers, worker_class=DeliveryWorker)
        self._background = {
            queue: WorkerPool([queue], connection=redis, worker_class=BackgroundWorker) for queue in background
        }
        self._serving = dict.fromkeys(background, "")
        """Queue → the name of its worker."""

    def get_worker_process(
        self,
        name: str,
        burst: bool,  # noqa: FBT001 - RQ's signature
        _sleep: float = 0,
        logging_level: str = "INFO",
    ) -> BaseProcess:
        """Return a worker for a background queue that has none, else one for deliveries."""
        for queue, pool in self._background.items():
            if self._serving[queue] not in self.worker_dict:
                self._serving[queue] = name
                return pool.get_worker_process(name, burst, _sleep, logging_level)
        return super().get_worker_process(name, burst, _sleep, logging_level)


class DeliveryWorker(Worker):
    """An RQ worker that outlives Redis, ends with its pool, and ends its job at the next batch when asked to stop."""

    dequeue_timeout = 3
    """Seconds that Redis is asked to wait for a job: RQ's seven minutes would be noticed as late as that."""
    connection_timeout = int(LONG_TIMEOUT)
    """Seconds after which a connection that answers nothing counts as lost."""

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """Register this worker again each time, for Redis may have lost everything. Raises ``RedisError``."""
        with nullcontext(pipeline) if pipeline is not None else self.connection.pipeline() as commands:
            super().heartbeat(timeout, commands)
            commands.hset(self.key, mapping=self.serialize())
            worker_registration.register(self, commands)
            if pipeline is None:
                commands.execute()

    def work(self, *_args: object, **_kwargs: object) -> bool:
        """Take jobs until asked to stop, and wait while Redis fails.

        Takes the place of RQ's own loop, which ends the worker when Redis refuses a command. Nothing is lost with a job
        that Redis forgets: the sweep comes again.
        """
        self._counted_as = uuid.uuid4()
        self.birth_date = now()
        watch_pool()
        self._install_signal_handlers()  # type: ignore[no-untyped-call]
        outage = RedisOutage()
        try:
            while not self._stop_requested:
                try:
                    self._take_job()
                except RedisError as error:
                    outage.wait(error)
                else:
                    outage.end()
        except StopRequested:
            pass
        except Exception:
            log.exception("worker.failed")
        finally:
            self.teardown()
        return True

    def _take_job(self) -> None:
        """Wait some seconds for a job and do it. Raises ``RedisError``."""
        self.set_state(WorkerStatus.IDLE)
        self.heartbeat()
        if self.should_run_maintenance_tasks:
            self.run_maintenance_tasks()  # type: ignore[no-untyped-call]
        with suppress(DequeueTimeout):
            found = self.queue_class.dequeue_any(self.queues, self.dequeue_timeout, connection=self.connection)
            if found is not None:
                self.execute_job(*found)

    def monitor_work_horse(self, job: Job, queue: Queue, execution: Execution) -> None:
        """Wait for the job process, however the clock is set meanwhile: RQ ends one that it takes for hours old."""
        self._working, self._began = job, time.monotonic()
        super().monitor_work_horse(job, queue, execution)

    def wait_for_horse(self) -> tuple[int | None, int | None, struct_rusage | None]:
        """Wait for the job process to end, or for RQ's next look at it."""
        try:
            return super().wait_for_horse()
        except HorseMonitorTimeoutException:
            self._working.started_at = now() - timedelta(seconds=time.monotonic() - self._began)
            raise

    def maintain_heartbeats(self, job: Job, execution: Execution) -> None:
        """Go on with the job though Redis fails meanwhile."""
        with suppress(RedisError):
            super().maintain_heartbeats(job, execution)

    def _shutdown(self) -> None:
        """Stop, also where the exception is lost: one raised inside a log handler or a finalizer is not passed on."""
        self._stop_requested = True
        super()._shutdown()  # type: ignore[no-untyped-call]

    def set_shutdown_requested_date(self) -> None:
        """Do not write that this worker ends: it has to end without Redis, too."""

    def _set_ip_address(self, _connection: Redis) -> None:
        """Do not ask Redis for the address: a worker is made without Redis, too."""
        self.ip_address = "unknown"

    def perform_job(self, job: Job, queue: Queue, execution: Execution) -> bool:
        """End the job with its worker, and bring what it counts to PostgreSQL, for the next job process counts on."""
        _watch_parent(self.pid or 0)
        unstored_counts.take()  # what was counted before the fork is not this process's
        settings = load_settings(os.environ)
        start_tracing(settings, process="worker")
        try:
            with flushing(settings.database_url, process=self._counted_as):
                return super().perform_job(job, queue, execution)
        finally:
            stop_tracing()
            flush_reports()

    def handle_exception(self, job: Job, *exc_info: Any) -> None:  # noqa: ANN401 - RQ's signature
        """Report what a job did not handle itself."""
        report(exc_info[1])
        super().handle_exception(job, *exc_info)

    def handle_warm_shutdown_request(self) -> None:
        """Ask the job process, too, to finish: it gives back what it has not begun."""
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call]
        if self.horse_pid:
            with suppress(ProcessLookupError):
                os.kill(self.horse_pid, signal.SIGTERM)

    def setup_work_horse_signals(self) -> None:
        """Let SIGTERM end the job after the batch at hand."""
        super().setup_work_horse_signals()  # type: ignore[no-untyped-call]
        signal.signal(signal.SIGTERM, _stop_after_batch)

    def teardown(self) -> None:
        """Say goodbye in Redis, if Redis is there."""
        with suppress(RedisError):
            super().teardown()  # type: ignore[no-untyped-call]


class BackgroundWorker(DeliveryWorker):
    """The worker of a background queue: when stopped, it waits neither for a long log nor for a slow server."""

    def setup_work_horse_signals(self) -> None:
        """Let SIGTERM end the job after what is at hand, or after a while in the middle of it."""
        super().setup_work_horse_signals()
        signal.signal(signal.SIGTERM, _stop_soon)


def _stop_soon(_signal: int, _frame: object) -> None:
    stop_requested.set()
    abandon = threading.Timer(ABANDON_SECONDS, os._exit, (os.EX_TEMPFAIL,))  # the next job does what this one left
    abandon.daemon = True
    abandon.start()


def _stop_after_batch(_signal: int, _frame: object) -> None:
    stop_requested.set()


def watch_pool() -> None:
    """End this worker soon after the pool that started it, also where the pool has ended already."""
    pool = multiprocessing.parent_process()
    _watch_parent(os.getppid() if pool is None or pool.pid is None else pool.pid)


def _watch_parent(pid: int) -> None:
    threading.Thread(target=_end_with_parent, args=(pid,), name="parent-watch", daemon=True).start()


def _end_with_parent(parent: int) -> None:
    """Stop this process once its parent has ended, in order if it can: no process would replace or stop it any more."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ABANDON_SECONDS)
    os._exit(os.EX_TEMPFAIL)

"""A running ``receiver worker`` as the tests see it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil
from rq import Queue, Worker

from receiver.queue import BOOTSTRAP_QUEUE, FILES_QUEUE, QUEUE, RECONCILE_QUEUE, RETENTION_QUEUE
from tests.support.long_job import STARTED, wait_until_released
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from redis import Redis

ROOT = Path(__file__).parents[2]
RECEIVER = Path(sys.executable).with_name("receiver")
ACCESS = {
    "OPENCARD_API_URL": "http://127.0.0.1:1",
    "OPENCARD_ACCOUNT_ID": "1",
    "OPENCARD_CLIENT_ID": "client",
    "OPENCARD_CLIENT_SECRET": "secret",
}
SECONDS = 60
P = TypeVar("P", bound="Process")
QUEUES = (QUEUE, RECONCILE_QUEUE, FILES_QUEUE, BOOTSTRAP_QUEUE, RETENTION_QUEUE)


@dataclass
class Process:
    """A running process of the service, and its log where the test wants one."""

    process: subprocess.Popen[bytes]
    log: Path | None

    def said(self) -> str:
        """Return what it wrote to its log."""
        assert self.log is not None
        return self.log.read_text()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=SECONDS)


@dataclass
class PoolProcess(Process):
    """A running ``receiver worker``."""

    redis: Redis

    def workers(self, queue: str) -> set[int]:
        """Return the process ids of the workers that serve a queue."""
        family = {child.pid for child in psutil.Process(self.process.pid).children()}
        return family & {worker.pid or 0 for worker in Worker.all(queue=Queue(queue, connection=self.redis))}

    def is_up(self, *, reconcile: bool, files: bool = True) -> bool:
        number = [len(self.workers(queue)) for queue in QUEUES]
        return number == [1, int(reconcile), int(files), int(files), 1]

    def begin_a_long_job(self) -> None:
        """Have the reconcile queue's worker begin something that does not end."""
        Queue(RECONCILE_QUEUE, connection=self.redis).enqueue(wait_until_released, result_ttl=0)
        assert eventually(lambda: bool(self.redis.exists(STARTED)), within=SECONDS)


def running(redis: Redis, environment: dict[str, str], log: Path | None = None) -> AbstractContextManager[PoolProcess]:
    return _running("worker", environment, log, lambda process: PoolProcess(process, log, redis))


def scheduling(environment: dict[str, str], log: Path) -> AbstractContextManager[Process]:
    return _running("scheduler", environment, log, lambda process: Process(process, log))


@contextmanager
def _running(
    command: str, environment: dict[str, str], log: Path | None, seen_as: Callable[[subprocess.Popen[bytes]], P]
) -> Iterator[P]:
    with log.open("wb") if log else nullcontext() as output:
        process = subprocess.Popen(
            [RECEIVER, command],
            env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
            stderr=output,
            start_new_session=True,
        )
    family: list[psutil.Process] = []
    try:
        yield seen_as(process)
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    finally:
        process.kill()
        process.wait()
        for child in family:
            if child.is_running():
                child.kill()

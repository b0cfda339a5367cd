"""A running ``receiver worker`` as the tests see it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from rq import Queue, Worker

from receiver.queue import BOOTSTRAP_QUEUE, FILES_QUEUE, QUEUE, RECONCILE_QUEUE, RETENTION_QUEUE
from tests.long_job import STARTED, wait_until_released
from tests.test_queue import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

ROOT = Path(__file__).parent.parent
RECEIVER = Path(sys.executable).with_name("receiver")
ACCESS = {
    "OPENCARD_API_URL": "http://127.0.0.1:1",
    "OPENCARD_ACCOUNT_ID": "1",
    "OPENCARD_CLIENT_ID": "client",
    "OPENCARD_CLIENT_SECRET": "secret",
}
SECONDS = 60
QUEUES = (QUEUE, RECONCILE_QUEUE, FILES_QUEUE, BOOTSTRAP_QUEUE, RETENTION_QUEUE)


@dataclass
class Pool:
    """A running ``receiver worker``."""

    process: subprocess.Popen[bytes]
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

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=SECONDS)


@contextmanager
def running(redis: Redis, environment: dict[str, str]) -> Iterator[Pool]:
    process = subprocess.Popen(
        [RECEIVER, "worker"], env={**os.environ, **environment, "PYTHONPATH": str(ROOT)}, start_new_session=True
    )
    family: list[psutil.Process] = []
    try:
        yield Pool(process, redis)
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    finally:
        process.kill()
        process.wait()
        for child in family:
            if child.is_running():
                child.kill()

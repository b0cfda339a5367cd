"""A job that takes as long as a test wants it to: it ends when the test allows it."""

from __future__ import annotations

import os
import threading

from receiver.queue import connect

STARTED = "tests:long-job:started"
RELEASED = "tests:long-job:released"


def wait_until_released() -> None:
    with connect(os.environ["REDIS_URL"], timeout=120) as redis:
        redis.incr(STARTED)
        redis.blpop([RELEASED], timeout=100)


def wait_without_redis() -> None:
    with connect(os.environ["REDIS_URL"]) as redis:
        redis.incr(STARTED)
    threading.Event().wait(100)

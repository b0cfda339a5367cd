"""The RQ job ``process_deliveries``: processes the due deliveries, then waits a few seconds for the next wake-up."""

from __future__ import annotations

import gc
import os
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

import psycopg
import structlog
from redis import RedisError
from rq import get_current_job
from sqlalchemy.exc import DBAPIError

from receiver.connections import WORK
from receiver.counters import WAKE_UPS_FAILED
from receiver.db import engine_for, was_cut_off
from receiver.encryption import Encryption
from receiver.processing.downloads import downloads_due
from receiver.processing.drain import DRAIN_SECONDS, Processor, stop_requested
from receiver.queue import connect, wake_files_worker, wake_worker, woken_again, worker_is_awake
from receiver.settings import load_settings, unset_for_api

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis

log = structlog.stdlib.get_logger(__name__)

GARBAGE_AFTER: Final = 50_000
"""Objects after which Python looks for unreachable cycles: those of a batch. Its default costs a sixth of the time."""
STAY_SECONDS: Final = 5.0
"""How long a job waits for the next wake-up before it ends."""
LOOK_UP_SECONDS: Final = 0.5
"""Seconds between two checks whether it should stop."""


def process_deliveries() -> None:
    """Process all waiting deliveries, then return. Run by RQ; any number may run in parallel.

    In a worker it waits a few seconds for the next wake-up, so that deliveries that arrive soon need no new process.
    """
    gc.set_threshold(GARBAGE_AFTER)
    settings = load_settings(os.environ)
    redis = connect(settings.redis_url)
    engine = engine_for(settings.database_url, application="worker", timeouts=WORK)
    wake_another = _quietly(wake_worker, redis)
    stay_until = time.monotonic() + DRAIN_SECONDS if get_current_job() else 0.0
    try:
        with closing(Processor(engine, Encryption(settings.encryption_keys))) as processor:
            while True:
                _quietly(worker_is_awake, redis)()
                nothing_left = processor.drain(wake_another=wake_another)
                if not nothing_left:
                    wake_another()
                if not unset_for_api(settings) and downloads_due(processor.connection("first")):
                    _quietly(wake_files_worker, redis)()
                stay = min(stay_until, time.monotonic() + STAY_SECONDS)
                if not nothing_left or not _woken_again(redis, until=stay):
                    return
    except (psycopg.Error, DBAPIError) as error:  # nothing is lost with the connection
        if not was_cut_off(error):
            raise
        log.warning("postgresql.unreachable", error=str(error).partition("\n")[0], see="the next sweep tries again")
    finally:
        engine.dispose()
        redis.close()


def _woken_again(redis: Redis, *, until: float) -> bool:
    """Wait for the next wake-up; return False when none arrived, or this process is not to stay."""
    while (left := until - time.monotonic()) > 0 and not stop_requested.is_set():
        try:
            if woken_again(redis, within=min(left, LOOK_UP_SECONDS)):
                return True
        except RedisError:
            return False
    return False


def _quietly(act: Callable[[Redis], object], redis: Redis) -> Callable[[], None]:
    """Return *act* without its errors: Redis only wakes, and what is not woken is found by the sweep."""

    def try_it() -> None:
        try:
            act(redis)
        except RedisError as error:
            WAKE_UPS_FAILED.inc()
            log.warning("redis.unreachable", error=type(error).__name__, see="the sweep finds what waits")

    return try_it

"""Health: ``/healthz`` (the process is up) and ``/readyz`` (it can take deliveries)."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from functools import cache
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import psycopg
from flask import Blueprint, Response, jsonify
from psycopg_pool import PoolTimeout
from redis import RedisError, ResponseError

from receiver.migrate import head_revision
from receiver.ops.storing import check_disk_space
from receiver.queue import SHORT_TIMEOUT, check_writes, connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg_pool import ConnectionPool
    from redis import Redis

    from receiver.deliveries.committer import Committer

READY_SECONDS: Final = 1.5
"""Seconds within which everything has to answer, so that who asks is answered within two."""
POOL_SECONDS: Final = 1.0
"""Seconds of these to wait for a connection to read with."""
ROOM_SECONDS: Final = 5.0
"""How long it is believed that there is room on PostgreSQL's disk."""
OK: Final = "ok"


class HealthProbe:
    """A check in a separate thread, one at a time: callers that come meanwhile wait for the same result."""

    def __init__(self, ask: Callable[[], str]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._answer: Future[str] | None = None

    def begin(self) -> Future[str]:
        """Begin the check, unless one is under way."""
        with self._lock:
            if self._answer is None or self._answer.done():
                self._answer = Future()
                threading.Thread(target=self._find, args=(self._answer,), name="health", daemon=True).start()
            return self._answer

    def _find(self, answer: Future[str]) -> None:
        try:
            answer.set_result(self._ask())
        except Exception as error:  # noqa: BLE001 - who asks raises it
            answer.set_exception(error)


class Readiness:
    """Whether this web process can store deliveries; answers in time even if PostgreSQL or Redis hangs."""

    def __init__(self, pool: ConnectionPool[Any], committer: Committer, *, redis_url: str) -> None:
        redis = connect(redis_url, timeout=SHORT_TIMEOUT)
        wanted = cache(head_revision)
        room = DiskSpaceCheck()
        self._database = HealthProbe(lambda: _database_state(pool, committer, room, wanted()))
        self._redis = HealthProbe(lambda: _redis_state(redis))

    def states(self) -> dict[str, str]:
        """Return the state of the database and of Redis, each ``ok`` or in words."""
        deadline = monotonic() + READY_SECONDS
        asked = {"database": self._database.begin(), "redis": self._redis.begin()}
        return {name: _within(deadline, answer) for name, answer in asked.items()}

    def can_store(self) -> bool:
        """Return whether deliveries can be stored."""
        return _within(monotonic() + READY_SECONDS, self._database.begin()) == OK


def _within(deadline: float, answer: Future[str]) -> str:
    try:
        return answer.result(max(0.0, deadline - monotonic()))
    except TimeoutError:
        return "no answer"


def health(readiness: Readiness) -> Blueprint:
    """Return the blueprint. Redis is reported and never fatal: deliveries are taken without it."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/healthz")
    def healthz() -> Response:
        return jsonify(status="ok")

    @blueprint.get("/readyz")
    def readyz() -> tuple[Response, int]:
        states = readiness.states()
        ready = states["database"] == OK
        return jsonify(status=OK if ready else "unavailable", **states), 200 if ready else 503

    return blueprint


def _redis_state(redis: Redis) -> str:
    try:
        check_writes(redis)
    except ResponseError:
        return "refuses writes"
    except RedisError:
        return "unreachable"
    return OK


class DiskSpaceCheck:
    """Whether there is room on PostgreSQL's disk: found out by writing, so not at every question of a load balancer."""

    def __init__(self) -> None:
        self._checked_at: float | None = None

    def check(self, connection: psycopg.Connection[Any]) -> None:
        """Have PostgreSQL write, unless it did within ``ROOM_SECONDS``. Raises psycopg's errors."""
        if self._checked_at is None or monotonic() - self._checked_at >= ROOM_SECONDS:
            check_disk_space(connection)
            self._checked_at = monotonic()


def _database_state(pool: ConnectionPool[Any], committer: Committer, room: DiskSpaceCheck, wanted: str) -> str:
    try:
        with pool.connection(timeout=POOL_SECONDS) as connection:
            row = connection.execute("SELECT version_num FROM receiver.alembic_version").fetchone()
            room.check(connection)
    except psycopg.errors.UndefinedTable:
        return "not migrated: run receiver db upgrade"
    except psycopg.errors.DiskFull as error:
        return f"does not store: {type(error).__name__}"
    except (psycopg.Error, PoolTimeout):
        return "unreachable"
    found = row[0] if row else None
    # an older release goes on serving while a newer one has migrated already
    if found is None or found < wanted:
        return f"at {found}, not {wanted}: run receiver db upgrade"
    reason = committer.storage_error(READY_SECONDS)
    return OK if reason is None else f"does not store: {reason}"

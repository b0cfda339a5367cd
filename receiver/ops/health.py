"""Health: ``/healthz`` (the process is up) and ``/readyz`` (it can take deliveries)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import psycopg
from flask import Blueprint, Response, jsonify
from psycopg_pool import PoolTimeout
from redis import RedisError

from receiver.migrate import head_revision
from receiver.queue import SHORT_TIMEOUT, connect

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool


def health(pool: ConnectionPool[Any], *, redis_url: str) -> Blueprint:
    """Return the blueprint. Redis is reported and never fatal: deliveries are taken without it."""
    blueprint = Blueprint("health", __name__)
    redis = connect(redis_url, timeout=SHORT_TIMEOUT)
    wanted = cache(head_revision)

    @blueprint.get("/healthz")
    def healthz() -> Response:
        return jsonify(status="ok")

    @blueprint.get("/readyz")
    def readyz() -> tuple[Response, int]:
        database = _database_state(pool, wanted())
        try:
            redis.ping()
            redis_state = "ok"
        except RedisError:
            redis_state = "unreachable"
        ready = database == "ok"
        status = "ok" if ready else "unavailable"
        return jsonify(status=status, database=database, redis=redis_state), 200 if ready else 503

    return blueprint


def _database_state(pool: ConnectionPool[Any], wanted: str) -> str:
    try:
        with pool.connection(timeout=SHORT_TIMEOUT * 4) as connection:
            row = connection.execute("SELECT version_num FROM receiver.alembic_version").fetchone()
    except psycopg.errors.UndefinedTable:
        return "not migrated: run receiver db upgrade"
    except (psycopg.Error, PoolTimeout):
        return "unreachable"
    found = row[0] if row else None
    # an older release goes on serving while a newer one has migrated already
    return "ok" if found is not None and found >= wanted else f"at {found}, not {wanted}: run receiver db upgrade"

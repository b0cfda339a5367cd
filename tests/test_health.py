from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, text

from receiver.db import engine_for
from receiver.migrate import head_revision, upgrade
from tests.deliveries.applications import receiver_with, unreachable_database, unreachable_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask.testing import FlaskClient

    from receiver.settings import Settings


@pytest.fixture
def empty_database(new_database: Callable[[], str]) -> str:
    return new_database().replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture
def empty_engine(empty_database: str) -> Iterator[Engine]:
    engine = engine_for(empty_database, application="tests")
    yield engine
    engine.dispose()


def readiness(client: FlaskClient) -> tuple[int, dict[str, str]]:
    response = client.get("/readyz")
    assert isinstance(response.json, dict)
    return response.status_code, response.json


def test_a_process_that_serves_is_healthy_and_ready(client: FlaskClient) -> None:
    health = client.get("/healthz")
    assert (health.status_code, health.json) == (200, {"status": "ok"})
    assert readiness(client) == (200, {"status": "ok", "database": "ok", "redis": "ok"})


def test_redis_is_reported_and_never_fatal(settings: Settings, client: FlaskClient) -> None:
    assert readiness(client)[0] == 200
    with receiver_with(settings, redis_url=unreachable_redis()) as app:
        answer = readiness(app.test_client())
    assert answer == (200, {"status": "ok", "database": "ok", "redis": "unreachable"})


def test_without_its_database_a_process_is_up_and_not_ready(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.ops.health.SHORT_TIMEOUT", 0.05)
    with receiver_with(settings, database_url=unreachable_database()) as app:
        client = app.test_client()
        status, said = readiness(client)
        assert client.get("/healthz").status_code == 200
    assert (status, said["status"], said["database"]) == (503, "unavailable", "unreachable")
    assert "database-password" not in str(said)


def test_until_it_is_migrated_a_process_is_not_ready_and_says_what_to_run(
    settings: Settings, empty_database: str, empty_engine: Engine
) -> None:
    with receiver_with(settings, database_url=empty_database) as app:
        client = app.test_client()
        status, said = readiness(client)
        assert (status, said["status"]) == (503, "unavailable")
        assert "receiver db upgrade" in said["database"]

        with empty_engine.connect() as connection:
            upgrade(connection)
        assert readiness(client)[0] == 200

        with empty_engine.begin() as connection:
            connection.execute(text("UPDATE receiver.alembic_version SET version_num = '0000'"))
        status, said = readiness(client)
        assert (status, said["status"]) == (503, "unavailable")
        assert said["database"] == f"at 0000, not {head_revision()}: run receiver db upgrade"

        with empty_engine.begin() as connection:
            connection.execute(text("UPDATE receiver.alembic_version SET version_num = '9999'"))
        assert readiness(client)[0] == 200, "an older release goes on serving while a newer one has migrated"

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine, text

from receiver.db import engine_for
from receiver.migrate import head_revision, upgrade
from tests.support.applications import receiver_with, unreachable_database, unreachable_redis
from tests.support.factories import card_holder
from tests.support.silence import way_to
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Flask
    from flask.testing import FlaskClient

    from receiver.settings import Settings
    from tests.conftest import Acme


@pytest.fixture
def empty_database(new_database: Callable[[], str]) -> str:
    return new_database().replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture
def empty_engine(empty_database: str) -> Iterator[Engine]:
    engine = engine_for(empty_database, application="tests")
    yield engine
    engine.dispose()


READY = {"status": "ok", "database": "ok", "redis": "ok"}


def not_ready(database: str) -> tuple[int, dict[str, str]]:
    return 503, {**READY, "status": "unavailable", "database": database}


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


def test_without_its_database_a_process_is_up_and_not_ready(settings: Settings) -> None:
    with receiver_with(settings, database_url=unreachable_database()) as app:
        client = app.test_client()
        status, said = readiness(client)
        assert client.get("/healthz").status_code == 200
    assert (status, said["status"], said["database"]) == (503, "unavailable", "unreachable")
    assert "database-password" not in str(said)


def test_process_is_not_ready_before_the_migration(
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


def test_a_process_whose_table_is_locked_is_not_ready(acme: Acme) -> None:
    with acme.engine.begin() as connection:
        connection.execute(text("LOCK receiver.stored_deliveries IN SHARE MODE"))
        status, said = readiness(acme.client)  # the answer's limit and the statement's end at about the same time
        assert (status, said["database"].removeprefix("does not store: ")) == (503, "no answer")
        assert can_store(acme.client) == 0
    assert eventually(lambda: readiness(acme.client) == (200, READY), within=30)
    assert can_store(acme.client) == 1


@contextmanager
def refusing(acme: Acme, code: str, *, each_row: bool) -> Iterator[None]:
    """Have PostgreSQL refuse inserts as it would if it were a standby, or full."""
    acme.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$"
    )
    each = "FOR EACH ROW" if each_row else ""
    acme.execute(f"CREATE TRIGGER refuse BEFORE INSERT ON receiver.stored_deliveries {each} EXECUTE FUNCTION refuse()")
    try:
        yield
    finally:
        acme.execute("DROP FUNCTION refuse CASCADE")


def test_a_process_that_may_not_write_is_not_ready(acme: Acme) -> None:
    with refusing(acme, "read_only_sql_transaction", each_row=False):
        assert readiness(acme.client) == not_ready("does not store: ReadOnlySqlTransaction")
    assert readiness(acme.client) == (200, READY)


def test_a_process_that_just_failed_to_store_is_not_ready(acme: Acme, settings: Settings) -> None:
    with receiver_with(settings) as app:
        acme.client = app.test_client()
        with refusing(acme, "disk_full", each_row=True):
            assert readiness(acme.client) == (200, READY)
            assert acme.deliver("card_holder.created", card_holder()).status_code == 503
            assert readiness(acme.client) == not_ready("does not store: DiskFull")
        acme.deliver_ok("card_holder.created", card_holder())
        assert readiness(acme.client) == (200, READY)


def test_a_silent_database_is_named_until_it_speaks(app: Flask, settings: Settings) -> None:
    del app  # asked for so that the database is migrated
    with way_to(settings.database_url) as way, receiver_with(settings, database_url=way.url) as behind:
        client = behind.test_client()
        assert readiness(client) == (200, READY)
        way.fall_silent()
        assert readiness(client) == not_ready("no answer")
        assert client.get("/healthz").status_code == 200
        way.speak()
        assert eventually(lambda: readiness(client) == (200, READY), within=60)


def can_store(client: FlaskClient) -> float:
    shown = client.get("/metrics").text
    return float(re.findall(r"^receiver_can_store (\S+)$", shown, flags=re.MULTILINE)[0])

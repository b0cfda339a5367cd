"""A real PostgreSQL and a real Valkey for every run, a database of its own for each, and tables emptied for each test.

``DATABASE_URL`` and ``REDIS_URL`` name other servers than the embedded ones.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import uuid
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import hypothesis
import psycopg
import pytest
from cryptography.fernet import Fernet
from psycopg import sql
from sqlalchemy import Engine, make_url, text

from receiver.app import create_app
from receiver.db import engine_for
from receiver.encryption import Encryption
from receiver.migrate import target_metadata, upgrade
from receiver.processing.drain import drain
from receiver.queue import connect
from receiver.sandbox.embedded import LOOPBACK, EmbeddedPostgres, EmbeddedValkey
from receiver.sandbox.local import adopt_webhook
from receiver.settings import Settings, load_settings
from tests.support.alert_channel import channel  # noqa: F401 - a fixture
from tests.support.collector import collector, recorded  # noqa: F401 - fixtures
from tests.support.factories import body
from tests.support.filled_tables import filled  # noqa: F401 - a fixture
from tests.support.pools import ACCESS, SECONDS, PoolProcess, running
from tests.support.serving import served
from tests.support.waiting import eventually
from tests.support.world import World, world_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Flask
    from flask.testing import FlaskClient
    from redis import Redis
    from werkzeug.test import TestResponse

    from receiver.sandbox.registration import Registration
    from receiver.webhooks.credentials import Credentials

# machines are shared: how long an example takes proves nothing
hypothesis.settings.register_profile(
    "shared machine",
    parent=hypothesis.settings.get_profile("ci" if os.environ.get("CI") else "default"),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("shared machine")

FILLED = text(
    " UNION ALL ".join(
        f"SELECT '{table.fullname}' WHERE EXISTS (SELECT FROM {table.fullname})"  # noqa: S608 - names of the models
        for table in target_metadata().sorted_tables
    )
)
"""The tables that have rows."""
PUBLIC_URL = "http://127.0.0.1:1"
DATA_FOLDER = Path(__file__).parent.parent.resolve() / ".data" / "tests"


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The PostgreSQL server of this run; the embedded one is shared by all processes of all runs."""
    given = os.environ.get("DATABASE_URL")
    if given:
        yield given
        return
    server = EmbeddedPostgres(DATA_FOLDER / "postgres")
    yield server.url()
    server.stop()


@pytest.fixture(scope="session")
def new_database(server_url: str) -> Iterator[Callable[[], str]]:
    """Makes empty databases, and drops them at the end."""
    made = []

    def make() -> str:
        name = f"test_{uuid.uuid4().hex}"
        with closing(psycopg.connect(_libpq(server_url), autocommit=True)) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        made.append(name)
        return make_url(server_url).set(database=name).render_as_string(hide_password=False)

    yield make
    with closing(psycopg.connect(_libpq(server_url), autocommit=True)) as connection:
        for name in made:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _libpq(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[str]:
    """A Valkey of this process; of a given server, a database number of its own."""
    given = os.environ.get("REDIS_URL")
    if given:
        number = 8 + int(worker_id.removeprefix("gw") or 0) if worker_id != "master" else 8
        parts = urlsplit(given)  # the query names the database for every scheme, also where the path does
        yield parts._replace(query=urlencode({**dict(parse_qsl(parts.query)), "db": number})).geturl()
        return
    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey"))
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def environment(
    new_database: Callable[[], str], redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The environment of a receiver under test."""
    return {
        "DATABASE_URL": new_database(),
        "REDIS_URL": redis_url,
        "PUBLIC_URL": PUBLIC_URL,
        "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "FILES_URL": str(tmp_path_factory.mktemp("files")),
    }


@pytest.fixture(scope="session")
def settings(environment: dict[str, str]) -> Settings:
    return load_settings(environment)


@pytest.fixture(scope="session")
def migrated_engine(settings: Settings) -> Iterator[Engine]:
    engine = engine_for(settings.database_url, application="tests")
    with engine.connect() as connection:
        upgrade(connection)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(migrated_engine: Engine) -> Iterator[Engine]:
    """The migrated database, its tables empty again after the test."""
    yield migrated_engine
    with migrated_engine.begin() as connection:
        filled = ", ".join(connection.scalars(FILLED))
        if filled:
            connection.execute(text(f"TRUNCATE {filled} CASCADE"))
        connection.execute(text("ALTER SEQUENCE ems.events_position_seq RESTART"))  # in epoch 0 again


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """Valkey, empty again after the test."""
    client = connect(redis_url)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


@pytest.fixture(scope="session", autouse=True)
def _counts_are_stored_when_asked() -> Iterator[None]:
    """No application of this process takes, once a second, what another ``Flusher`` is about to store."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("receiver.counter_store.FLUSH_SECONDS", 86_400)
        yield


@pytest.fixture(scope="session")
def app(settings: Settings, migrated_engine: Engine) -> Iterator[Flask]:
    del migrated_engine  # asked for so that there is something to serve from
    app = create_app(settings)
    yield app
    app.extensions["receiver.close"]()


@pytest.fixture(scope="session")
def public_url(app: Flask) -> Iterator[str]:
    """Where the web process of this run listens, for what has to reach it over real HTTP."""
    with served(app) as url:
        yield url


@pytest.fixture
def client(app: Flask, engine: Engine, redis: Redis) -> FlaskClient:
    del engine, redis  # asked for so that both are empty
    return app.test_client()


@dataclass
class Acme:
    """An organization with a managed webhook, and what a test does with it."""

    client: FlaskClient
    engine: Engine
    registration: Registration
    encryption: Encryption

    def deliver(
        self, event: str, payload: object, *, headers: dict[str, str | None] | None = None, **changes: Any
    ) -> TestResponse:
        """POST *payload* as OpenCard would; *headers* replace headers, or with ``None`` take them away."""
        content = body(payload)
        sent: dict[str, str | None] = {**self.registration.headers(event, content), **(headers or {})}
        return self.client.post(
            self.path,
            data=content,
            headers={name: value for name, value in sent.items() if value is not None},
            **changes,
        )

    def deliver_ok(self, event: str, payload: object) -> None:
        """Deliver, and insist on the 200."""
        response = self.deliver(event, payload)
        assert (response.status_code, response.get_json()) == (200, {})

    def process(self) -> None:
        """Process everything that waits."""
        assert drain(self.engine, encryption=self.encryption)

    def apply(self, event: str, payload: object) -> None:
        """Deliver and process."""
        self.deliver_ok(event, payload)
        self.process()

    @property
    def path(self) -> str:
        return self.registration.url.removeprefix(PUBLIC_URL)

    def rows(self, query: str, **parameters: object) -> list[dict[str, Any]]:
        """Return the rows of an SQL query."""
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(query), parameters).mappings()]

    def row(self, query: str, **parameters: object) -> dict[str, Any]:
        """Return the one row of an SQL query."""
        (row,) = self.rows(query, **parameters)
        return row

    def value(self, query: str, **parameters: object) -> Any:
        """Return the one value of an SQL query."""
        (value,) = self.row(query, **parameters).values()
        return value

    def execute(self, statement: str, **parameters: object) -> None:
        """Run an SQL statement and commit."""
        with self.engine.begin() as connection:
            connection.execute(text(statement), parameters)

    def statuses(self) -> list[str]:
        """Return the status of each delivery, in order of arrival."""
        return [row["status"] for row in self.rows("SELECT status FROM receiver.deliveries ORDER BY id")]


@dataclass
class Organizations:
    """Adopts webhooks."""

    client: FlaskClient
    engine: Engine
    settings: Settings
    number: int = field(default=0)

    def adopt(self, organization: str, credentials: Credentials | None = None) -> Acme:
        self.number += 1
        with self.engine.begin() as connection:
            registration = adopt_webhook(
                connection, self.settings, organization, number=self.number, credentials=credentials
            )
        return Acme(self.client, self.engine, registration, Encryption(self.settings.encryption_keys))


@pytest.fixture
def organizations(client: FlaskClient, engine: Engine, settings: Settings) -> Organizations:
    return Organizations(client, engine, settings)


@pytest.fixture
def acme(organizations: Organizations) -> Acme:
    """The organization ``acme`` of the samples; its webhook has no credentials, so deliveries are signed."""
    return organizations.adopt("acme")


@pytest.fixture
def world(
    engine: Engine, redis: Redis, settings: Settings, public_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    """An account with the organization ``acme``, nothing registered yet; lists have pages of two."""
    del redis  # asked for so that it is empty
    monkeypatch.setattr("receiver.opencard.client.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("receiver.opencard.client.MAX_PAUSE", 0.02)
    with world_of(engine, settings, public_url) as world:
        world.add_organizations("acme")
        yield world


@pytest.fixture
def sigint() -> Iterator[None]:
    """SIGINT interrupts what is started, as in a terminal: background jobs ignore it, and processes inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def unchanged_logging() -> Iterator[None]:
    """The root logger is as before the test."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address that refuses every connection: its port is taken, so that no server of another test gets it."""
    with closing(socket.socket()) as taken:
        taken.bind((LOOPBACK, 0))
        yield f"http://{LOOPBACK}:{taken.getsockname()[1]}"


@pytest.fixture
def pool(redis: Redis, environment: dict[str, str]) -> Iterator[PoolProcess]:
    """A worker with one process for deliveries, where webhooks are reconciled and files downloaded."""
    with running(redis, {**environment, **ACCESS}) as pool:
        assert eventually(lambda: pool.is_up(reconcile=True), within=SECONDS)
        yield pool

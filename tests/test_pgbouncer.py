"""Web processes may reach PostgreSQL through a pgbouncer in transaction mode: many of them over few connections."""

from __future__ import annotations

import dataclasses
import getpass
import os
import shutil
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Engine, make_url, text

from receiver.connections import WEB
from receiver.database_url import is_pooled, libpq_url
from receiver.db import engine_for, small_engine_for
from receiver.errors import ConfigurationError
from receiver.migrate import upgrade
from receiver.sandbox.embedded import free_port
from receiver.sandbox.local import adopt_webhook
from receiver.sandbox.processes import ProcfileProcesses, local_environment, wait_until_ready
from receiver.settings import load_settings
from tests.conftest import Organizations
from tests.support.applications import receiver_with
from tests.support.factories import body, snapshot
from tests.support.roles import set_for_sessions
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from receiver.sandbox.registration import Registration
    from receiver.settings import Settings

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
SERVER_CONNECTIONS = 2
CLIENTS = 8
EACH = 25
EVENT = "card.transaction.authorized"
STRANGE = {
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Europe/Stockholm",
    "client_encoding": "LATIN1",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
}
OURS = {
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "transaction_isolation": "read committed",
    "transaction_read_only": "off",
}


@pytest.fixture
def pooled_url(settings: Settings, tmp_path: Path) -> Iterator[str]:
    """The database of this run through a pgbouncer with fewer connections than the web processes would have."""
    with pgbouncer(settings.database_url, tmp_path) as url:
        yield url


@contextmanager
def pgbouncer(database_url: str, folder: Path) -> Iterator[str]:
    """Run a pgbouncer before a database, and yield the URL of that database through it."""
    if PGBOUNCER is None:
        pytest.skip("pgbouncer is not installed: Debian has it in the package pgbouncer")
    server = conninfo_to_dict(libpq_url(database_url))
    port = free_port()
    user = server.get("user") or getpass.getuser()
    database = " ".join(
        f"{name}={server[name]}" for name in ("host", "port", "dbname", "user", "password") if server.get(name)
    )
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        f"""
[databases]
receiver = {database}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {SERVER_CONNECTIONS}
max_client_conn = 100
"""
    )
    log = folder / "pgbouncer.log"
    with (
        log.open("wb") as written,
        subprocess.Popen([PGBOUNCER, *not_as_root(server), str(configuration)], stderr=written) as process,
    ):
        try:
            url = f"postgresql://{user}@127.0.0.1:{port}/receiver"
            assert eventually(lambda: process.poll() is not None or accepts(url)), log.read_text()
            assert process.poll() is None, log.read_text()
            yield f"{url}?pgbouncer=true"
        finally:
            process.terminate()


def accepts(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.Error:
        return False
    return True


def not_as_root(server: dict[str, Any]) -> list[str]:
    """Return the options that let pgbouncer run as who may open PostgreSQL's socket: as root it does not run."""
    if os.geteuid() != 0:
        return []
    folder = Path(str(server.get("host", "")))
    return ["-u", folder.owner() if folder.is_absolute() else "nobody"]


def test_option_for_the_pooler_is_not_passed_to_the_driver() -> None:
    url = "postgresql+psycopg://u@h/d?pgbouncer=true&sslmode=require"
    assert is_pooled(url)
    assert not is_pooled("postgresql+psycopg://u@h/d")
    assert libpq_url(url) == "postgresql://u@h/d?sslmode=require"


def test_another_value_of_the_option_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL is wrong: pgbouncer= is not =true"):
        load_settings({"DATABASE_URL": "postgresql://u@h/d?pgbouncer=1"}, required=())


def test_pooled_connection_is_refused_where_a_session_is_needed() -> None:
    with pytest.raises(ConfigurationError, match="only web can do with it"):
        engine_for("postgresql+psycopg://u@h/d?pgbouncer=true", application="worker")


def test_unusual_database_settings_change_nothing(
    new_database: Callable[[], str], settings: Settings, tmp_path: Path
) -> None:
    url = new_database()
    given = dataclasses.replace(settings, database_url=url)
    engine = engine_for(url, application="tests")
    with engine.connect() as connection:
        upgrade(connection)
    set_for_sessions(url, STRANGE)
    with pgbouncer(url, tmp_path) as pooled:
        with receiver_with(dataclasses.replace(given, database_url=pooled)) as app:
            acme = Organizations(app.test_client(), engine, given).adopt("acme")
            assert acme.client.get("/readyz").status_code == 200
            acme.deliver_ok(EVENT, snapshot("authorized"))
            assert acme.client.get("/metrics").status_code == 200
            assert app.extensions["receiver.flusher"].flush()
        console = small_engine_for(pooled, application="tests", connections=1, timeouts=WEB)
        with console.begin() as connection:
            shown = {name: connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in OURS}
        console.dispose()
    engine.dispose()
    assert shown == OURS


@pytest.mark.long
def test_pooled_deliveries_of_processes_are_not_mixed_up(
    pooled_url: str, environment: dict[str, str], settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    with engine.begin() as connection:
        registrations = [
            adopt_webhook(connection, settings, organization, number=number)
            for number, organization in enumerate(("acme", "globex"), 1)
        ]
    port = free_port()
    given = local_environment(
        database_url=pooled_url,
        redis_url=environment["REDIS_URL"],
        port=port,
        encryption_key=environment["ENCRYPTION_KEYS"],
    )
    with ProcfileProcesses({**given, "WEB_CONCURRENCY": "4"}, tmp_path / "logs") as processes:
        processes.start("web")
        wait_until_ready(given["PUBLIC_URL"], processes)
        answers = send_from_many(registrations, port)
        processes.stop("web")
        log = processes.log_of("web").read_text()
    assert answers == [200] * CLIENTS * EACH
    assert '"level": "error"' not in log, log[-2000:]
    assert stored(engine) == sorted(sent(registrations))


def send_from_many(registrations: list[Registration], port: int) -> list[int]:
    answers: list[int] = []

    def send(client: int) -> None:
        registration = registrations[client % len(registrations)]
        path = make_url(registration.url).database or ""
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            for number in range(EACH):
                content = payload(registration, client, number)
                answers.append(
                    http.post(path, content=content, headers=registration.headers(EVENT, content)).status_code
                )

    threads = [threading.Thread(target=send, args=(client,)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def payload(registration: Registration, client: int, number: int) -> bytes:
    whose = {"reference_id": registration.organization_reference_id}
    return body(snapshot("authorized", transaction=f"{client}-{number}", organization=whose))


def sent(registrations: list[Registration]) -> list[tuple[str, bytes]]:
    return [
        (registration.organization_reference_id, payload(registration, client, number))
        for client in range(CLIENTS)
        for number in range(EACH)
        for registration in [registrations[client % len(registrations)]]
    ]


def stored(engine: Engine) -> list[tuple[str, bytes]]:
    with engine.connect() as connection:
        rows: list[Any] = list(
            connection.execute(
                text(
                    "SELECT webhook.organization_reference_id, delivery.body FROM receiver.deliveries AS delivery"
                    " JOIN receiver.webhooks AS webhook ON webhook.id = delivery.webhook_id"
                )
            )
        )
    return sorted((organization, bytes(content)) for organization, content in rows)

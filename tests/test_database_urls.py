"""``DATABASE_URL`` means in every process what it means to PostgreSQL's client library, or is refused at the start."""

from __future__ import annotations

import uuid
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from receiver.cli import main
from receiver.connections import LONG, WEB
from receiver.counter_store import connecting
from receiver.db import engine_for, small_engine_for
from receiver.deliveries.store import connect, connection_pool
from receiver.errors import ConfigurationError
from receiver.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from receiver.settings import Settings

WHICH = "SELECT current_database()"
TAKEN = {
    "a name with a space": "postgresql://{user}@{host}:{port}/{name}",
    "parts as options": "postgresql:///?host={host}&port={port}&user={user}&dbname={name}",
    "several hosts, the first away": "postgresql://{user}@%2Fnowhere:1,{host}:{port}/{name}",
    "several hosts as options": "postgresql://{user}@/{name}?host=/nowhere,{host}&port=1,{port}",
    "a host that may be written to": "postgresql://{user}@{host}:{port}/{name}?target_session_attrs=read-write",
    "options of the server": "postgresql://{user}@{host}:{port}/{name}?options=-c%20geqo%3Doff",
    "the usual scheme of platforms": "postgres://{user}@{host}:{port}/{name}",
    "a service": "postgresql:///?service=receiver",
    "a service and more": "postgresql:///?service=receiver&connect_timeout=3",
}
REFUSED = {
    "postgresql:///name?host=h1:5432&host=h2:5433": "a host has its port in it",
    "postgresql:///?service=undefined": "the service that it names is not defined",
    "postgresql://user:the-secret@h1,h2/name?port=1,2,3": "the value of a port or of an option",
    "postgresql://user:the-secret@host:http/name": "the value of a port or of an option",
    "postgresql://user:pass/the-secret@host/name": "the value of a port or of an option",
    "postgresql://user@host/name?sslmode=the-secret": "the value of a port or of an option",
    "postgresql://user@host/name?target_session_attrs=first": "the value of a port or of an option",
    "postgresql://user@host/name?connect_timeout=soon": "is not a whole number",
    "postgresql://user@host/name?keepalives_idle=5s": "is not a whole number",
    "postgresql://user:the-secret%@host/name": "PostgreSQL's client library does not take it",
    "postgresql://user@host/name?sslmodus=require": "PostgreSQL's client library does not take it",
    "postgresql://user@host/name?pgbouncer=yes": "pgbouncer= is not =true",
    "host=localhost dbname=the-secret": "not a database URL",
    "mysql://user:the-secret@host/name": "mysql:// is not PostgreSQL",
}


@dataclass
class Database:
    """A database whose name needs encoding in a URL."""

    name: str
    parts: dict[str, Any]

    def url(self, template: str) -> str:
        values = {"user": "postgres", "host": "/tmp", "port": "5432", **self.parts, "name": self.name}  # noqa: S108
        return template.format(**{name: quote(str(value), safe="") for name, value in values.items()})


@pytest.fixture
def database(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    parts: dict[str, Any] = conninfo_to_dict(settings.database_url)
    name = f"test {uuid.uuid4().hex}"
    monkeypatch.setenv("PGPASSWORD", str(parts.pop("password", None) or ""))
    services = tmp_path / "services"
    values = {**parts, "dbname": name}
    services.write_text("[receiver]\n" + "".join(f"{key}={value}\n" for key, value in values.items()))
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    with closing(psycopg.connect(make_conninfo(**parts), autocommit=True)) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield Database(name, parts)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.mark.parametrize("template", TAKEN.values(), ids=TAKEN.keys())
def test_every_url_of_libpq_leads_to_the_same_database(template: str, database: Database) -> None:
    url = load_settings({"DATABASE_URL": database.url(template)}, required={"DATABASE_URL"}).database_url
    assert [*reached(url)] == [database.name] * 5
    shown = CliRunner(env={"DATABASE_URL": database.url(template)}).invoke(main, ["db", "current"])
    assert "Traceback" not in shown.output
    assert shown.exit_code in {0, 1}, shown.output  # it was never migrated


def reached(url: str) -> Iterator[object]:
    """Yield the database that each way of connecting leads to."""
    for engine in (
        engine_for(url, application="tests", timeouts=LONG),
        small_engine_for(url, application="tests", connections=1, timeouts=WEB),
    ):
        with engine.connect() as connection:
            yield connection.exec_driver_sql(WHICH).scalar_one()
        engine.dispose()
    with connection_pool(url, size=1) as pool, pool.connection() as read:
        yield from read.execute(WHICH).fetchone() or ()
    with closing(connect(url)) as stored:
        yield from stored.execute(WHICH).fetchone() or ()
    with connecting(url)() as counted:
        yield from counted.execute(WHICH).fetchone() or ()


@pytest.mark.parametrize(("url", "reason"), REFUSED.items(), ids=REFUSED.keys())
def test_refused_url_is_one_line_without_secrets(url: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_settings({"DATABASE_URL": url}, required={"DATABASE_URL"})
    (problem,) = raised.value.problems
    assert problem.startswith("DATABASE_URL is wrong: ")
    assert reason in problem
    assert "\n" not in problem
    assert "the-secret" not in problem

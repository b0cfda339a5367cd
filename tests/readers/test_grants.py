"""A reader reads all of schema ``ems`` and nothing else, now and after the next release."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import URL, make_url, text

from receiver.db import one_connection
from receiver.sandbox.embedded import postgres_program
from tests.support.factories import snapshot
from tests.support.later_release import upgrade_to_later
from tests.support.program import db
from tests.support.roles import PASSWORD, connected_as, libpq, new_role, privileges, read, relations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Acme


@pytest.fixture
def url(acme: Acme) -> URL:
    return acme.engine.url


@pytest.fixture
def role(url: URL) -> Iterator[str]:
    with new_role(url) as role:
        yield role


@pytest.fixture
def reader(url: URL, role: str) -> str:
    granted = db(url, "grant-reader", role)
    assert (granted.exit_code, granted.stderr) == (0, "")
    return role


def test_a_reader_reads_every_table_and_view(acme: Acme, url: URL, reader: str) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    with connected_as(url, reader) as connection:
        for relation in relations(url):
            connection.execute(f"TABLE {relation}".encode())
        assert connection.execute("SELECT transaction_id FROM ems.ledger").fetchall() == [("transaction-1",)]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO ems.events (type) VALUES ('card_holder.created')",
        "UPDATE ems.transactions SET accounting_amount = 0",
        "DELETE FROM ems.receipts",
        "TRUNCATE ems.line_items",
        "SELECT * FROM ems.transactions FOR UPDATE",
        "CREATE TABLE ems.mine (id integer)",
        "CREATE VIEW ems.mine AS SELECT 1",
        "CREATE FUNCTION ems.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA mine",
        "COMMENT ON TABLE ems.transactions IS 'mine'",
        "DROP VIEW ems.ledger",
        "ALTER TABLE ems.transactions DISABLE TRIGGER ALL",
        "SELECT nextval('ems.events_position_seq')",
        "SELECT receiver.note_deleted_events()",
        "TABLE receiver.deliveries",
        "TABLE receiver.webhooks",
        "TABLE receiver.audit",
        "TABLE receiver.alembic_version",
        "TABLE receiver.delivery_gaps_by_hour",
        "CREATE TABLE receiver.mine (id integer)",
        "SELECT 'receiver.deliveries'::regclass",
    ],
)
def test_a_reader_can_do_nothing_else(url: URL, reader: str, statement: str) -> None:
    with connected_as(url, reader) as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute(statement.encode())


def test_a_reader_can_wait_for_the_feed(acme: Acme, url: URL, reader: str) -> None:
    with connected_as(url, reader) as connection:
        connection.execute("LISTEN ems_events")
        acme.apply("card.transaction.cleared", snapshot("cleared"))
        (notice,) = connection.notifies(timeout=10, stop_after=1)
        (position,) = connection.execute("SELECT max(position) FROM ems.events").fetchone() or (None,)
    assert int(notice.payload) == position


@pytest.mark.parametrize("kind", ["TABLE ems.later AS SELECT 1 AS one", "VIEW ems.later AS SELECT id FROM ems.tpas"])
def test_a_reader_reads_what_a_later_release_adds(acme: Acme, url: URL, reader: str, kind: str) -> None:
    acme.execute(f"CREATE {kind}")
    try:
        read(url, reader, "TABLE ems.later")
        with connected_as(url, reader) as connection, pytest.raises(errors.InsufficientPrivilege):
            connection.execute("DELETE FROM ems.later")
    finally:
        acme.execute(f"DROP {kind.split(maxsplit=1)[0]} ems.later")


def test_reader_of_an_older_release_reads_new_tables(new_database: Callable[[], str], tmp_path: Path) -> None:
    url = make_url(new_database())
    assert db(url, "upgrade").exit_code == 0
    with new_role(url) as role:
        assert db(url, "grant-reader", role).exit_code == 0
        with one_connection(url.render_as_string(hide_password=False), application="tests") as connection:
            upgrade_to_later(connection, tmp_path)
        assert {"ems.later", "ems.later_still"} <= set(relations(url))
        for relation in relations(url):
            read(url, role, f"TABLE {relation}")


def test_granting_twice_and_revoking_twice_does_no_harm(url: URL, reader: str) -> None:
    again = db(url, "grant-reader", reader, "--json")
    assert (again.exit_code, json.loads(again.stdout)) == (0, {"role": reader, "organizations": None})
    listed = db(url, "readers", "--json")
    assert {"role": reader, "organizations": None} in json.loads(listed.stdout)
    revoked = [json.loads(db(url, "revoke-reader", reader, "--json").stdout) for _ in range(2)]
    assert revoked == [{"role": reader, "revoked": True}, {"role": reader, "revoked": False}]


def test_revoking_leaves_nothing(acme: Acme, url: URL, reader: str) -> None:
    assert privileges(acme, reader)
    assert db(url, "revoke-reader", reader).exit_code == 0
    assert privileges(acme, reader) == []
    with connected_as(url, reader) as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute("TABLE ems.ledger")


def test_a_name_that_needs_quotes_is_quoted(url: URL) -> None:
    with new_role(url, name='odd "%s" {}; --') as role:
        assert db(url, "grant-reader", role).exit_code == 0
        read(url, role, "TABLE ems.ledger")
        assert db(url, "grant-reader", role, "--organization", "a'c\\me {} %s").exit_code == 0
        assert read(url, role, "TABLE ems.ledger") == []
        listed = json.loads(db(url, "readers", "--json").stdout)
        assert {"role": role, "organizations": ["a'c\\me {} %s"]} in listed


@pytest.mark.parametrize("asked", ["grant-reader", "revoke-reader"])
def test_missing_role_is_named_with_how_to_create_it(url: URL, asked: str) -> None:
    refused = db(url, asked, 'no"body')
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert 'CREATE ROLE "no""body" LOGIN PASSWORD' in refused.stderr


def test_a_database_that_is_not_migrated_is_named(new_database: Callable[[], str]) -> None:
    refused = db(make_url(new_database()), "grant-reader", "anybody")
    assert (refused.exit_code, "receiver db upgrade" in refused.stderr) == (1, True)


def owner(acme: Acme) -> str:
    return str(acme.value("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'ems'"))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("SUPERUSER", "is a superuser"),
        ("IN ROLE {owner}", "may act as {owner}"),
        ("IN ROLE pg_read_all_data", "may already read every table"),
        ("IN ROLE pg_write_all_data", "may already write every table"),
        ("IN ROLE pg_read_server_files", "may already act as pg_read_server_files"),
        ("IN ROLE pg_execute_server_program", "may already act as pg_execute_server_program"),
    ],
)
def test_role_that_can_write_is_refused_as_a_reader(acme: Acme, url: URL, options: str, reason: str) -> None:
    with new_role(url, options=options.format(owner=owner(acme))) as role:
        refused = db(url, "grant-reader", role)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert reason.format(owner=owner(acme)) in refused.stderr
        assert privileges(acme, role) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("REPLICATION", "has REPLICATION"),
        ("CREATEROLE", "has CREATEROLE"),
        ("IN ROLE pg_monitor", "sees the statements of others"),
        ("BYPASSRLS", "has BYPASSRLS"),
    ],
)
def test_role_that_sees_other_tenants_cannot_be_restricted(acme: Acme, url: URL, options: str, reason: str) -> None:
    with new_role(url, options=options) as role:
        refused = db(url, "grant-reader", role, "--organization", "acme")
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert reason in refused.stderr
        assert privileges(acme, role) == []
        assert db(url, "grant-reader", role).exit_code == 0, "who sees all anyway may have it"


def test_a_reader_can_dump_the_schema(acme: Acme, url: URL, reader: str) -> None:
    acme.apply("card.transaction.cleared", snapshot("cleared"))
    as_reader = url.set(username=reader, password=PASSWORD)
    dumped = subprocess.run(
        [postgres_program("pg_dump"), "-n", "ems", libpq(as_reader)], check=True, capture_output=True, text=True
    ).stdout
    assert "CREATE TABLE ems.transactions" in dumped
    assert "transaction-1" in dumped


@pytest.mark.parametrize(
    ("options", "arguments", "reason"),
    [
        ("", (), "ALTER ROLE"),
        ("REPLICATION", ("--organization", "acme"), "has REPLICATION"),
    ],
)
def test_refused_subscription_says_why(url: URL, options: str, arguments: tuple[str, ...], reason: str) -> None:
    with new_role(url, options=options) as role:
        refused = db(url, "grant-reader", role, "--replication", *arguments)
        assert (refused.exit_code, reason in refused.stderr) == (1, True)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("GRANT INSERT ON ems.tpas TO {role}", "write ems.tpas"),
        ("GRANT USAGE ON SCHEMA receiver TO {role}", "use schema receiver"),
        ("GRANT CREATE ON SCHEMA ems TO {role}", "create in schema ems"),
    ],
)
def test_existing_wider_privileges_are_named(acme: Acme, url: URL, role: str, more: str, reason: str) -> None:
    acme.execute(more.format(role=role))
    refused = db(url, "grant-reader", role)
    assert (refused.exit_code, reason in refused.stderr) == (1, True)


def test_the_owner_and_postgresqls_own_roles_are_no_readers(acme: Acme, url: URL) -> None:
    for name in (owner(acme), "pg_monitor"):
        assert db(url, "grant-reader", name).exit_code == 1
    with acme.engine.connect() as connection:
        assert connection.execute(text("TABLE ems.ledger")).all() == []


def test_only_the_schema_owner_can_grant_reading(url: URL, reader: str) -> None:
    refused = db(url.set(username=reader, password=PASSWORD), "grant-reader", reader)
    assert (refused.exit_code, "who migrates" in refused.stderr) == (1, True)


def test_table_in_use_is_reported_and_no_grant_is_partial(
    acme: Acme, url: URL, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.readers.row_security.LOCK_TIMEOUT", "50ms")
    with acme.engine.connect() as busy:
        busy.execute(text("LOCK TABLE ems.transactions IN ROW EXCLUSIVE MODE"))
        refused = db(url, "grant-reader", role, "--organization", "acme")
        assert (refused.exit_code, "run this again" in refused.stderr) == (1, True)
        busy.rollback()
    with connected_as(url, role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("TABLE ems.tpas")
    assert db(url, "grant-reader", role, "--organization", "acme").exit_code == 0

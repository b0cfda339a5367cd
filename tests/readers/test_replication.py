"""A real subscriber of PostgreSQL's logical replication gets the tables of schema ``ems``, and what changes in them."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url, text

from receiver.db import one_connection
from receiver.migrate import upgrade
from receiver.sandbox.embedded import EmbeddedPostgres, postgres_program
from tests.support.program import db
from tests.support.roles import libpq, new_role
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.long
INSERT = """
INSERT INTO ems.transactions (organization_reference_id, id, state, card_holder_reference_id, accounting_amount,
    booked_on, snapshot_at, delivery_id, updated_at)
VALUES ('acme', :id, 'cleared', 'employee-17', 12.50, '2026-02-13', now(), 1, now())
"""
EVENT = """
INSERT INTO ems.events (position, type, organization_reference_id, transaction_id, subject_id, occurred_at, source,
    delivery_id, payload)
VALUES (:position, 'card.transaction.cleared', 'acme', 't1', 't1', now(), 'push', 1, '{"a": 1.50}')
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server of its own, for ``wal_level`` needs a restart."""
    server = EmbeddedPostgres(tmp_path / "postgres")
    with closing(psycopg.connect(server.url(), autocommit=True)) as connection:
        connection.execute("ALTER SYSTEM SET wal_level = logical")
    server.kill()
    server.start()
    yield server
    server.stop()
    shutil.rmtree(tmp_path / "postgres", ignore_errors=True)


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with closing(psycopg.connect(libpq(make_url(url)), autocommit=True)) as connection:
        return connection.execute(query.encode()).fetchall()


def test_a_subscriber_has_what_the_tables_have(server: EmbeddedPostgres) -> None:
    published, subscribed = server.create_database("published"), server.create_database("subscribed")
    url = make_url(published)
    with one_connection(published, application="tests") as connection:
        upgrade(connection)
        connection.execute(text(INSERT), {"id": "before"})
        connection.commit()
    with new_role(url, options="REPLICATION") as role:
        granted = db(url, "grant-reader", role, "--replication")
        assert granted.exit_code == 0, granted.stderr
        structure = subprocess.run(
            [
                postgres_program("pg_dump"),
                "-n",
                "ems",
                "--schema-only",
                "--no-privileges",
                "--section=pre-data",
                libpq(url),
            ],
            check=True,
            capture_output=True,
        ).stdout
        psql = [postgres_program("psql"), "--quiet", "--no-psqlrc", libpq(make_url(subscribed))]
        subprocess.run(psql, input=structure, check=True, capture_output=True)
        with closing(psycopg.connect(libpq(make_url(subscribed)), autocommit=True)) as connection:
            connection.execute("CREATE TABLE ems.all_events PARTITION OF ems.events DEFAULT")
            for table in ("transactions", "events"):  # what replaces and deletes needs a key at the subscriber, too
                key = "position" if table == "events" else "organization_reference_id, id"
                connection.execute(f"ALTER TABLE ems.{table} ADD PRIMARY KEY ({key})".encode())
            with closing(psycopg.connect(libpq(url), autocommit=True)) as publisher:
                publisher.execute("SELECT pg_create_logical_replication_slot('subscriber', 'pgoutput')")
            connection.execute(
                sql.SQL(
                    "CREATE SUBSCRIPTION follower CONNECTION {} PUBLICATION ems"
                    " WITH (create_slot = false, slot_name = 'subscriber')"  # on one server, making it would hang
                ).format(sql.Literal(libpq(url.set(username=role))))
            )
        with one_connection(published, application="tests") as connection:
            connection.execute(text(INSERT), {"id": "after"})
            for position in (1, 2**24 + 1):
                connection.execute(text(EVENT), {"position": position})
            connection.execute(text("UPDATE ems.transactions SET accounting_amount = 99.90 WHERE id = 'before'"))
            connection.commit()
        amounts = "SELECT id, accounting_amount::text FROM ems.transactions ORDER BY id"
        expected = [("after", "12.50"), ("before", "99.90")]
        assert eventually(lambda: rows(subscribed, amounts) == expected, within=60)
        events = "SELECT position, payload ->> 'a' FROM ems.events ORDER BY position"
        assert eventually(lambda: rows(subscribed, events) == [(1, "1.50"), (2**24 + 1, "1.50")], within=60)
        with closing(psycopg.connect(libpq(make_url(subscribed)), autocommit=True)) as connection:
            connection.execute("ALTER SUBSCRIPTION follower DISABLE")
            connection.execute(
                "ALTER SUBSCRIPTION follower SET (slot_name = NONE)"
            )  # dropping it too may hang likewise
            connection.execute("DROP SUBSCRIPTION follower")


def test_every_published_table_has_a_key(server: EmbeddedPostgres) -> None:
    url = server.create_database("keys")
    with one_connection(url, application="tests") as connection:
        upgrade(connection)
    assert (
        rows(
            url,
            "SELECT relname FROM pg_class AS relation"
            " WHERE relnamespace = 'ems'::regnamespace AND relkind IN ('r', 'p')"
            " AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = relation.oid AND indisprimary)",
        )
        == []
    )

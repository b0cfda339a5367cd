from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import URL, Connection, Engine, make_url, text
from sqlalchemy.exc import ProgrammingError

from receiver.cli import main
from receiver.db import engine_for
from receiver.migrate import head_revision, upgrade
from receiver.records.views import VIEWS
from receiver.settings import load_settings
from tests.support.roles import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from receiver.records.views.view import View


@pytest.fixture
def empty_database(new_database: Callable[[], str]) -> str:
    return new_database()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """A connection to the migrated database; what it does is rolled back."""
    with engine.connect() as connection:
        yield connection
        connection.rollback()


def db(database_url: str, *arguments: str) -> Result:
    """Run ``receiver db`` with nothing but the database in the environment."""
    return CliRunner(env={"DATABASE_URL": database_url, "REDIS_URL": None, "ENCRYPTION_KEYS": None}).invoke(
        main, ["db", *arguments]
    )


def execute(database_url: str, statement: str) -> list[Any]:
    url = load_settings({"DATABASE_URL": database_url}, required={"DATABASE_URL"}).database_url
    engine = engine_for(url, application="tests")
    with engine.begin() as connection:
        result = connection.execute(text(statement))
        rows = list(result) if result.returns_rows else []
    engine.dispose()
    return rows


def test_an_empty_database_is_brought_to_this_release(empty_database: str) -> None:
    head = head_revision()
    before = db(empty_database, "current")
    assert (before.exit_code, before.stdout) == (0, f"current  not migrated\nhead     {head}\n")
    unready = db(empty_database, "check")
    assert (unready.exit_code, "receiver db upgrade" in unready.stdout) == (1, True)

    upgraded = db(empty_database, "upgrade")
    assert (upgraded.exit_code, upgraded.stdout) == (0, f"migrated from nothing to {head}\n")

    after = db(empty_database, "current", "--json")
    assert (after.exit_code, json.loads(after.stdout)) == (0, {"current": head, "head": head})
    checked = db(empty_database, "check", "--json")
    assert (checked.exit_code, json.loads(checked.stdout)) == (0, {"differences": []})
    assert db(empty_database, "check").exit_code == 0

    again = db(empty_database, "upgrade")
    assert (again.exit_code, again.stdout) == (0, f"already at {head}\n")


def test_older_release_works_with_what_a_newer_one_migrated(empty_database: str) -> None:
    assert db(empty_database, "upgrade").exit_code == 0
    execute(empty_database, "UPDATE receiver.alembic_version SET version_num = '9999' RETURNING 1")
    upgraded = db(empty_database, "upgrade")
    expected = f"at 9999, newer than this release's {head_revision()}: nothing to migrate\n"
    assert (upgraded.exit_code, upgraded.stdout) == (0, expected)
    checked = db(empty_database, "check")
    assert checked.exit_code == 1
    assert "a newer release migrated it" in checked.stdout


def test_check_lists_each_difference_from_the_models(empty_database: str) -> None:
    db(empty_database, "upgrade")
    execute(empty_database, "ALTER TABLE ems.transactions ADD COLUMN odd_one text")
    execute(empty_database, "DROP INDEX receiver.ix_queue_due")
    execute(empty_database, "ALTER TABLE receiver.queue ALTER COLUMN alone DROP NOT NULL")
    execute(empty_database, "ALTER TABLE receiver.webhooks ALTER COLUMN organization_id TYPE integer")
    execute(empty_database, "ALTER TABLE receiver.webhooks DROP CONSTRAINT uq_webhooks_opencard_webhook_id")
    execute(
        empty_database, "ALTER TABLE receiver.webhook_headers DROP CONSTRAINT fk_webhook_headers_webhook_id_webhooks"
    )
    execute(empty_database, "ALTER TABLE receiver.stored_deliveries ALTER COLUMN source SET DEFAULT 'pull'")
    execute(empty_database, "DROP TABLE receiver.oauth_tokens")
    execute(empty_database, "CREATE TABLE ems.odd (id bigint)")
    result = db(empty_database, "check")
    assert result.exit_code == 1
    assert set(result.stdout.splitlines()) == {
        "column ems.transactions.odd_one is not in the models",
        "index ix_queue_due of receiver.queue is not in the database",
        "nullable of column receiver.queue.alone is True in the database, False in the models",
        "type of column receiver.webhooks.organization_id is INTEGER in the database, BIGINT in the models",
        "default of column receiver.stored_deliveries.source is 'pull'::text in the database, push in the models",
        "constraint uq_webhooks_opencard_webhook_id of receiver.webhooks is not in the database",
        "foreign key fk_webhook_headers_webhook_id_webhooks of receiver.webhook_headers is not in the database",
        "table receiver.oauth_tokens is not in the database",
        "table ems.odd is not in the models",
    }
    assert json.loads(db(empty_database, "check", "--json").stdout)["differences"] == result.stdout.splitlines()


@pytest.mark.parametrize("path", ['"$user", public', "receiver, public", "ems, receiver", "public, ems", ""])
def test_the_check_agrees_whatever_is_in_the_search_path(empty_database: str, path: str) -> None:
    name = make_url(empty_database).database
    execute(empty_database, f"ALTER DATABASE {name} SET search_path = {path or repr('')}")
    assert db(empty_database, "upgrade").exit_code == 0
    checked = db(empty_database, "check")
    assert (checked.exit_code, checked.stdout) == (0, f"database, migrations and models agree at {head_revision()}\n")


def test_a_role_with_the_name_of_a_schema_may_own_the_database(empty_database: str) -> None:
    url = make_url(empty_database)
    with receiver_role(url) as password:
        execute(empty_database, f"ALTER DATABASE {url.database} OWNER TO receiver")
        owned = url.set(username="receiver", password=password).render_as_string(hide_password=False)
        assert db(owned, "upgrade").exit_code == 0
        checked = db(owned, "check")
        assert (checked.exit_code, checked.stdout.count("\n")) == (0, 1), checked.stdout
        execute(empty_database, f"REASSIGN OWNED BY receiver TO {execute(empty_database, 'SELECT current_user')[0][0]}")


@contextmanager
def receiver_role(url: URL) -> Iterator[str]:
    """Make the role that ``.env.example`` names, and yield its password; it ends with the block."""
    try:
        execute(url.render_as_string(hide_password=False), f"CREATE ROLE receiver LOGIN PASSWORD '{PASSWORD}'")
    except ProgrammingError:
        pytest.skip("there is a role of that name already, or none may be made")
    yield PASSWORD
    execute(url.render_as_string(hide_password=False), "DROP OWNED BY receiver; DROP ROLE receiver")


def test_two_upgrades_at_once_of_an_empty_database_both_succeed(empty_database: str) -> None:
    environment = {**os.environ, "DATABASE_URL": empty_database}
    upgrading = [
        subprocess.Popen(
            [sys.executable, "-c", "from receiver.cli import main; main()", "db", "upgrade"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate()[0] for process in upgrading]
    assert [process.returncode for process in upgrading] == [0, 0], said
    assert execute(empty_database, "SELECT version_num FROM receiver.alembic_version") == [(head_revision(),)]
    assert db(empty_database, "check").exit_code == 0


def test_migration_lock_is_released_to_the_next_waiting(empty_database: str) -> None:
    url = load_settings({"DATABASE_URL": empty_database}, required={"DATABASE_URL"}).database_url
    engine = engine_for(url, application="tests")
    with engine.connect() as connection:
        upgrade(connection)
        held = connection.execute(
            text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
        ).scalar_one()
    engine.dispose()
    assert held == 0


def test_everything_that_the_ems_reads_is_commented(connection: Connection) -> None:
    bare = connection.execute(
        text(
            "SELECT c.relname, a.attname FROM pg_class AS c LEFT JOIN pg_attribute AS a"
            " ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
            " WHERE c.relnamespace = 'ems'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p')"
            " AND (coalesce(trim(obj_description(c.oid, 'pg_class')), '') = ''"
            " OR coalesce(trim(col_description(c.oid, a.attnum)), '') = '')"
        )
    ).all()
    assert bare == []


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_view_in_the_database_is_the_one_in_the_code(connection: Connection, view: View) -> None:
    connection.execute(text(view.definition("copy_of_the_view")))
    migrated, defined = connection.execute(
        text("SELECT pg_get_viewdef(CAST(:view AS regclass)), pg_get_viewdef('ems.copy_of_the_view'::regclass)"),
        {"view": f"ems.{view.name}"},
    ).one()
    assert migrated == defined


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_a_views_comments_are_those_that_the_code_has(connection: Connection, view: View) -> None:
    comments = connection.execute(
        text(
            "SELECT attname, col_description(attrelid, attnum) FROM pg_attribute"
            " WHERE attrelid = CAST(:view AS regclass) AND attnum > 0 ORDER BY attnum"
        ),
        {"view": f"ems.{view.name}"},
    ).all()
    assert [tuple(row) for row in comments] == list(view.columns.items())
    whole = connection.execute(
        text("SELECT obj_description(CAST(:view AS regclass), 'pg_class')"), {"view": f"ems.{view.name}"}
    ).scalar_one()
    assert whole == view.comment


def test_the_code_defines_each_view_of_the_ems(connection: Connection) -> None:
    views = connection.scalars(text("SELECT viewname FROM pg_views WHERE schemaname = 'ems'"))
    assert set(views) == {view.name for view in VIEWS}


@pytest.mark.parametrize(
    ("table", "columns", "partial"),
    [
        ("receiver.queue", ["alone", "due_at", "delivery_id"], None),
        ("receiver.stored_deliveries", ["webhook_id", "received_at"], None),
        ("receiver.webhooks", ["endpoint_key"], None),
        ("ems.transactions", ["card_holder_reference_id", "organization_reference_id"], None),
        ("ems.transactions", ["state", "updated_at"], None),
        ("ems.transactions", ["cleared_card_issuer_reference"], "cleared_card_issuer_reference"),
    ],
    ids=["what waits", "by webhook and time", "by endpoint key", "by card holder", "by state", "by issuer's reference"],
)
def test_frequent_queries_use_an_index(
    connection: Connection, table: str, columns: list[str], partial: str | None
) -> None:
    indexes = connection.execute(
        text(
            "SELECT (SELECT array_agg(attname::text ORDER BY position) FROM pg_attribute AS a"
            " JOIN unnest(i.indkey) WITH ORDINALITY AS key (number, position) ON a.attnum = key.number"
            " WHERE a.attrelid = i.indrelid), pg_get_expr(i.indpred, i.indrelid)"
            " FROM pg_index AS i WHERE i.indrelid = CAST(:table AS regclass)"
        ),
        {"table": table},
    ).all()
    predicates = [predicate for found, predicate in indexes if found == columns]
    assert predicates, f"no index on {columns}, only {indexes}"
    assert any(partial in (predicate or "") if partial else predicate is None for predicate in predicates)

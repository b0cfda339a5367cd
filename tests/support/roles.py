"""Roles of the PostgreSQL under test, and what they can do."""

from __future__ import annotations

import uuid
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from receiver.database_url import libpq_url
from receiver.db import one_connection
from receiver.readers.grants import revoke

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL

    from tests.conftest import Acme

PASSWORD = "only-for-tests"


@contextmanager
def new_role(url: URL, *, name: str = "", options: str = "") -> Iterator[str]:
    """Make a role that may log in; it ends with the block, and with it what it was given in the database of *url*."""
    role = f"{name}reader_{uuid.uuid4().hex}"[:63]
    with psycopg.connect(libpq(url), autocommit=True) as connection:
        try:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} {}").format(
                    sql.Identifier(role), sql.Literal(PASSWORD), sql.SQL(options)
                )
            )
        except psycopg.errors.InsufficientPrivilege:
            pytest.skip("the database user of this run may not create roles")
        try:
            yield role
        finally:
            if not options:
                with one_connection(url.render_as_string(hide_password=False), application="tests") as ours:
                    revoke(ours, role)
            connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@contextmanager
def connected_as(url: URL, role: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """Connect as *role*, each statement a transaction of its own."""
    with psycopg.connect(libpq(url), user=role, password=PASSWORD, autocommit=True) as connection:
        yield connection


def libpq(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def read(url: URL, role: str, query: str) -> list[tuple[Any, ...]]:
    """Return the rows that *role* sees."""
    with connected_as(url, role) as connection:
        return connection.execute(query.encode()).fetchall()


def relations(url: URL) -> list[str]:
    """Return every table and view of schema ems."""
    with psycopg.connect(libpq(url)) as connection:
        rows = connection.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'ems'::regnamespace"
            " AND relkind IN ('r', 'p', 'v', 'm') ORDER BY 1"
        )
        return [row[0] for row in rows]


def set_for_sessions(url: str, settings: dict[str, str]) -> None:
    with closing(psycopg.connect(libpq_url(url), autocommit=True)) as connection:
        for name, value in settings.items():
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                    sql.Identifier(connection.info.dbname),
                    sql.Identifier(name),
                    # a list is one setting
                    sql.SQL(value) if name == "search_path" else sql.Literal(value),
                )
            )


def privileges(acme: Acme, role: str) -> list[dict[str, Any]]:
    """Return every dependency that *role* has in this database: privileges, default privileges, policies."""
    return acme.rows(
        "SELECT classid::regclass::text, objid FROM pg_shdepend WHERE refobjid = (SELECT oid FROM pg_roles"
        " WHERE rolname = :role) AND refclassid = 'pg_authid'::regclass",
        role=role,
    )

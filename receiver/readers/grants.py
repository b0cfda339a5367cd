"""Roles that may read schema ``ems`` and nothing else: granting, taking back, listing.

PostgreSQL's catalog is the only place that knows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from psycopg import sql
from sqlalchemy import text

from receiver.errors import OperationRefused
from receiver.readers import row_security
from receiver.readers.eligibility import RoleFacts, refusal, refusal_of_revoking
from receiver.readers.row_security import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Reader:
    """A role that may read schema ``ems``."""

    role: str
    organizations: tuple[str, ...] | None
    """The organizations whose rows it sees; ``None`` for all."""


POWERFUL: Final = (
    "pg_read_server_files",
    "pg_write_server_files",
    "pg_execute_server_program",
    "pg_maintain",
    "pg_create_subscription",
)
"""PostgreSQL's own roles by which more can be read or done than any privilege on a table says."""
PUBLICATION: Final = "ems"
"""Name of the publication for logical replication."""

_FACTS: Final = text(
    """
SELECT
    role.oid IS NOT NULL AS exists,
    coalesce(role.rolsuper, false) AS superuser,
    coalesce(role.rolbypassrls, false) AS bypasses,
    coalesce(role.rolreplication, false) AS replicates,
    coalesce(role.rolcreaterole, false) AS creates_roles,
    coalesce(pg_has_role(role.oid, 'pg_read_all_stats', 'MEMBER'), false) AS sees_statements,
    owner.rolname AS owner,
    coalesce(pg_has_role(role.oid, schema.nspowner, 'MEMBER'), false) AS acts_as_owner,
    array_remove(ARRAY[
        CASE WHEN pg_has_role(role.oid, 'pg_read_all_data', 'MEMBER') THEN 'read every table (pg_read_all_data)' END,
        (
            SELECT 'act as ' || string_agg(powerful.rolname, ', ' ORDER BY powerful.rolname)
            FROM pg_roles AS powerful WHERE powerful.rolname = ANY (:powerful)
                AND pg_has_role(role.oid, powerful.oid, 'MEMBER')
        ),
        CASE WHEN pg_has_role(role.oid, 'pg_write_all_data', 'MEMBER')
            THEN 'write every table (pg_write_all_data)' END,
        CASE WHEN has_schema_privilege(role.oid, 'receiver', 'USAGE, CREATE') THEN 'use schema receiver' END,
        CASE WHEN has_schema_privilege(role.oid, 'ems', 'CREATE') THEN 'create in schema ems' END,
        (
            SELECT 'write ' || string_agg(relation.oid::regclass::text, ', ' ORDER BY relation.relname)
            FROM pg_class AS relation
            WHERE relation.relnamespace = schema.oid AND relation.relkind IN ('r', 'p', 'v')
                AND has_table_privilege(role.oid, relation.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
        )
    ], NULL) AS beyond,
    current_user AS asker,
    pg_has_role(schema.nspowner, 'USAGE') AS asker_is_owner,
    current_setting('server_version_num')::integer / 10000 AS version
FROM pg_namespace AS schema
JOIN pg_roles AS owner ON owner.oid = schema.nspowner
LEFT JOIN pg_roles AS role ON role.rolname = :role
WHERE schema.nspname = 'ems' AND to_regnamespace('receiver') IS NOT NULL
"""
)
_READERS: Final = text(
    """
SELECT role.rolname AS role
FROM pg_namespace AS schema
CROSS JOIN LATERAL aclexplode(schema.nspacl) AS granted
JOIN pg_roles AS role ON role.oid = granted.grantee AND role.oid <> schema.nspowner
WHERE schema.nspname = 'ems' AND granted.privilege_type = 'USAGE'
ORDER BY role.rolname
"""
)


_PUBLISHED: Final = text(
    "SELECT relname FROM pg_class WHERE relnamespace = 'ems'::regnamespace AND relkind IN ('r', 'p') ORDER BY relname"
)
_REGISTER: Final = text(
    """
INSERT INTO ems.consumers AS consumer (name, role) VALUES (:name, :role)
ON CONFLICT (name) DO UPDATE SET role = coalesce(consumer.role, consumer.name) RETURNING role
"""
)


def grant(
    connection: Connection,
    role: str,
    organizations: Sequence[str] = (),
    consumers: Sequence[str] = (),
    *,
    replication: bool = False,
) -> Reader:
    """Let *role* read schema ``ems``, now and in later releases, and nothing else; of *organizations* only, if any.

    It may commit positions of the feed under its own name, and under those of *consumers*; *replication*: it is to
    subscribe to ``publish``. May be repeated; other *organizations* take the place of those before. Raises
    ``OperationRefused``.
    """
    with connection.begin():
        facts = _facts(connection, role)
        restricted_to = row_security.restrictions(connection).get(role, ())
    reason = refusal(role, facts, organizations, restricted_to, replication=replication)
    if reason:
        raise OperationRefused(reason)
    if organizations and not restricted_to:
        with connection.begin():  # it saw all perhaps; tables to come are let in one by one, when they are narrowed
            _revoke_all(connection, facts.owner, role)
    if organizations:
        row_security.restrict(connection, role, organizations)
    with connection.begin():
        if not organizations:
            for kind in ("TABLES", "SEQUENCES"):  # pg_dump reads sequences, too
                _run(connection, f"GRANT SELECT ON ALL {kind} IN SCHEMA ems TO {{}}", role)
                _default_privileges(connection, facts.owner, f"GRANT SELECT ON {kind} TO", role)
        _run(connection, "GRANT USAGE ON SCHEMA ems TO {}", role)
        for name in consumers:
            holder = connection.scalar(_REGISTER, {"name": name, "role": role})
            if holder != role:
                raise OperationRefused(
                    f"consumer {name!r} is granted to {holder}: receiver db consumers drop {name} first"
                )
        return Reader(role, row_security.restrictions(connection).get(role))


def revoke(connection: Connection, role: str) -> bool:
    """Take back everything that *role* may in schema ``ems``; return whether it was a reader. May be repeated.

    Its consumers are dropped.

    Raises ``OperationRefused`` when there is no such role.
    """
    with connection.begin():
        facts = _facts(connection, role)
        was_reader = any(reader.role == role for reader in readers(connection))
    reason = refusal_of_revoking(role, facts)
    if reason:
        raise OperationRefused(reason)
    with connection.begin():
        _run(connection, "REVOKE ALL ON SCHEMA ems FROM {}", role)
        _revoke_all(connection, facts.owner, role)
        connection.execute(text("DELETE FROM ems.consumers WHERE coalesce(role, name) = :role"), {"role": role})
    row_security.release(connection, role)
    return was_reader


def readers(connection: Connection) -> list[Reader]:
    """Return every role that was given the use of schema ``ems``, by name."""
    restricted = row_security.restrictions(connection)
    return [Reader(role, restricted.get(role)) for role in connection.scalars(_READERS)]


def _facts(connection: Connection, role: str) -> RoleFacts:
    row = connection.execute(_FACTS, {"role": role, "powerful": list(POWERFUL)}).mappings().one_or_none()
    if row is None:
        raise OperationRefused("the database is not migrated: run receiver db upgrade")
    return RoleFacts(**{**row, "beyond": tuple(row["beyond"])})


def publish(connection: Connection) -> list[str]:
    """Publish every table of schema ``ems`` for logical replication, and return what a subscriber has to know.

    May be repeated: a table that a later release brought is added.
    """
    with connection.begin():
        tables = sql.SQL(", ").join(map(row_security.ems, connection.scalars(_PUBLISHED)))
        known = connection.scalar(text("SELECT count(*) FROM pg_publication WHERE pubname = :n"), {"n": PUBLICATION})
        change = "ALTER PUBLICATION {} SET TABLE {}" if known else "CREATE PUBLICATION {} FOR TABLE {}"
        run(connection, sql.SQL(change).format(sql.Identifier(PUBLICATION), tables))
        # the partitions are in schema receiver: a subscriber knows their table alone
        root = sql.SQL("ALTER PUBLICATION {} SET (publish_via_partition_root = true)")
        run(connection, root.format(sql.Identifier(PUBLICATION)))
        level = connection.scalar(text("SELECT current_setting('wal_level')"))
    notes = [f"subscribe to publication {PUBLICATION}; run this again after an upgrade, for tables that it brings"]
    if level != "logical":
        notes.append(f"wal_level is {level}: set it to logical in PostgreSQL's configuration, and restart PostgreSQL")
    return notes


def _revoke_all(connection: Connection, owner: str, role: str) -> None:
    for kind in ("TABLES", "SEQUENCES"):
        _default_privileges(connection, owner, f"REVOKE ALL ON {kind} FROM", role)
        _run(connection, f"REVOKE ALL ON ALL {kind} IN SCHEMA ems FROM {{}}", role)


def _run(connection: Connection, statement: str, role: str) -> None:
    run(connection, sql.SQL(statement).format(sql.Identifier(role)))


def _default_privileges(connection: Connection, owner: str, change: str, role: str) -> None:
    run(
        connection,
        sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA ems {} {}").format(
            sql.Identifier(owner), sql.SQL(change), sql.Identifier(role)
        ),
    )

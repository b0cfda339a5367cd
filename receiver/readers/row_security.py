"""Row-level security of schema ``ems``: which organizations a restricted reader sees.

It is there only while some reader is restricted, and narrows only restricted ones. Each table has a policy that lets
everybody see everything (what privileges allow, that is), and for each restricted reader one that takes away the other
organizations. The owner, who writes, is not subject to it. Views then run with the rights of the reader.

The policies are the only place that says who is restricted to what. They hold for future tables, too: every
migration ends with ``protect``, in its own transaction.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from psycopg import sql
from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, CursorResult

FIRST_VERSION: Final = 15
"""The first PostgreSQL whose views can run with the rights of the reader; without that a view would show all."""
SHARED: Final = frozenset({"feed_horizon"})
"""Tables without an organization that a restricted reader may see whole."""
EVERYBODY: Final = "everybody"
PREFIX: Final = "reader_"
LOCK_TIMEOUT: Final = "5s"
"""How long to wait for a table: everything else that wants it queues behind, so not for long."""

_ARRAY: Final = re.compile(r"ANY \((ARRAY\[.*\])\)\)$", re.DOTALL)
_TABLES: Final = text(
    """
SELECT relation.relname AS name, relation.relrowsecurity AS guarded, EXISTS (
    SELECT FROM pg_attribute AS attribute
    WHERE attribute.attrelid = relation.oid AND attribute.attname = 'organization_reference_id'
) AS has_organization
FROM pg_class AS relation
WHERE relation.relnamespace = to_regnamespace('ems') AND relation.relkind IN ('r', 'p')
ORDER BY relation.relname
"""
)
_VIEWS: Final = text(
    """
SELECT relname AS name, coalesce('security_invoker=true' = ANY (reloptions), false) AS guarded
FROM pg_class WHERE relnamespace = to_regnamespace('ems') AND relkind = 'v' ORDER BY oid
"""
)
_POLICIES: Final = text(
    """
SELECT relation.relname AS table_name, policy.polname AS name, role.rolname AS role,
    pg_get_expr(policy.polqual, policy.polrelid) AS expression
FROM pg_policy AS policy
JOIN pg_class AS relation ON relation.oid = policy.polrelid AND relation.relnamespace = to_regnamespace('ems')
JOIN pg_roles AS role ON policy.polroles = ARRAY[role.oid]
WHERE NOT policy.polpermissive AND starts_with(policy.polname, :prefix)
ORDER BY role.rolname, relation.relname
"""
)


def restrictions(connection: Connection) -> dict[str, tuple[str, ...]]:
    """Return each restricted role with the organizations that it sees."""
    found = {}
    for row in connection.execute(_POLICIES, {"prefix": PREFIX}).all():
        if row.role not in found:
            found[row.role] = _organizations(connection, row.expression)
    return found


def restrict(connection: Connection, role: str, organizations: Sequence[str]) -> None:
    """Let *role* see only rows of *organizations*, in place of those that it saw.

    One transaction for each table, so that no table is locked while another is waited for. If it is interrupted in the
    middle, run it again.
    """
    wanted = tuple(sorted(set(organizations)))
    with connection.begin():
        right = {
            row.table_name
            for row in connection.execute(_POLICIES, {"prefix": PREFIX}).all()
            if row.role == role and _organizations(connection, row.expression) == wanted
        }
        tables = [
            row.name
            for row in connection.execute(_TABLES).all()
            if row.has_organization and not (row.guarded and row.name in right)
        ]
    expression = sql.SQL("organization_reference_id = ANY (ARRAY[{}]::text[])").format(
        sql.SQL(", ").join(sql.Literal(organization) for organization in wanted)
    )
    for table in tables:
        with connection.begin():
            _set_lock_timeout(connection)
            _restrict_table(connection, table, role, expression)
    with connection.begin():
        _set_lock_timeout(connection)
        protect(connection)


def release(connection: Connection, role: str) -> None:
    """Take back every policy of *role*; with the last restricted role, row-level security goes, too."""
    with connection.begin():
        tables = [row.name for row in connection.execute(_TABLES).all() if row.guarded]
        last = set(restrictions(connection)) <= {role}
    for table in tables:
        with connection.begin():
            _set_lock_timeout(connection)
            _drop_policies(connection, table, role)
            if last:
                run(connection, sql.SQL("DROP POLICY IF EXISTS {} ON {}").format(sql.Identifier(EVERYBODY), ems(table)))
                run(connection, sql.SQL("ALTER TABLE {} DISABLE ROW LEVEL SECURITY").format(ems(table)))
    with connection.begin():
        _set_lock_timeout(connection)
        for view in connection.execute(_VIEWS).all():
            if last and view.guarded:
                run(connection, sql.SQL("ALTER VIEW {} RESET (security_invoker)").format(ems(view.name)))


def protect(connection: Connection) -> None:
    """Bring tables and views that are new to what the restricted readers are restricted to, and let them read those.

    Does nothing while no reader is restricted. Belongs into the transaction that makes a table or view.
    """
    policies = connection.execute(_POLICIES, {"prefix": PREFIX}).all()
    if not policies:
        return
    expressions = {row.role: row.expression for row in policies}
    have = {(row.table_name, row.role) for row in policies}
    for table in connection.execute(_TABLES).all():
        for role, expression in expressions.items():
            if table.has_organization and (table.name, role) not in have:
                _restrict_table(connection, table.name, role, sql.SQL(expression))
    for view in connection.execute(_VIEWS).all():
        if not view.guarded:
            run(connection, sql.SQL("ALTER VIEW {} SET (security_invoker = true)").format(ems(view.name)))
    for role in expressions:
        let_read(connection, role)


def visible(connection: Connection) -> list[str]:
    """Return the tables and views that a restricted reader may read."""
    tables = connection.execute(_TABLES).all()
    views = connection.execute(_VIEWS).all()
    return [table.name for table in tables if table.has_organization or table.name in SHARED] + [
        view.name for view in views
    ]


def let_read(connection: Connection, role: str) -> None:
    """Let a restricted reader read everything that is narrowed to its organizations."""
    for name in visible(connection):
        run(connection, sql.SQL("GRANT SELECT ON {} TO {}").format(ems(name), sql.Identifier(role)))


def run(connection: Connection, statement: sql.Composable) -> CursorResult[Any]:
    """Run a statement that was put together with quoted names."""
    return connection.exec_driver_sql(statement.as_string(), execution_options={"no_parameters": True})


def ems(name: str) -> sql.Identifier:
    """Return the quoted name of a table or view of schema ``ems``."""
    return sql.Identifier("ems", name)


def _restrict_table(connection: Connection, table: str, role: str, expression: sql.Composable) -> None:
    guarded = connection.execute(
        text("SELECT relrowsecurity FROM pg_class WHERE oid = CAST(:table AS regclass)"),
        {"table": ems(table).as_string()},
    ).scalar_one()
    if not guarded:
        run(connection, sql.SQL("DROP POLICY IF EXISTS {} ON {}").format(sql.Identifier(EVERYBODY), ems(table)))
        run(connection, sql.SQL("CREATE POLICY {} ON {} USING (true)").format(sql.Identifier(EVERYBODY), ems(table)))
        run(connection, sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(ems(table)))
    _drop_policies(connection, table, role)
    oid = connection.execute(text("SELECT oid FROM pg_roles WHERE rolname = :role"), {"role": role}).scalar_one()
    run(
        connection,
        sql.SQL("CREATE POLICY {} ON {} AS RESTRICTIVE FOR SELECT TO {} USING ({})").format(
            sql.Identifier(f"{PREFIX}{oid}"), ems(table), sql.Identifier(role), expression
        ),
    )


def _drop_policies(connection: Connection, table: str, role: str) -> None:
    for policy in connection.execute(_POLICIES, {"prefix": PREFIX}).all():
        if (policy.table_name, policy.role) == (table, role):
            run(connection, sql.SQL("DROP POLICY {} ON {}").format(sql.Identifier(policy.name), ems(table)))


def _organizations(connection: Connection, expression: str) -> tuple[str, ...]:
    """Return the organizations in a policy's expression, which PostgreSQL writes in its own words."""
    found = _ARRAY.search(expression)
    return tuple(run(connection, sql.SQL("SELECT " + found[1])).scalar_one()) if found else ()


def _set_lock_timeout(connection: Connection) -> None:
    run(connection, sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT)))

"""Runs migrations: one at a time, and never waiting long for a lock while the old release is serving."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from alembic import context
from sqlalchemy import text

from receiver.connections import MIGRATE
from receiver.db import RECEIVER, engine_for
from receiver.locks import Lock
from receiver.migrate import COMPARISON, target_metadata
from receiver.readers.row_security import protect
from receiver.settings import REQUIRED_FOR_DATABASE, load_settings

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from alembic.runtime.migration import MigrationContext, MigrationInfo
    from sqlalchemy import Connection

LOCK_TIMEOUT = "5s"
"""A statement that cannot get its table lock in this time fails, instead of queueing all traffic behind it."""


def narrow_what_is_new(
    ctx: MigrationContext,
    step: MigrationInfo,  # noqa: ARG001 - alembic's signature
    heads: Collection[Any],  # noqa: ARG001
    run_args: Mapping[str, Any],  # noqa: ARG001
) -> None:
    """Show restricted readers no row too many: in the transaction of the migration that makes a table or view."""
    assert ctx.connection is not None  # noqa: S101 - it is the one below
    protect(ctx.connection)


def run(connection: Connection) -> None:
    """Migrate on *connection*; a second process waits here until the first is done."""
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": Lock.MIGRATION})
    connection.execute(text("SELECT set_config('lock_timeout', :timeout, false)"), {"timeout": LOCK_TIMEOUT})
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {RECEIVER}"))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=target_metadata(),
        transaction_per_migration=True,
        on_version_apply=narrow_what_is_new,
        **COMPARISON,
    )
    try:
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": Lock.MIGRATION})
        connection.commit()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    with engine_for(settings.database_url, application="migrate", timeouts=MIGRATE).connect() as made:
        run(made)

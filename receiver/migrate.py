"""Migrates the database to the newest revision, and compares its schema with the models."""

from __future__ import annotations

import re
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from receiver.db import EMS, RECEIVER, Base
from receiver.errors import OperationRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sqlalchemy import Connection, MetaData

MODEL_MODULES: Final = (
    "receiver.webhooks.models",
    "receiver.deliveries.models",
    "receiver.erasure.models",
    "receiver.processing.models",
    "receiver.records.models",
    "receiver.opencard.models",
    "receiver.bootstrap.models",
    "receiver.reconcile.models",
    "receiver.ops.models",
    "receiver.ops.issues.models",
    "receiver.ops.retention.models",
    "receiver.ops.console.models",
    "receiver.ops.counter_models",
)


PARTITION: Final = re.compile(r"(stored_deliveries|bodies|events)_([0-9]+|default)")
"""Names of partitions, see ``receiver.partitions``."""


def only_ours(name: str | None, type_: str, _parents: object) -> bool:
    """Compare only the two schemas of this service; a partition is part of its table."""
    if type_ == "table":
        return name is None or PARTITION.fullmatch(name) is None
    return type_ != "schema" or name in {RECEIVER, EMS}


COMPARISON: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "version_table_schema": RECEIVER,
        "include_schemas": True,
        "include_name": only_ours,
        "compare_server_default": True,
    }
)
"""How models and database are compared, when migrations are written and when they are checked."""


def project_file(name: str) -> Path:
    """Return the path of a file or folder that is next to the package in a checkout and inside it in a wheel."""
    package = Path(__file__).parent
    for folder in (package.parent, package):
        if (folder / name).exists() and (folder is package or (folder / "pyproject.toml").exists()):
            return folder / name
    raise OperationRefused(f"{name} is missing next to or in {package}; install opencard-receiver again")


def target_metadata() -> MetaData:
    """Return the metadata with every model of the service in it."""
    for module in MODEL_MODULES:
        import_module(module)
    return Base.metadata


def head_revision() -> str:
    """Return the revision that this code works with.

    Raises ``OperationRefused`` when the migrations have more than one head.
    """
    heads = _scripts().get_heads()
    if len(heads) != 1:
        raise OperationRefused(f"the migrations have {len(heads)} heads ({', '.join(heads)}); merge them into one")
    return heads[0]


def current_revision(connection: Connection) -> str | None:
    """Return the revision that the database is at; ``None`` when it was never migrated."""
    if not inspect(connection).has_table("alembic_version", schema=RECEIVER):
        return None
    return MigrationContext.configure(connection, opts={"version_table_schema": RECEIVER}).get_current_revision()


def is_newer(revision: str | None) -> bool:
    """Return whether a newer release migrated the database: this one works with it, and has nothing to migrate."""
    return revision is not None and revision > head_revision()


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing; none if a newer release has migrated: alembic would fail on its revision.

    Takes an advisory lock, so that one process migrates at a time.
    """
    newer = is_newer(current_revision(connection))
    connection.rollback()
    if newer:
        return
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def differences(connection: Connection) -> list[str]:
    """Return what differs between the models and the migrated database, one line each; empty when they agree."""
    head = head_revision()
    current = current_revision(connection)
    if is_newer(current):
        return [f"the database is at {current}, newer than this release's {head}: a newer release migrated it"]
    if current != head:
        return [f"the database is at {current or 'no revision'}, the code at {head}: run receiver db upgrade"]
    with _schemas_by_name(connection):
        context = MigrationContext.configure(connection, opts=dict(COMPARISON))
        return [_in_words(*each) for each in _each(compare_metadata(context, target_metadata()))]


@contextmanager
def _schemas_by_name(connection: Connection) -> Iterator[None]:
    """Have PostgreSQL and SQLAlchemy name the schema of everything, whatever the role's ``search_path`` is.

    A role that is called receiver has the schema of that name in it, and what is there would be found without one.
    """
    dialect = connection.dialect
    before = dialect.default_schema_name
    connection.execute(text("SET LOCAL search_path TO ''"))
    dialect.default_schema_name = "public"
    try:
        yield
    finally:
        dialect.default_schema_name = before
        connection.rollback()


def _each(differences: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """Yield alembic's differences one by one; those of one column come together in a list."""
    for difference in differences:
        yield from [difference] if isinstance(difference, tuple) else difference


def _in_words(kind: str, *about: Any) -> str:  # noqa: ANN401 - alembic gives no types
    """Return one of alembic's differences as a sentence."""
    change, _, what = kind.partition("_")
    what = {"fk": "foreign key", "table_comment": "comment"}.get(what, what)
    if change == "modify":
        schema, table, column, _, there, here = about
        return (
            f"{what} of column {schema}.{table}.{column} is {_said(there)} in the database, {_said(here)} in the models"
        )
    if what == "column":
        schema, table, column = about
        name = f"column {schema}.{table}.{column.name}"
    elif what == "table":
        name = f"table {about[0].fullname}"
    else:
        name = (
            f"{what} of table {about[0].fullname}"
            if what == "comment"
            else f"{what} {about[0].name} of {about[0].table.fullname}"
        )
    return f"{name} is not in the {'database' if change == 'add' else 'models'}"


def _said(value: object) -> str:
    """Return a default as its SQL, anything else as Python writes it."""
    return str(getattr(value, "arg", value))


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(project_file("migrations")))
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())

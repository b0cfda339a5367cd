"""Brings the database to the models' state, and says whether it is there."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from receiver.db import EMS, RECEIVER, Base
from receiver.errors import OperationRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, MetaData

MODEL_MODULES: Final = (
    "receiver.deliveries.models",
    "receiver.events.models",
    "receiver.records.models",
    "receiver.opencard.models",
    "receiver.bootstrap.models",
    "receiver.reconcile.models",
    "receiver.ops.models",
    "receiver.ops.retention.models",
    "receiver.ops.console.models",
    "receiver.ops.counter_models",
)


def only_ours(name: str | None, type_: str, _parents: object) -> bool:
    """Look at the two schemas of this service and at nothing else in the database."""
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
    """Return the path of a file or folder that stands beside the package in a checkout and inside it in a wheel."""
    package = Path(__file__).parent
    for folder in (package.parent, package):
        if (folder / name).exists() and (folder is package or (folder / "pyproject.toml").exists()):
            return folder / name
    raise OperationRefused(f"{name} is missing beside or in {package}; install opencard-receiver again")


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


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing. Takes an advisory lock, so that one process migrates at a time."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def differences(connection: Connection) -> list[str]:
    """Return what differs between the models and the migrated database, one line each; empty when they agree."""
    head = head_revision()
    current = current_revision(connection)
    if current != head:
        return [f"the database is at {current or 'no revision'}, the code at {head}: run receiver db upgrade"]
    context = MigrationContext.configure(
        connection,
        opts=dict(COMPARISON),
    )
    return [str(difference) for difference in compare_metadata(context, target_metadata())]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(project_file("migrations")))
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())

"""A whole service on this machine with a local OpenCard: started for a session of tests, or one that runs already."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from receiver.db import engine_for
from receiver.errors import OperationRefused
from receiver.sandbox.control_client import registered_webhooks
from receiver.sandbox.local import ORGANIZATIONS, local_servers, reader_address, running_receiver
from receiver.sandbox.onboarding import register
from receiver.sandbox.provider import SCOPES, Provider, environment, serving
from receiver.settings import Settings, load_settings, variable_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Engine

ONLY_WHEN_ASKED: Final = {"RECONCILE_INTERVAL": "0", "BOOTSTRAP_INTERVAL": "0", "WEB_CONCURRENCY": "1"}
"""Nothing happens in a test that the test did not ask for."""
# a webhook that OpenCard has not registered yet receives nothing
_WEBHOOKS: Final = text(
    "SELECT opencard_webhook_id FROM receiver.webhooks WHERE deleted_at IS NULL AND opencard_webhook_id IS NOT NULL"
)


@dataclass(frozen=True, slots=True)
class Stack:
    """A running service, and what a test needs to reach it."""

    environment: Mapping[str, str]
    """The environment of the service's commands."""
    settings: Settings
    engine: Engine
    """The service's own database, with all rights."""
    ems_url: str
    """The same database for the EMS: as a role that reads schema ``ems``, and nothing else."""


@contextmanager
def embedded_stack() -> Iterator[Stack]:
    """Start PostgreSQL, Valkey, a local OpenCard and the service; everything ends, and is deleted, with the block.

    Settings of the service in the environment of the tests have no effect on it. Raises ``OperationRefused`` when
    something does not start, and leaves its logs.
    """
    folder = Path(tempfile.mkdtemp(prefix="opencard-receiver-"))
    inherited = {name: value for name, value in os.environ.items() if name not in {*variable_names(), "PORT"}}
    provider = Provider()
    with local_servers("ems_tests", folder=folder, inherited=inherited) as servers, serving(provider) as api_url:
        for reference in ORGANIZATIONS:
            provider.state.add_organization(reference)
        client = provider.clients.add("ems-tests", scopes=SCOPES)
        variables = {**environment(api_url, client), **ONLY_WHEN_ASKED}
        with running_receiver(servers, variables):
            settings = load_settings({**servers.environment, **variables})
            register(servers, settings)
            yield Stack({**servers.environment, **variables}, settings, servers.engine, reader_address(servers.engine))
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_stack(file: Path) -> Iterator[Stack]:
    """Use the service whose environment *file* has, as ``receiver dev`` wrote it.

    Raises ``OperationRefused`` unless it is registered at a local OpenCard and nowhere else: its data will be deleted.
    """
    variables = {**os.environ, **read_environment(file)}
    settings = load_settings(variables)
    there = registered_webhooks(settings.opencard_api_url)
    engine = engine_for(settings.database_url, application="tests of the EMS")
    try:
        with engine.connect() as connection:
            known = set(connection.scalars(_WEBHOOKS))
        if not known or known - there:
            raise OperationRefused(
                f"{file}: the service is not registered at the local OpenCard at {settings.opencard_api_url}, "
                "so its data are not deleted: start receiver dev --idle, and wait until its webhooks are registered"
            )
        yield Stack(variables, settings, engine, reader_address(engine))
    finally:
        engine.dispose()


def read_environment(file: Path) -> dict[str, str]:
    """Return the variables in a file of ``export NAME=value`` lines. Raises ``OperationRefused`` if there is none."""
    try:
        words = shlex.split(file.read_text(), comments=True)
    except OSError as error:
        raise OperationRefused(f"{file}: {error.strerror}; receiver dev writes it, as .data/dev/environment") from None
    return dict(word.split("=", 1) for word in words if "=" in word)

"""A receiver with separate servers: each process and each server can be killed and started again."""

from __future__ import annotations

import shutil
import uuid
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import stamina

from receiver.db import engine_for
from receiver.sandbox.embedded import EmbeddedPostgres, EmbeddedValkey, free_port
from receiver.sandbox.killable import KillableParts
from receiver.sandbox.local import adopt_webhook
from receiver.sandbox.processes import ProcfileProcesses, local_environment, wait_until_ready
from receiver.settings import load_settings
from tests.conftest import DATA_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from sqlalchemy import Engine

    from receiver.sandbox.registration import Registration


class KillableMachine:
    """A receiver whose web, worker and scheduler processes run."""

    def __init__(self, folder: Path, stack: ExitStack, variables: Mapping[str, str]) -> None:
        self.postgres = EmbeddedPostgres(folder / "postgres")
        stack.callback(self.postgres.stop)
        self.valkey = EmbeddedValkey(folder / "valkey")
        stack.callback(self.valkey.stop)
        self.environment = local_environment(
            database_url=self.postgres.create_database("machine"), redis_url=self.valkey.url, port=free_port()
        ) | dict(variables)
        self.settings = load_settings(self.environment)
        self.engine: Engine = engine_for(self.settings.database_url, application="tests")
        stack.callback(self.engine.dispose)
        self.processes = stack.enter_context(ProcfileProcesses(self.environment, folder / "logs"))
        self.processes.run("release")
        self.processes.start("web", "worker", "scheduler")
        wait_until_ready(self.settings.public_url, self.processes)

    @property
    def parts(self) -> KillableParts:
        """What can be killed."""
        return KillableParts(self.postgres, self.valkey, self.processes)

    def adopt(self, *organizations: str) -> list[Registration]:
        with self.engine.begin() as connection:
            return [
                adopt_webhook(connection, self.settings, organization, number=number)
                for number, organization in enumerate(organizations, 1)
            ]


@contextmanager
def running_machine(**variables: str) -> Iterator[KillableMachine]:
    """Run a machine with its data below .data: pytest closes its own folders to the user that PostgreSQL runs as."""
    stamina.instrumentation.set_on_retry_hooks(())
    folder = DATA_FOLDER / f"machine-{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield KillableMachine(folder, stack, variables)

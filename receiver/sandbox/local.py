"""A whole receiver on this machine: embedded servers, the Procfile's processes, managed webhooks."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cryptography.fernet import Fernet
from sqlalchemy import text

from receiver.db import engine_for
from receiver.encryption import Encryption
from receiver.readers.grants import grant
from receiver.sandbox.embedded import EmbeddedPostgres, EmbeddedValkey, free_port
from receiver.sandbox.processes import (
    ProcfileProcesses,
    local_environment,
    wait_until_ready,
)
from receiver.sandbox.registration import Registration
from receiver.settings import Settings, load_settings
from receiver.webhooks.addresses import endpoint_url
from receiver.webhooks.adoption import Adoption, adopt
from receiver.webhooks.credentials import AuthenticationType, Credentials

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection, Engine

DATA: Final = Path(".data")
"""Where everything local lives; ignored by git."""
ORGANIZATIONS: Final = ("nordlys-as", "kaffe-och-papper-ab", "saimaan-kirjakauppa-oy")
"""The EMS's ids of the organizations of the demo."""
PROCESSES: Final = ("web", "worker", "scheduler")
READER: Final = "ems_reader"
"""The role of an EMS."""


@dataclass(frozen=True, slots=True)
class LocalServers:
    """The stores and the environment of a receiver on this machine, migrated, with nothing running yet."""

    environment: Mapping[str, str]
    settings: Settings
    engine: Engine
    folder: Path
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey


@contextmanager
def local_servers(
    name: str, *, port: int | None = None, folder: Path | None = None, inherited: Mapping[str, str] = os.environ
) -> Iterator[LocalServers]:
    """Start PostgreSQL and Valkey with an empty, migrated database called *name*; both end with the block.

    Everything is in *folder*, by default one of this name in ``DATA``; processes get *inherited* and their settings.
    """
    folder = (folder or DATA / name).resolve()
    for emptied in ("logs", "files"):
        shutil.rmtree(folder / emptied, ignore_errors=True)
    with ExitStack() as stack:
        postgres = EmbeddedPostgres(folder / "postgres")
        stack.callback(postgres.stop)
        valkey = EmbeddedValkey(folder / "valkey")
        stack.callback(valkey.stop)
        environment = local_environment(
            database_url=postgres.create_database(name, drop_first=True),
            redis_url=valkey.url,
            port=port or free_port(),
            encryption_key=Fernet.generate_key().decode(),
            inherited=inherited,
        )
        environment["FILES_URL"] = str(folder / "files")
        settings = load_settings(environment)
        engine = engine_for(settings.database_url, application=name)
        stack.callback(engine.dispose)
        ProcfileProcesses(environment, folder / "logs").run("release")
        yield LocalServers(environment, settings, engine, folder, postgres, valkey)


@contextmanager
def running_receiver(
    servers: LocalServers, variables: Mapping[str, str] = MappingProxyType({})
) -> Iterator[ProcfileProcesses]:
    """Run web, worker and scheduler as the Procfile says, with more *variables*; they end with the block."""
    with ProcfileProcesses({**servers.environment, **variables}, servers.folder / "logs") as processes:
        processes.start(*PROCESSES)
        wait_until_ready(servers.settings.public_url, processes, needed=PROCESSES)
        yield processes


def reader_address(engine: Engine) -> str:
    """Make the role of an EMS, which reads schema ems and nothing else, and return the database's address for it."""
    with engine.connect() as connection:
        with connection.begin():
            if not connection.scalar(text("SELECT count(*) FROM pg_roles WHERE rolname = :role"), {"role": READER}):
                connection.execute(text(f"CREATE ROLE {READER} LOGIN"))
        grant(connection, READER)
    return engine.url.set(drivername="postgresql", username=READER, password=None).render_as_string(hide_password=False)


def adopt_webhook(
    connection: Connection,
    settings: Settings,
    organization: str,
    *,
    number: int,
    credentials: Credentials | None = None,
) -> Registration:
    """Adopt a webhook with a new secret and return what OpenCard would know of it."""
    credentials = credentials or Credentials()
    kind = AuthenticationType.NONE
    if credentials.basic_username:
        kind = AuthenticationType.BASIC
    elif credentials.custom_key:
        kind = AuthenticationType.CUSTOM
    secret = secrets.token_urlsafe(45)
    adopted = adopt(
        connection,
        Adoption(
            organization_reference_id=organization,
            organization_id=number,
            opencard_webhook_id=number,
            secret=secret,
            authentication_type=kind,
            credentials=credentials,
        ),
        Encryption(settings.encryption_keys),
    )
    return Registration(
        url=endpoint_url(settings.public_url, adopted["endpoint_key"]),
        secret=secret,
        organization_reference_id=organization,
        authentication_type=kind.value,
        basic_username=credentials.basic_username or None,
        basic_password=credentials.basic_password or None,
        custom_key=credentials.custom_key or None,
        custom_value=credentials.custom_value or None,
    )

"""A whole receiver on this machine: embedded servers, the Procfile's processes, adopted webhooks."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
from cryptography.fernet import Fernet

from receiver.db import engine_for
from receiver.deliveries.authentication import AuthenticationType, Credentials
from receiver.deliveries.webhooks import Adoption, adopt, endpoint_url
from receiver.encryption import Encryption
from receiver.errors import OperationRefused
from receiver.sandbox.embedded import EmbeddedPostgres, EmbeddedValkey, free_port
from receiver.sandbox.processes import (
    ProcfileProcesses,
    local_environment,
    wait_until_ready,
)
from receiver.sandbox.registration import Registration
from receiver.sandbox.sender import challenge
from receiver.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection, Engine

DATA: Final = Path(".data")
"""Where everything local lives; ignored by git."""
ORGANIZATIONS: Final = ("nordlys-as", "kaffe-och-papper-ab")
"""The EMS's ids of the two organizations of the demo."""
PROCESSES: Final = ("web", "worker", "scheduler")


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
def local_servers(name: str, *, port: int | None = None) -> Iterator[LocalServers]:
    """Start PostgreSQL and Valkey with an empty, migrated database called *name*; both end with the block."""
    folder = (DATA / name).resolve()
    shutil.rmtree(folder / "logs", ignore_errors=True)
    with ExitStack() as stack:
        postgres = EmbeddedPostgres(folder / "postgres")
        stack.callback(postgres.stop)
        valkey = EmbeddedValkey(folder / "valkey")
        stack.callback(valkey.stop)
        environment = local_environment(
            database_url=postgres.create_database(name, anew=True),
            redis_url=valkey.url,
            port=port or free_port(),
            encryption_key=Fernet.generate_key().decode(),
        )
        settings = load_settings(environment)
        engine = engine_for(settings.database_url, application=name)
        stack.callback(engine.dispose)
        ProcfileProcesses(environment, folder / "logs").run("release")
        yield LocalServers(environment, settings, engine, folder, postgres, valkey)


@contextmanager
def running_receiver(servers: LocalServers) -> Iterator[ProcfileProcesses]:
    """Run web, worker and scheduler as the Procfile says; they end with the block."""
    with ProcfileProcesses(servers.environment, servers.folder / "logs") as processes:
        processes.start(*PROCESSES)
        wait_until_ready(servers.settings.public_url, processes, needed=PROCESSES)
        yield processes


def adopt_two_webhooks(servers: LocalServers) -> list[Registration]:
    """Take a webhook of each organization into care: one with basic, one with custom authentication."""
    password, token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    with servers.engine.begin() as connection:
        return [
            adopt_webhook(
                connection,
                servers.settings,
                ORGANIZATIONS[0],
                number=1,
                credentials=Credentials(basic_username="opencard", basic_password=password),
            ),
            adopt_webhook(
                connection,
                servers.settings,
                ORGANIZATIONS[1],
                number=2,
                credentials=Credentials(custom_key="X-Webhook-Token", custom_value=token),
            ),
        ]


def adopt_webhook(
    connection: Connection,
    settings: Settings,
    organization: str,
    *,
    number: int,
    credentials: Credentials | None = None,
) -> Registration:
    """Take a webhook with a new secret into care and return what OpenCard would know of it."""
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


def challenge_all(registrations: list[Registration]) -> None:
    """Ask each endpoint whether it knows its secret. Raises ``OperationRefused`` for one that does not."""

    async def ask() -> list[bool]:
        async with httpx.AsyncClient(trust_env=False) as client:
            return list(await asyncio.gather(*(challenge(client, registration) for registration in registrations)))

    for registration, right in zip(registrations, asyncio.run(ask()), strict=True):
        if not right:
            raise OperationRefused(f"the endpoint of {registration.organization_reference_id} failed its challenge")

"""Development: the whole service on this machine until Ctrl+C, with a slow stream of purchases."""

from __future__ import annotations

import os
import shlex
import sys
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

import httpx
import stamina
from honcho.environ import parse_procfile
from honcho.manager import Manager
from honcho.printer import Printer
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from receiver.errors import ReceiverError
from receiver.migrate import project_file
from receiver.sandbox.breakage import FIX, break_on_purpose
from receiver.sandbox.console_access import new_console_access
from receiver.sandbox.embedded import check_port, free_port, postgres_program
from receiver.sandbox.local import ORGANIZATIONS, PROCESSES, local_servers, reader_address
from receiver.sandbox.onboarding import CONFIGURATION, register
from receiver.sandbox.provider import SCOPES, Provider, environment
from receiver.settings import load_settings
from receiver.tls import tls_context
from receiver.webhooks.addresses import endpoint_url
from receiver.webhooks.listing import list_webhooks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import Engine

    from receiver.sandbox.console_access import ConsoleAccess
    from receiver.sandbox.local import LocalServers
    from receiver.sandbox.provider.resources import Client
    from receiver.settings import Settings

COMPRESSION: Final = 7200
"""Virtual seconds in a real one: two hours of the story pass each second."""
INTERRUPTED: Final = (130, 143)
"""What honcho ends with after Ctrl+C and SIGTERM: the wanted end."""
READY_SECONDS: Final = 60
BROKEN: Final = 50
"""How many deliveries fail at once with ``--broken``."""
_DEAD: Final = text("SELECT count(*) FROM receiver.outcomes WHERE status = 'dead'")


def run_dev(*, port: int, say: Callable[[str], None], broken: bool = False, idle: bool = False) -> int:
    """Run until Ctrl+C and return the exit code; logs go to standard output, a colour for each process.

    Only warnings and errors are logged, unless ``LOG_LEVEL`` is set. With *broken*, cleared purchases of one
    organization fail until the cause is fixed, and the addresses are printed again after the first failures; *idle*:
    purchases are sent, and webhooks reconciled, only when asked.
    Raises ``OperationRefused`` when another process listens on *port*.
    """
    check_port(port)
    with local_servers("dev", port=port) as servers:
        opencard_port = free_port()
        with closing(Provider()) as provider:  # only to name the client as the other process will
            client = provider.clients.add("dev", scopes=SCOPES)
        opencard = environment(f"http://127.0.0.1:{opencard_port}", client)
        access = new_console_access()
        variables = {**servers.environment, **opencard, **access.variables}
        if idle:
            variables["RECONCILE_INTERVAL"] = "0"
        settings = load_settings(variables)
        write_environment(servers.folder / "environment", variables)
        (servers.folder / "webhooks.toml").write_text(CONFIGURATION)
        rows = addresses(servers, opencard, access)
        if broken:
            with servers.engine.begin() as connection:
                break_on_purpose(connection, ORGANIZATIONS[0])
            rows.insert(-1, ("to fix the failures", psql(servers, FIX)))
        manager = Manager(Printer(sys.stdout))
        coloured = {
            "LOG_LEVEL": "WARNING",
            **variables,
            "LOG_FORMAT": "console",
            "PYTHONUNBUFFERED": "1",
        }
        commands = parse_procfile(project_file("Procfile").read_text()).processes
        for name in PROCESSES:
            manager.add_process(name, f"exec {commands[name]}", env=coloured)
        command = _opencard_command(opencard_port, client, idle=idle, broken=broken)
        manager.add_process("opencard", command, env=coloured, quiet=True)

        def register_and_say() -> None:
            try:
                _register_webhooks(servers, settings, say)
            except (ReceiverError, httpx.HTTPError) as error:
                say(f"webhooks are not registered: {error}")
                manager.terminate()
                return
            print_addresses(rows, say)
            if broken and wait_for_failures(servers.engine):
                print_addresses(rows, say)  # the failures' log lines have pushed them off the screen

        threading.Thread(target=register_and_say, name="bootstrap", daemon=True).start()
        manager.loop()
        return 0 if manager.returncode in INTERRUPTED else int(manager.returncode or 0)


def _opencard_command(port: int, client: Client, *, idle: bool, broken: bool) -> str:
    """Return the command of the local OpenCard, whose stream repeats until it is ended; none when *idle*."""
    stream = (
        "--purchases 0"
        if idle
        else f"--repeat --compression {COMPRESSION} --duplicates 0.1 --disorder 0.1 --lost-answers 0.05 "
        f"--bursts 0.1 --cleared-first {BROKEN if broken else 0}"
    )
    organizations = " ".join(f"--organization {reference}" for reference in ORGANIZATIONS)
    return (
        f"exec receiver sandbox --port {port} {organizations} --client-id {client.id} "
        f"--client-secret {shlex.quote(client.secret)} --billing all {stream}"
    )


def _register_webhooks(servers: LocalServers, settings: Settings, say: Callable[[str], None]) -> None:
    """Register the webhooks once everything answers. Raises ``ReceiverError`` and ``httpx.HTTPError``."""
    wait_for(f"{settings.public_url}/readyz", f"{settings.opencard_api_url}/sandbox/requests")
    register(servers, settings)
    with servers.engine.connect() as connection:
        for webhook in list_webhooks(connection):
            url = endpoint_url(settings.public_url, webhook["endpoint_key"])
            say(f"registered  {webhook['organization_reference_id']}  {url}")


def wait_for(*urls: str) -> None:
    """Return when each of *urls* answers 200. Raises ``httpx.HTTPError`` when one does not within a minute."""
    for url in urls:
        for attempt in stamina.retry_context(
            on=httpx.HTTPError, attempts=None, timeout=READY_SECONDS, wait_initial=0.1, wait_max=0.5, wait_jitter=0
        ):
            with attempt:
                httpx.get(url, verify=tls_context(), timeout=5, trust_env=False).raise_for_status()


def addresses(servers: LocalServers, opencard: Mapping[str, str], access: ConsoleAccess) -> list[tuple[str, str]]:
    """Return where everything is; the console, with its password, comes last."""
    return [
        ("web", f"{servers.settings.public_url}/readyz"),
        ("OpenCard", opencard["OPENCARD_API_URL"]),
        ("PostgreSQL", servers.environment["DATABASE_URL"]),
        ("Valkey", servers.environment["REDIS_URL"]),
        ("the tables", psql(servers, "TABLE ems.ledger")),
        ("as the EMS", f"{postgres_program('psql')} '{reader_address(servers.engine)}'"),
        ("the feed", following(servers)),
        ("commands", f"cd {servers.folder}; . ./environment; receiver doctor"),
        ("console", f"{servers.settings.public_url}/ops/  user {access.name}, password {access.password}"),
    ]


def print_addresses(rows: Sequence[tuple[str, str]], say: Callable[[str], None]) -> None:
    """Print *rows* as a table."""
    width = max(len(name) for name, _ in rows)
    for name, address in rows:
        say(f"{name:<{width}}  {address}")


def wait_for_failures(engine: Engine) -> bool:
    """Return whether the deliveries that fail with ``--broken`` are dead within a minute."""
    with suppress(LookupError, SQLAlchemyError):  # not within a minute, or PostgreSQL was stopped by Ctrl+C
        for attempt in stamina.retry_context(
            on=LookupError, attempts=None, timeout=READY_SECONDS, wait_initial=0.5, wait_max=0.5, wait_jitter=0
        ):
            with attempt, engine.connect() as connection:
                if connection.execute(_DEAD).scalar_one() < BROKEN:
                    raise LookupError
                return True
    return False


def psql(servers: LocalServers, statement: str) -> str:
    """Return the line that runs a statement from a shell."""
    return f"{postgres_program('psql')} '{servers.environment['DATABASE_URL']}' -c '{statement}'"


def following(servers: LocalServers) -> str:
    """Return the line that follows the ledger from outside the processes, with tables in a separate database."""
    own = servers.postgres.create_database("following", drop_first=True)
    program = project_file("examples") / "ems_reader.py"
    return f"EMS_URL='{reader_address(servers.engine)}' OWN_URL='{own}' {sys.executable} {program} ledger"


def write_environment(path: Path, variables: Mapping[str, str]) -> None:
    """Write what a shell needs to run commands alongside the processes, secrets included, for this user only."""
    changed = {name: value for name, value in variables.items() if os.environ.get(name) != value}
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in changed.items()))

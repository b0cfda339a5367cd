"""Development: everything on this machine, staying up, with a slow stream of purchases."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Final

import msgspec
from honcho.environ import parse_procfile
from honcho.manager import Manager
from honcho.printer import Printer

from receiver.migrate import project_file
from receiver.sandbox.embedded import postgres_program
from receiver.sandbox.local import PROCESSES, adopt_two_webhooks, local_servers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from receiver.sandbox.local import LocalServers
    from receiver.sandbox.registration import Registration

COMPRESSION: Final = 7200
"""Virtual seconds in a real one: two hours of the story pass each second."""
INTERRUPTED: Final = (130, 143)
"""What honcho ends with after Ctrl+C and SIGTERM: the wanted end."""


def run_dev(*, port: int, say: Callable[[str], None]) -> int:
    """Run until Ctrl+C and return the exit code; logs go to standard output, a colour for each process."""
    with local_servers("dev", port=port) as servers:
        registrations = adopt_two_webhooks(servers)
        webhooks_file = servers.folder / "webhooks.json"
        write_registrations(webhooks_file, registrations)
        for line in addresses(servers, registrations):
            say(line)
        manager = Manager(Printer(sys.stdout))
        environment = {**servers.environment, "LOG_FORMAT": "console", "PYTHONUNBUFFERED": "1"}
        commands = parse_procfile(project_file("Procfile").read_text()).processes
        for name in PROCESSES:
            manager.add_process(name, f"exec {commands[name]}", env=environment)
        manager.add_process(
            "opencard",
            f"exec receiver sandbox --webhooks {shlex.quote(str(webhooks_file))} --repeat --compression {COMPRESSION} "
            "--duplicates 0.1 --disorder 0.1 --lost-answers 0.05 --bursts 0.1",
            env=environment,
        )
        manager.loop()
        return 0 if manager.returncode in INTERRUPTED else int(manager.returncode or 0)


def addresses(servers: LocalServers, registrations: list[Registration]) -> list[str]:
    """Return where everything is, a line each."""
    rows = [
        ("web", f"{servers.settings.public_url}/readyz"),
        *((f"endpoint of {hook.organization_reference_id}", hook.url) for hook in registrations),
        ("PostgreSQL", servers.environment["DATABASE_URL"]),
        ("Valkey", servers.environment["REDIS_URL"]),
        ("the tables", f"{postgres_program('psql')} '{servers.environment['DATABASE_URL']}' -c 'TABLE ems.ledger'"),
    ]
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {address}" for name, address in rows]


def write_registrations(path: Path, registrations: list[Registration]) -> None:
    """Write what the local OpenCard knows of the webhooks, secrets included, for this user only."""
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.encode(registrations))

"""The program ``receiver``: one module for each group of commands, thin: parse, call, print."""

from __future__ import annotations

import difflib
import errno
import os
import sys
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from typing import Any, Final

import click
from psycopg.errors import InvalidSchemaName, UndefinedColumn, UndefinedTable
from sqlalchemy.exc import DBAPIError, OperationalError

from receiver.cli.group import Group
from receiver.counter_store import Flusher, connecting
from receiver.db import was_cut_off
from receiver.errors import ConfigurationError, OperationRefused, ReceiverError
from receiver.settings import read_settings

COMMANDS: Final = {
    "db": "receiver.cli.db:db",
    "bootstrap": "receiver.cli.bootstrap:bootstrap",
    "webhooks": "receiver.cli.webhooks:webhooks",
    "reconcile": "receiver.cli.reconcile:reconcile",
    "recover": "receiver.cli.recover:recover",
    "drill": "receiver.cli.drill:drill",
    "deliveries": "receiver.cli.deliveries:deliveries",
    "transactions": "receiver.cli.transactions:transactions",
    "replay": "receiver.cli.replay:replay",
    "verify": "receiver.cli.verify:verify",
    "rebuild": "receiver.cli.verify:rebuild",
    "close": "receiver.cli.close:close",
    "status": "receiver.cli.status:status",
    "issues": "receiver.cli.issues:issues",
    "notify": "receiver.cli.notify:notify",
    "audit": "receiver.cli.audit:audit",
    "clients": "receiver.cli.clients:clients",
    "scopes": "receiver.cli.scopes:scopes",
    "files": "receiver.cli.files:files",
    "export": "receiver.cli.export:export",
    "keys": "receiver.cli.keys:keys",
    "retention": "receiver.cli.retention:retention",
    "ops": "receiver.cli.ops:ops",
    "completion": "receiver.cli.completion:completion",
    "doctor": "receiver.cli.doctor:doctor",
    "worker": "receiver.cli.processes:worker",
    "scheduler": "receiver.cli.processes:scheduler",
    "sandbox": "receiver.cli.sandbox:sandbox",
    "trigger": "receiver.cli.trigger:trigger",
    "demo": "receiver.cli.demo:demo",
    "dev": "receiver.cli.demo:dev",
}
"""Command → where it is; imported when it is asked for, so that the program starts fast."""

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2

UNWRITABLE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
"""What the operating system answers when there is no room for what is written, or no way to write it."""


class LazyGroup(Group):
    """A group that imports a command when it is needed, and turns this service's errors into words and exit codes."""

    def main(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - click's signature
        """Run the program: characters that its output cannot encode are replaced, a full disk is one line."""
        if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
            sys.stdout.reconfigure(errors="replace")
        try:
            return super().main(*arguments, **options)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            _drop_output()
            with suppress(OSError):
                click.echo(f"receiver: cannot write {error.filename or 'the output'}: {error.strerror}", err=True)
            sys.exit(EXIT_FAILED)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of the help text."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command; one that needs the ``dev`` extra where that is missing only says so when it is run."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        try:
            command = getattr(import_module(module), name)
        except OperationRefused as refused:
            return _unavailable(cmd_name, refused)
        assert isinstance(command, click.Command)  # noqa: S101 - the table above is ours
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; of one that does not exist, name the nearest."""
        if not args[0].startswith("-") and args[0] not in COMMANDS:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command. Exit codes: 1 failed or drift found, 2 wrong usage or configuration."""
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            click.echo(str(error), err=True)
            sys.exit(EXIT_USAGE)
        except ReceiverError as error:
            click.echo(f"receiver: {error}", err=True)
            sys.exit(EXIT_FAILED)
        except DBAPIError as error:
            if isinstance(error.orig, UndefinedTable | UndefinedColumn | InvalidSchemaName):
                message = "the database is not migrated to this release: run receiver db upgrade"
            elif isinstance(error, OperationalError) or was_cut_off(error):
                message = f"PostgreSQL (DATABASE_URL) failed: {' '.join(str(error.orig).split())}"
            else:
                raise
            click.echo(f"receiver: {message}", err=True)
            sys.exit(EXIT_FAILED)
        finally:
            _flush_counters()


def _flush_counters() -> None:
    """Store the command's counts, mostly calls of OpenCard's API, in PostgreSQL, if it is reachable."""
    settings, _ = read_settings(os.environ, required=())
    if settings.database_url:
        Flusher(connecting(settings.database_url)).flush()


def _drop_output() -> None:
    """Discard the rest of the output: Python would try to write it again at exit, and print an error."""
    with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - no Path for a name
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _unavailable(name: str, refused: OperationRefused) -> click.Command:
    def refuse() -> None:
        raise refused

    return click.Command(
        name,
        callback=refuse,
        help=f"Not available: {refused}",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="opencard-receiver", message="%(package)s %(version)s")
def main() -> None:
    """Receive OpenCard's webhook deliveries and turn them into tables.

    Settings come from the environment; .env.example describes each variable.

    Exit codes: 0 done, 1 failed or drift found, 2 wrong usage or configuration.
    """

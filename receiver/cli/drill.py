"""``receiver drill``: a restore, practised next to production."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import click

from receiver.cli.logs import configure_command_logs
from receiver.cli.output import json_option, print_json, print_rows, progress_bar
from receiver.errors import ConfigurationError, OperationRefused, ReceiverError
from receiver.files.store import FileStore
from receiver.ops.drill.backups import Backup, BackupKind, find_backup
from receiver.ops.drill.examine import Drill, examine, stopped
from receiver.ops.drill.server import RestoreOptions, restored_server
from receiver.settings import REQUIRED_FOR_API, load_settings

REQUIRED = REQUIRED_FOR_API - {"REDIS_URL"}
FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.argument("backup", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--pgbackrest", "stanza", metavar="STANZA", help="Restore the latest backup of pgBackRest instead.")
@click.option("--restore-command", metavar="COMMAND", default="", help="Fetches archived WAL, as in postgresql.conf.")
@click.option("--postgres-bin", type=FOLDER, help="The folder of PostgreSQL's programs, if it is not found.")
@click.option("--postgres-user", default="postgres", show_default=True, help="As root: run PostgreSQL as this user.")
@click.option("--folder", type=FOLDER, help="A new folder to restore into.  [default: a temporary one]")
@click.option("--keep", is_flag=True, help="Keep the restored data folder.")
@json_option
def drill(
    backup: Path | None,
    stanza: str | None,
    restore_command: str,
    postgres_bin: Path | None,
    postgres_user: str,
    folder: Path | None,
    keep: bool,
    as_json: bool,
) -> None:
    """Practise a restore next to production, and report what it would bring.

    BACKUP is a base backup (the folder of pg_basebackup, plain or tar), a dump of pg_dump, or a folder of such, of
    which the newest is used. It is restored on this machine, into a separate server that listens on a Unix socket
    only and ends with the command. There the schema is checked, everything encrypted is decrypted, and what is missing
    is recovered from OpenCard's delivery log and applied. OpenCard is only read from; production's PostgreSQL and Redis
    are not connected to.

    Exit codes: 0 every check passed, 1 a check failed or the backup could not be restored, 2 wrong usage.

    Example: receiver drill /var/backups/receiver
    """
    if (backup is None) == (stanza is None):
        raise click.UsageError("give either BACKUP or --pgbackrest STANZA")
    settings = replace(load_settings(os.environ, required=REQUIRED), log_level="ERROR", sentry_dsn="")
    configure_command_logs(settings)
    try:
        chosen = find_backup(backup) if backup is not None else Backup(BackupKind.PGBACKREST, str(stanza))
    except (OperationRefused, OSError) as error:
        raise click.UsageError(str(error)) from None
    chosen = replace(chosen, restore_command=restore_command)
    options = RestoreOptions(postgres_bin, postgres_user, folder, keep)
    files = FileStore(settings.files_url)  # before hours of restoring: it may be refused
    result = Drill(chosen.place, chosen.kind)
    kept = None
    try:
        with (
            progress_bar() as progress,
            restored_server(chosen, settings.database_url, options, stage=progress.stage) as server,
        ):
            kept = server.folder / "data" if keep else None
            examine(server, settings, files, result, progress)
    except ConfigurationError:
        raise
    except ReceiverError as error:
        stopped(result, error)
    if as_json:
        print_json(result)
    else:
        click.echo(f"{result.kind}: {result.backup}")
        rows = [{"check": each.check, "state": each.state.value, "detail": each.detail} for each in result.checks]
        print_rows(rows, {"state": "state", "check": "check", "detail": "detail"}, empty="")
    if kept is not None:
        click.echo(f"the restored data folder: {kept}", err=True)
    sys.exit(0 if result.fits else 1)

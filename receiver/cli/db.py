"""``receiver db``: migrations and read access."""

from __future__ import annotations

import os
import sys

import click

from receiver.cli.consumers import consumers
from receiver.cli.group import Group
from receiver.cli.output import json_option, print_json
from receiver.cli.readers import grant_reader, list_readers, revoke_reader
from receiver.cli.recorded import RecordedCommand
from receiver.connections import MIGRATE
from receiver.db import one_connection
from receiver.migrate import current_revision, differences, head_revision, is_newer, upgrade
from receiver.ops.deploys import note_release
from receiver.settings import REQUIRED_FOR_DATABASE, load_settings


@click.group(cls=Group)
def db() -> None:
    """Migrate the database, check it, and grant read access."""


for command in (grant_reader, revoke_reader, list_readers, consumers):
    db.add_command(command)


def _database_url() -> str:
    return load_settings(os.environ, required=REQUIRED_FOR_DATABASE).database_url


@db.command("upgrade", cls=RecordedCommand)
def upgrade_command() -> None:
    """Run the missing migrations.

    Safe to run while the old release is serving, and by several machines at once: one migrates, the others wait.
    Each run is marked as a deploy in the console's chart. After a newer release has migrated, an older one has nothing
    to do.

    Example: receiver db upgrade
    """
    with one_connection(_database_url(), application="migrate", timeouts=MIGRATE) as connection:
        before = current_revision(connection)
        connection.rollback()
        upgrade(connection)
        after = current_revision(connection)
        connection.rollback()
        note_release(connection)
    if is_newer(after):
        click.echo(f"at {after}, newer than this release's {head_revision()}: nothing to migrate")
    elif before == after:
        click.echo(f"already at {after}")
    else:
        click.echo(f"migrated from {before or 'nothing'} to {after}")


@db.command()
@json_option
def current(as_json: bool) -> None:
    """Show the database's revision and this release's.

    Example: receiver db current --json
    """
    with one_connection(_database_url(), application="migrate", timeouts=MIGRATE) as connection:
        revision = current_revision(connection)
    head = head_revision()
    if as_json:
        print_json({"current": revision, "head": head})
    else:
        click.echo(f"current  {revision or 'not migrated'}")
        click.echo(f"head     {head}")


@db.command()
@json_option
def check(as_json: bool) -> None:
    """Check that database, migrations and models agree.

    Also check that the migrations have one head, not two branches. Exit code 1, and a line for each difference, when
    they do not agree.

    Example: receiver db check
    """
    with one_connection(_database_url(), application="migrate", timeouts=MIGRATE) as connection:
        found = differences(connection)
    if as_json:
        print_json({"differences": found})
    elif found:
        for difference in found:
            click.echo(difference)
    else:
        click.echo(f"database, migrations and models agree at {head_revision()}")
    sys.exit(1 if found else 0)

"""``receiver verify`` and ``receiver rebuild``: the tables of ``ems`` derived again from events and deliveries."""

from __future__ import annotations

import os
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from receiver.cli.filters import check_organizations
from receiver.cli.logs import configure_command_logs
from receiver.cli.output import counted, json_option, print_json, print_rows, progress_bar
from receiver.cli.recorded import RecordedCommand
from receiver.connections import LONG
from receiver.db import engine_for
from receiver.records.write import writing_connection
from receiver.settings import REQUIRED_FOR_DATABASE, load_settings
from receiver.verify import run as verifying

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import psycopg

    from receiver.verify.difference import RowDifference

Command = TypeVar("Command", bound="Callable[..., Any]")

MAX_SHOWN = 200
"""How many differences are printed; ``--json`` has all."""


def _of_organizations(command: Command) -> Command:
    return click.option(
        "--organization", "organizations", metavar="REF", multiple=True, help="Only this organization; repeatable."
    )(command)


@click.command()
@_of_organizations
@json_option
def verify(organizations: tuple[str, ...], as_json: bool) -> None:
    """Derive the tables of ems again and show the rows that differ.

    Events are derived from the deliveries that still have their bodies, rows from the events. Nothing is written; safe
    while the service runs. Exit code 1 when anything differs: receiver rebuild corrects it.

    Example: receiver verify --organization acme
    """
    with _connection(organizations) as connection, progress_bar() as progress:
        found = list(verifying.verify(connection, organizations or None, progress))
    _print(found, "differ", as_json=as_json)
    if found:
        raise click.exceptions.Exit(1)


@click.command(cls=RecordedCommand, about=("organizations",))
@_of_organizations
@json_option
def rebuild(organizations: tuple[str, ...], as_json: bool) -> None:
    """Correct the rows of ems that verify finds.

    Each row that differs is written as derived from its events, and announced in the feed (receiver.changed). Safe
    while the service runs; may be interrupted and repeated. Prints what it wrote. After an upgrade with a corrected
    mapping it applies that mapping to stored data.

    Example: receiver rebuild --organization acme
    """
    with _connection(organizations) as connection, progress_bar() as progress:
        found = list(verifying.rebuild(connection, organizations or None, progress))
    _print(found, "rebuilt", as_json=as_json)


@contextmanager
def _connection(organizations: Sequence[str]) -> Iterator[psycopg.Connection[Any]]:
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    configure_command_logs(settings)
    engine = engine_for(settings.database_url, application="verify", timeouts=LONG)
    try:
        with engine.connect() as connection:
            check_organizations(connection, organizations)
        with closing(writing_connection(engine)) as own:
            yield own
    finally:
        engine.dispose()


def _print(found: Sequence[RowDifference], done: str, *, as_json: bool) -> None:
    if as_json:
        print_json(
            [
                {
                    "table": each.table,
                    "key": each.key,
                    "problem": each.problem,
                    "columns": {
                        name: {"stored": stored, "expected": expected}
                        for name, (stored, expected) in each.columns.items()
                    },
                }
                for each in found
            ]
        )
        return
    rows = [
        {
            "table": each.table,
            "key": ", ".join(str(value) for value in each.key.values()),
            "problem": each.problem,
            "columns": ", ".join(each.columns),
        }
        for each in found[:MAX_SHOWN]
    ]
    columns = {"table": "Table", "key": "Key", "problem": "Problem", "columns": "Columns"}
    print_rows(rows, columns, empty="No rows differ.")
    if found:
        shown = "" if len(found) <= MAX_SHOWN else f" (the first {MAX_SHOWN} are shown, --json has all)"
        click.echo(f"{counted(len(found), 'row')} {done}{shown}")

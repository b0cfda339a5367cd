"""``receiver db grant-reader``, ``revoke-reader`` and ``readers``: read access to schema ``ems``."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from receiver.cli.output import json_option, print_fields, print_json, print_rows
from receiver.cli.recorded import RecordedCommand
from receiver.db import one_connection
from receiver.errors import OperationRefused
from receiver.readers import grants as readers
from receiver.settings import REQUIRED_FOR_DATABASE, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from receiver.readers.grants import Reader

LOCK_NOT_AVAILABLE: Final = "55P03"


@click.command("grant-reader", cls=RecordedCommand, about=("role", "organizations", "consumers", "replication"))
@click.argument("role")
@click.option(
    "--organization",
    "organizations",
    metavar="REF",
    multiple=True,
    help="The EMS's own id of an organization: the reader sees only this one. Repeatable.",
)
@click.option(
    "--consumer",
    "consumers",
    metavar="NAME",
    multiple=True,
    help="A name under which the reader may call ems.commit_position, besides its own. May be repeated.",
)
@click.option("--replication", is_flag=True, help="Publish schema ems for logical replication, for this reader.")
@json_option
def grant_reader(
    role: str, organizations: tuple[str, ...], consumers: tuple[str, ...], replication: bool, as_json: bool
) -> None:
    """Let a role read schema ems, and nothing else.

    The role must exist. It may read every table and view, those of later releases included, use LISTEN ems_events, and
    report with ems.commit_position how far it has read; it can write nothing else and cannot see schema receiver. With
    --organization it sees only the rows of these organizations, in every table and view; this needs PostgreSQL 15 or
    newer. With --replication, for a role that has REPLICATION, the tables are published as publication ems. Run it
    again to change the organizations.

    Example: receiver db grant-reader ems_reader
    """
    with _connection() as connection:
        reader = readers.grant(connection, role, organizations, consumers, replication=replication)
        notes = readers.publish(connection) if replication else []
        unknown = _unknown(connection, organizations)
    for organization in unknown:
        click.echo(f"note: organization {organization!r} has no webhook; check the spelling", err=True)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    if as_json:
        print_json(_fields(reader))
    else:
        print_fields({"reader": reader.role, "organizations": _organizations(reader), "reads": "schema ems"})


@click.command("revoke-reader", cls=RecordedCommand, about=("role",))
@click.argument("role")
@json_option
def revoke_reader(role: str, as_json: bool) -> None:
    """Revoke a role's access to schema ems.

    The role itself is kept; its consumers of the feed are dropped. Running it again changes nothing.

    Example: receiver db revoke-reader ems_reader
    """
    with _connection() as connection:
        revoked = readers.revoke(connection, role)
    if as_json:
        print_json({"role": role, "revoked": revoked})
    else:
        click.echo(f"{role} can no longer read schema ems" if revoked else f"{role} had no access to schema ems")


@click.command("readers")
@json_option
def list_readers(as_json: bool) -> None:
    """List the roles that may read schema ems.

    With the organizations that each of them sees.

    Example: receiver db readers
    """
    with _connection() as connection:
        found = readers.readers(connection)
    if as_json:
        print_json([_fields(reader) for reader in found])
    else:
        rows = [{"role": reader.role, "organizations": _organizations(reader)} for reader in found]
        print_rows(
            rows,
            {"role": "role", "organizations": "organizations"},
            empty="only the owner reads schema ems; to grant access: receiver db grant-reader ROLE",
        )


@contextmanager
def _connection() -> Iterator[Connection]:
    url = load_settings(os.environ, required=REQUIRED_FOR_DATABASE).database_url
    with one_connection(url, application="command") as connection:
        try:
            yield connection
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            raise OperationRefused(
                "a table of schema ems was locked for too long; what was done so far is kept: run this again"
            ) from None


def _unknown(connection: Connection, organizations: tuple[str, ...]) -> list[str]:
    known = set(connection.scalars(text("SELECT organization_reference_id FROM receiver.webhooks")))
    return [organization for organization in organizations if organization not in known]


def _fields(reader: Reader) -> dict[str, Any]:
    return {"role": reader.role, "organizations": reader.organizations}


def _organizations(reader: Reader) -> str:
    return "all" if reader.organizations is None else ", ".join(reader.organizations)

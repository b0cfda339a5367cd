"""``receiver audit``: who did what."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from receiver.cli.group import Group
from receiver.cli.output import counted, json_option, print_json, print_rows
from receiver.cli.parameters import ID, MOMENT, PAST, WholeNumber
from receiver.connections import WEB
from receiver.db import one_connection
from receiver.ops.audit import AuditFilter, list_actions, list_acts
from receiver.settings import REQUIRED_FOR_DATABASE, load_settings

if TYPE_CHECKING:
    from datetime import datetime

COLUMNS: Final = {
    "id": "id",
    "at": "time",
    "actor": "user",
    "via": "via",
    "address": "address",
    "action": "action",
    "object": "object",
    "outcome": "outcome",
    "error": "error",
    "reason": "reason",
}
OPTIONAL: Final = ("via", "address", "reason", "error")
"""Columns that a narrow terminal does without."""


@click.group(cls=Group)
def audit() -> None:
    """See who did what: changes, views of personal data, and sign-ins.

    Every command and every form of the console that changes something is recorded in receiver.audit.
    """


@audit.command("list")
@click.option("--since", type=PAST, metavar="TIME", help="Recorded since: 24h, 7d, or 2026-02-13T09:30 (UTC).")
@click.option("--until", type=MOMENT, metavar="TIME", help="Recorded before this time.")
@click.option("--actor", metavar="NAME", help="A user of the console, or user@host of the command line.")
@click.option("--action", metavar="NAME", help='A command, such as "webhooks rotate-secret", or sign-in.')
@click.option("--limit", type=WholeNumber(1, 10_000), default=100, show_default=True, help="How many at most.")
@click.option("--before", type=ID, metavar="ID", help="Only older ones: with smaller ids than this.")
@json_option
def list_command(
    since: datetime | None,
    until: datetime | None,
    actor: str | None,
    action: str | None,
    limit: int,
    before: int | None,
    as_json: bool,
) -> None:
    """List records, newest first.

    When there are more, the last line says how to continue.

    Example: receiver audit list --since 7d --action replay
    """
    wanted = AuditFilter(since=since, until=until, actor=actor, action=action)
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    with one_connection(settings.database_url, application="audit", timeouts=WEB) as connection:
        found = list_acts(connection, wanted, before=before, limit=limit + 1)
        known = [] if found or action is None else list_actions(connection)
    shown = found[:limit]
    if as_json:
        print_json([asdict(act) for act in shown])
    else:
        recorded = f"; recorded actions: {', '.join(known)}" if known and action not in known else ""
        print_rows([asdict(act) for act in shown], COLUMNS, empty=f"no records match{recorded}", optional=OPTIONAL)
    if len(found) > limit:
        click.echo(f"{counted(limit, 'line')}; there are more: --before {shown[-1].id}", err=True)

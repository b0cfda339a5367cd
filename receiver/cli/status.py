"""``receiver status``: what waits, and what has been checked, on one screen."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click
from sqlalchemy import text

from receiver.cli.output import json_option, print_fields, print_json, print_rows, words
from receiver.db import one_connection
from receiver.ops.status import WAITING, read_standing, what_needs_a_person
from receiver.reconcile.schedule import what_is_missing
from receiver.settings import REQUIRED_FOR_DATABASE, load_settings

if TYPE_CHECKING:
    from receiver.ops.status import Standing


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Show what waits, and up to when each organization's deliveries are proven to be complete.

    Exit code 1 when something needs a person; each such thing is named.

    Example: receiver status
    """
    settings = load_settings(os.environ, required=REQUIRED_FOR_DATABASE)
    missing = what_is_missing(settings)
    with one_connection(settings.database_url, application="status") as connection:
        standing = read_standing(lambda query: [*map(dict, connection.execute(text(query)).mappings())])
    # where no runs are wanted, or none can be, it is one thing to tell and not one for each webhook
    attention = what_needs_a_person(
        standing, interval=None if missing else timedelta(seconds=settings.reconcile_interval)
    )
    if missing and settings.reconcile_interval and standing.webhooks:
        attention.append(f"webhooks are not reconciled: {missing}")
    if as_json:
        print_json(_as_document(standing, attention))
    else:
        _print(standing, attention)
    sys.exit(1 if attention else 0)


def _as_document(standing: Standing, attention: list[str]) -> dict[str, object]:
    return {
        **{name: each.number for name, each in standing.deliveries.items()},
        "oldest_waiting_received_at": standing.oldest_waiting,
        "inactive_webhooks": [
            {
                "webhook_id": webhook.webhook_id,
                "opencard_webhook_id": webhook.opencard_webhook_id,
                "organization_reference_id": webhook.organization_reference_id,
            }
            for webhook in standing.inactive
        ],
        "organizations": standing.organizations,
        "needs_a_person": attention,
    }


def _print(standing: Standing, attention: list[str]) -> None:
    waiting = ", ".join(f"{standing.deliveries[name].number} {name}" for name in WAITING)
    oldest = standing.oldest_waiting
    print_fields(
        {
            "waiting": waiting if oldest is None else f"{waiting}; the oldest for {_age(standing.at - oldest)}",
            **{
                name: each.number if each.oldest is None else f"{each.number} since {words(each.oldest)}"
                for name, each in standing.deliveries.items()
                if name not in WAITING
            },
            "webhooks": f"{len(standing.webhooks)}"
            + (f", {len(standing.inactive)} of them not active" if standing.inactive else ""),
        }
    )
    click.echo()
    print_rows(
        [
            {
                **asdict(each),
                "checked_until": _checked(each.checked_until, standing.at),
                "failed": each.last_error is not None,
            }
            for each in standing.organizations
        ],
        {
            "organization_reference_id": "organization",
            "checked_until": "checked up to",
            "recovered": "recovered",
            "unconfirmed": "unconfirmed",
            "unrecoverable": "unrecoverable",
            "failed": "last run failed",
        },
        empty="no webhook in care; receiver bootstrap registers them",
    )
    click.echo()
    for line in attention:
        click.echo(line, err=True)
    click.echo(f"{len(attention)} to look at" if attention else "nothing needs a person")


def _checked(until: datetime | None, at: datetime) -> str:
    return "never" if until is None else f"{words(until)}, {_age(at - until)} ago"


def _age(length: timedelta) -> str:
    """Return a length of time in its two largest units."""
    seconds = max(0, int(length.total_seconds()))
    parts = (("d", seconds // 86400), ("h", seconds // 3600 % 24), ("min", seconds // 60 % 60), ("s", seconds % 60))
    first = next((place for place, (_, number) in enumerate(parts) if number), len(parts) - 1)
    return " ".join(f"{number} {unit}" for unit, number in parts[first : first + 2] if number) or "0 s"

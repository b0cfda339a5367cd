"""Options that select deliveries, and the check of the organizations that any command is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
from sqlalchemy import text

from receiver.bootstrap.desired import nearest
from receiver.cli.parameters import MOMENT, PAST
from receiver.deliveries.models import STATUSES
from receiver.errors import OperationRefused
from receiver.events.catalogue import spellings
from receiver.ops.deliveries import Filter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

AGAIN = "repeatable"
FILTER: Final = ("statuses", "events", "organizations", "since", "until", "error")
"""The parameters that ``filter_options`` adds."""


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that restrict deliveries by status, event, organization, time and error."""
    for option in (
        click.option(
            "--unresolved", is_flag=True, help="Failed, dead, quarantined or ignored, not resolved, and not a test."
        ),
        click.option("--error", metavar="TEXT", help="Text in the error's first line; * matches anything."),
        click.option("--until", type=MOMENT, metavar="TIME", help="Received before this time."),
        click.option("--since", type=PAST, metavar="TIME", help="Received since: 24h, 7d, or 2026-02-13T09:30 (UTC)."),
        click.option("--organization", "organizations", multiple=True, metavar="REF", help=f"Organization; {AGAIN}."),
        click.option("--event", "events", multiple=True, metavar="NAME", help=f"Event; {AGAIN}."),
        click.option("--status", "statuses", multiple=True, type=click.Choice(STATUSES), help=f"Status; {AGAIN}."),
    ):
        command = option(command)
    return command


def filter_of(
    *,
    statuses: Sequence[str],
    events: Sequence[str],
    organizations: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    error: str | None,
    unresolved: bool,
) -> Filter:
    """Return what the options say; an event matches in every spelling of its name."""
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since is not before --until: nothing was received in between")
    return Filter(
        statuses=tuple(dict.fromkeys(statuses)),
        events=tuple(dict.fromkeys(name for event in events for name in spellings(event))),
        organizations=tuple(dict.fromkeys(organizations)),
        since=since,
        until=until,
        error=error or None,
        unresolved=unresolved,
    )


def check_organizations(connection: Connection, organizations: Sequence[str]) -> None:
    """Raise ``OperationRefused`` for an organization without a webhook, so that no misspelled name finds nothing."""
    if not organizations:
        return
    known = connection.scalars(
        text("SELECT DISTINCT organization_reference_id FROM receiver.webhooks ORDER BY 1")
    ).all()
    for name in organizations:
        if name not in known:
            near = nearest(name, known) if known else "no webhooks are registered"
            raise OperationRefused(f"organization {name!r} has no webhook; {near}")

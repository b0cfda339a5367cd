"""The first page: the status of the service, what failed, and what needs attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flask import Blueprint, render_template

from receiver.ops.activity import MOST_FAILURES, deliveries_by_hour, failures_by_error, rate
from receiver.ops.attention import what_needs_attention
from receiver.ops.console.chart import chart_of
from receiver.ops.console.parts import console, query_of, reading
from receiver.ops.issues.store import accepted
from receiver.ops.status import read_status
from receiver.ops.storing import storage_error
from receiver.ops.workers import describe_workers, seen_workers

if TYPE_CHECKING:
    from receiver.ops.status import OrganizationStatus

blueprint = Blueprint("overview", __name__)

HOURS: Final = 24
MOST_GROUPS: Final = 10
MOST_ORGANIZATIONS: Final = 20


@blueprint.get("/")
def overview() -> str:
    """Show the status of the service."""
    with reading() as connection:
        service = read_status(query_of(connection))
        hours = deliveries_by_hour(connection, hours=HOURS)
        failures = failures_by_error(connection)
        pace = rate(connection)
    with console().engine.connect() as connection:  # one that may write
        refusal = storage_error(connection)
    workers = seen_workers(console().settings.redis_url)
    found = what_needs_attention(service, console().settings, failures=failures, refusal=refusal, workers=workers)
    with reading() as connection:
        known = accepted(connection, found, at=service.at)
    organizations = sorted(service.organizations, key=_nothing_open)
    this_hour = service.at.replace(minute=0, second=0, microsecond=0)
    return render_template(
        "overview.html",
        service=service,
        attention=[each for each in found if each not in known],
        acknowledged=known,
        workers=describe_workers(workers),
        organizations=organizations[:MOST_ORGANIZATIONS],
        more_organizations=len(organizations) - MOST_ORGANIZATIONS,
        failures=failures[:MOST_GROUPS],
        only_the_newest=service.failures > MOST_FAILURES and MOST_FAILURES,
        more_failures=len(failures) - MOST_GROUPS,
        chart=chart_of(hours, last=this_hour, hours=HOURS),
        received=sum(each.deliveries for each in hours),
        rate=pace,
    )


def _nothing_open(organization: OrganizationStatus) -> bool:
    """Sort key: organizations that need attention are first (``False`` before ``True``)."""
    return not (organization.unconfirmed or organization.unrecoverable or organization.last_error)

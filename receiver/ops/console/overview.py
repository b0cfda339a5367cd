"""The first page: whether all is well, what needs attention, and the outcomes of the deliveries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flask import Blueprint, abort, render_template, request

from receiver.ops.activity import MAX_FAILURES, failures_by_error, rate
from receiver.ops.attention import what_needs_attention
from receiver.ops.console.chart import chart_of, place_in
from receiver.ops.console.parts import console, query_of, reading
from receiver.ops.deploys import read_deploys
from receiver.ops.findings import Severity
from receiver.ops.issues.lifecycle import State
from receiver.ops.issues.store import accepted, list_issues
from receiver.ops.status import read_status
from receiver.ops.storing import storage_error
from receiver.ops.traffic import (
    RANGES,
    read_completeness,
    read_latency,
    read_outages,
    read_replays,
    read_traffic,
    totals,
)
from receiver.ops.workers import describe_workers, seen_workers

if TYPE_CHECKING:
    from receiver.ops.status import OrganizationStatus

blueprint = Blueprint("overview", __name__)

RANGE: Final = "24h"
"""The range of the chart by default."""
HOURS: Final = 24
"""Of completeness."""
MAX_GROUPS: Final = 10
MAX_ORGANIZATIONS: Final = 20
MAX_ISSUES: Final = 200


@blueprint.get("/")
def overview() -> str:
    """Show the status of the service."""
    chosen = RANGES.get(request.args.get("range", RANGE))
    if chosen is None:
        abort(404)
    with reading() as connection:
        service = read_status(query_of(connection))
        failures = failures_by_error(connection)
        parts = read_traffic(connection, chosen, service.at)
        replays, deploys = read_replays(connection, parts[0].at), read_deploys(connection, parts[0].at)
        outages = read_outages(connection, parts[0].at)
        pace, latency = rate(connection), read_latency(connection)
        organizations = sorted(service.organizations, key=_nothing_open)
        completeness = read_completeness(
            connection,
            {each.organization_reference_id: each.checked_until for each in organizations[:MAX_ORGANIZATIONS]},
            service.at,
            hours=HOURS,
        )
    with console().engine.connect() as connection:  # one that may write
        refusal = storage_error(connection)
    workers = seen_workers(console().settings.redis_url)
    found = what_needs_attention(service, console().settings, failures=failures, refusal=refusal, workers=workers)
    with reading() as connection:
        known = accepted(connection, found, at=service.at)
        issues = list_issues(connection, states=(State.OPEN, State.ACKNOWLEDGED), limit=MAX_ISSUES)
    chart = chart_of(parts)
    attention = [each for each in found if each not in known]
    return render_template(
        "overview.html",
        service=service,
        attention=attention,
        worst=max((each.severity for each in attention), default=None),
        critical=Severity.CRITICAL,
        acknowledged=known,
        issues={(each.issue.kind, each.issue.subject): each.id for each in issues},
        workers=describe_workers(workers),
        organizations=organizations[:MAX_ORGANIZATIONS],
        more_organizations=len(organizations) - MAX_ORGANIZATIONS,
        completeness=completeness,
        failures=failures[:MAX_GROUPS],
        only_the_newest=service.failures > MAX_FAILURES and MAX_FAILURES,
        more_failures=len(failures) - MAX_GROUPS,
        ranges=RANGES.values(),
        chosen=chosen,
        chart=chart,
        marks=[(each, place_in(chart, parts, chosen.step, each.at)) for each in replays],
        deploys=[(each, place_in(chart, parts, chosen.step, each.at)) for each in deploys],
        outages=[
            (each, *(place_in(chart, parts, chosen.step, moment) for moment in (each.began, each.ended or service.at)))
            for each in outages
        ],
        sums=totals(parts),
        rate=pace,
        latency=latency,
    )


def _nothing_open(organization: OrganizationStatus) -> bool:
    """Sort key: organizations that need attention are first (``False`` before ``True``)."""
    return not (organization.unconfirmed or organization.unrecoverable or organization.last_error)

"""The runs of reconcile, newest first."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, render_template, request
from sqlalchemy import text

from receiver.ops.console.parts import PageLinks, console, organizations, reading, whole

if TYPE_CHECKING:
    from collections.abc import Iterable

blueprint = Blueprint("reconcile", __name__, url_prefix="/reconcile")

GROUPED: Final = 10
"""How many times more runs a page has where those that found nothing are one line."""

# ids grow with the time of the start
_RUNS: Final = text(
    """
SELECT run.*, webhook.organization_reference_id
FROM receiver.reconcile_runs AS run JOIN receiver.webhooks AS webhook ON webhook.id = run.webhook_id
WHERE (:organization = '' OR webhook.organization_reference_id = :organization) AND run.id < :before
ORDER BY run.id DESC LIMIT :limit
"""
)


@blueprint.get("/")
def listing() -> str:
    """Show the runs, of one organization if it is named; those in a row that found nothing are one line."""
    organization, before = request.args.get("organization", ""), whole(request.args.get("before"))
    each = bool(request.args.get("each"))
    most = console().rows if each else console().rows * GROUPED
    with reading() as connection:
        names = organizations(connection)
        found = connection.execute(
            _RUNS, {"organization": organization, "before": before or 2**63 - 1, "limit": most + 1}
        ).all()
    rows = found[:most]
    links = PageLinks.of(request, older=rows[-1].id if len(found) > most else None)
    return render_template(
        "reconcile.html",
        groups=[[row] for row in rows] if each else in_groups(rows),
        each=each,
        organization=organization,
        organizations=names,
        newer=links.newer,
        older=links.older,
    )


def in_groups(runs: Iterable[Any]) -> list[list[Any]]:
    """Return the runs, those in a row that found nothing together; every other by itself."""
    groups: list[list[Any]] = []
    for nothing, several in groupby(runs, _found_nothing):
        in_a_row = list(several)
        groups += [in_a_row] if nothing else [[run] for run in in_a_row]
    return groups


def _found_nothing(run: Any) -> bool:  # noqa: ANN401 - a row
    return run.ended_at is not None and not (run.error or run.recovered or run.unconfirmed or run.unrecoverable)

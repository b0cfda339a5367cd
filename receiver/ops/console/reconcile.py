"""The runs of reconcile, newest first."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, render_template, request
from sqlalchemy import text

from receiver.ops.console.parts import PageLinks, organizations, reading, whole

blueprint = Blueprint("reconcile", __name__, url_prefix="/reconcile")

ROWS: Final = 50

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
    """Show the runs, of one organization if it is named."""
    organization, before = request.args.get("organization", ""), whole(request.args.get("before"))
    with reading() as connection:
        names = organizations(connection)
        found = connection.execute(
            _RUNS, {"organization": organization, "before": before or 2**63 - 1, "limit": ROWS + 1}
        ).all()
    rows = found[:ROWS]
    links = PageLinks.of(request, older=rows[-1].id if len(found) > ROWS else None)
    return render_template(
        "reconcile.html",
        rows=rows,
        organization=organization,
        organizations=names,
        newer=links.newer,
        older=links.older,
    )

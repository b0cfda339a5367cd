"""The page of the webhooks: what is known of each, and what needs attention."""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING, Final

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from sqlalchemy import text

from receiver.errors import OperationRefused
from receiver.ops.console.parts import console, query_of, reading, whole
from receiver.ops.console.webhook_actions import commands_of, register, rotate_secret, send_test
from receiver.ops.refused import find_refused
from receiver.ops.status import find_in_webhook, read_status
from receiver.ops.webhook_details import read_webhook, request_reconcile
from receiver.settings import unset_for_api
from receiver.webhooks.addresses import endpoint_url

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

    from sqlalchemy import Row
    from werkzeug.wrappers import Response

    from receiver.ops.status import ServiceStatus

blueprint = Blueprint("webhooks", __name__, url_prefix="/webhooks")
for _part, _view in (("rotate-secret", rotate_secret), ("test", send_test), ("register", register)):
    blueprint.add_url_rule(f"/<int:webhook_id>/{_part}", view_func=_view, methods=["GET", "POST"])

# the newest delivery of each by the index on (webhook_id, received_at)
_WEBHOOKS: Final = text(
    """
SELECT webhook.id, webhook.organization_reference_id, webhook.opencard_webhook_id, webhook.authentication_type,
    webhook.enabled, webhook.active, state.checked_until,
    (SELECT max(received_at) FROM receiver.stored_deliveries WHERE webhook_id = webhook.id) AS last_received_at
FROM receiver.webhooks AS webhook LEFT JOIN receiver.reconcile_state AS state ON state.webhook_id = webhook.id
WHERE NOT webhook.test
ORDER BY webhook.organization_reference_id, webhook.id
"""
)


@dataclass(frozen=True, slots=True)
class WebhookLine:
    """A webhook as the page shows it."""

    id: int
    organization_reference_id: str
    opencard_webhook_id: int | None
    authentication_type: str
    state: str
    last_received_at: datetime | None
    checked_until: datetime | None
    complaints: tuple[str, ...]


@blueprint.get("/")
def listing() -> str:
    """Show every managed webhook, or those of one organization."""
    organization = request.args.get("organization")
    with reading() as connection:
        service = read_status(query_of(connection))
        found = [
            row for row in connection.execute(_WEBHOOKS) if organization in {None, "", row.organization_reference_id}
        ]
        rows = [_line(row, service) for row in found]
    return render_template("webhooks.html", rows=rows, organization=organization, read_at=service.bootstrap_read_at)


@blueprint.get("/<int:webhook_id>")
def webhook(webhook_id: int) -> str:
    """Show one webhook; its secret URL to operators only."""
    if whole(str(webhook_id)) is None:
        abort(404)
    with reading() as connection:
        details = read_webhook(connection, webhook_id)
        rows = [row for row in connection.execute(_WEBHOOKS) if row.id == webhook_id]
        if details is None or not rows:
            abort(404, f"There is no webhook {webhook_id}.")
        service = read_status(query_of(connection))
    row = details.webhook
    ends = [
        moment
        for name in ("previous_secret_expires_at", "previous_credentials_expires_at")
        if (moment := row[name]) is not None and moment > service.at
    ]
    return render_template(
        "webhook.html",
        details=details,
        line=_line(rows[0], service),
        state=state_of(enabled=row["enabled"], active=row["active"]),
        read_at=service.bootstrap_read_at,
        url=endpoint_url(console().settings.public_url, row["endpoint_key"]),
        overlap=max(ends, default=None),
        requested=row["reconcile_requested_at"] is not None
        and not any(run["started_at"] >= row["reconcile_requested_at"] for run in details.runs),
        quoted=quote(row["organization_reference_id"]),
        commands=commands_of(row),
        missing=unset_for_api(console().settings),
    )


@blueprint.post("/<int:webhook_id>/reconcile")
def reconcile(webhook_id: int) -> Response:
    """Have its log compared now."""
    if console().interval is None:
        raise OperationRefused("the scheduler does not reconcile: RECONCILE_INTERVAL is 0, or the API is not set up")
    with console().engine.begin() as connection:
        if whole(str(webhook_id)) is None or not request_reconcile(connection, webhook_id):
            raise OperationRefused(f"webhook {webhook_id} is not in use, or not registered at OpenCard")
    flash("Requested: the run begins within seconds.", "success")
    return redirect(url_for("webhooks.webhook", webhook_id=webhook_id))


def state_of(*, enabled: bool, active: bool | None) -> str:
    """Return in a word whether a webhook delivers: ``off`` where it is disabled here."""
    if not enabled:
        return "off"
    if active is None:
        return "unknown"
    return "active" if active else "not active"


def _line(row: Row[Any], service: ServiceStatus) -> WebhookLine:
    mine = [webhook for webhook in service.webhooks if webhook.webhook_id == row.id]
    interval = console().interval
    return WebhookLine(
        id=row.id,
        organization_reference_id=row.organization_reference_id,
        opencard_webhook_id=row.opencard_webhook_id,
        authentication_type=row.authentication_type,
        state=state_of(enabled=row.enabled, active=row.active),
        last_received_at=row.last_received_at,
        checked_until=row.checked_until,
        complaints=(
            *(each.text for webhook in mine for each in find_in_webhook(webhook, service.at, interval)),
            *(each.text for each in find_refused([one for one in service.refused if one.webhook_id == row.id])),
        ),
    )

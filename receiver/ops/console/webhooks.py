"""The page of the webhooks: what is known of each, and what needs attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from flask import Blueprint, render_template
from sqlalchemy import text

from receiver.ops.console.parts import console, query_of, reading
from receiver.ops.refused import find_refused
from receiver.ops.status import find_in_webhook, read_status

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

    from sqlalchemy import Row

    from receiver.ops.status import ServiceStatus

blueprint = Blueprint("webhooks", __name__, url_prefix="/webhooks")

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

    organization_reference_id: str
    opencard_webhook_id: int | None
    authentication_type: str
    state: str
    last_received_at: datetime | None
    checked_until: datetime | None
    complaints: tuple[str, ...]


@blueprint.get("/")
def listing() -> str:
    """Show every managed webhook."""
    with reading() as connection:
        service = read_status(query_of(connection))
        rows = [_line(row, service) for row in connection.execute(_WEBHOOKS)]
    return render_template("webhooks.html", rows=rows)


def state_of(*, enabled: bool, active: bool | None) -> str:
    """Return in a word whether deliveries come by a webhook: ``off`` where we take none of it."""
    if not enabled:
        return "off"
    if active is None:
        return "unknown"
    return "active" if active else "not active"


def _line(row: Row[Any], service: ServiceStatus) -> WebhookLine:
    mine = [webhook for webhook in service.webhooks if webhook.webhook_id == row.id]
    interval = console().interval
    return WebhookLine(
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

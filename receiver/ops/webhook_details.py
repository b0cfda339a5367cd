"""Everything that is known of one managed webhook; nothing that is secret."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

RUNS: Final = 5
"""How many of the last runs of reconcile are shown."""

# the newest delivery by the index on (webhook_id, received_at)
_WEBHOOK: Final = text(
    """
SELECT webhook.id, webhook.organization_reference_id, webhook.organization_id, webhook.opencard_webhook_id,
    webhook.endpoint_key, webhook.authentication_type, webhook.enabled, webhook.active, webhook.test,
    webhook.created_at, webhook.deleted_at, webhook.acknowledged_at, webhook.previous_secret_expires_at,
    webhook.previous_credentials_expires_at, webhook.reconcile_requested_at, state.checked_until,
    coalesce(state.recovered, 0) AS recovered,
    coalesce(state.unconfirmed, 0) AS unconfirmed, coalesce(state.unrecoverable, 0) AS unrecoverable,
    state.last_error, (
        SELECT max(received_at) FROM receiver.stored_deliveries WHERE webhook_id = webhook.id
    ) AS last_received_at, coalesce(organization.unavailable_events, '{}') AS unavailable_events
FROM receiver.webhooks AS webhook
LEFT JOIN receiver.reconcile_state AS state ON state.webhook_id = webhook.id
LEFT JOIN receiver.organizations AS organization ON organization.organization_id = webhook.organization_id
WHERE webhook.id = :id
"""
)
_REFUSED: Final = text(
    """
SELECT reason, CAST(sum(number) AS bigint) AS number, min(minute) AS first_at, max(last_at) AS last_at
FROM receiver.refused_deliveries WHERE webhook_id = :id AND minute > now() - interval '7 days'
GROUP BY reason ORDER BY reason
"""
)
_RUNS: Final = text(
    f"""
SELECT started_at, ended_at, log_entries, matched, recovered, unconfirmed, unrecoverable, error
FROM receiver.reconcile_runs WHERE webhook_id = :id ORDER BY started_at DESC LIMIT {RUNS}
"""  # noqa: S608 - a constant
)


_REQUEST: Final = text(
    """
UPDATE receiver.webhooks SET reconcile_requested_at = now()
WHERE id = :id AND enabled AND opencard_webhook_id IS NOT NULL AND deleted_at IS NULL AND NOT test
"""
)


@dataclass(frozen=True, slots=True)
class WebhookDetails:
    """A webhook, what it refused within seven days, and how its last runs of reconcile ended."""

    webhook: Mapping[str, Any]
    """Columns of ``receiver.webhooks`` and ``receiver.reconcile_state``, and the time of the last delivery."""
    refused: Sequence[Mapping[str, Any]]
    """By reason."""
    runs: Sequence[Mapping[str, Any]]
    """Newest first."""
    unavailable: Mapping[str, Sequence[str]]
    """Event flags that the organization cannot have, by the reason."""

    @property
    def secret_since(self) -> datetime | None:
        """When OpenCard took the present secret and credentials; ``None`` while it may not know them."""
        since: datetime | None = self.webhook["acknowledged_at"]
        return since


def request_reconcile(connection: Connection, webhook_id: int) -> bool:
    """Have the scheduler reconcile a webhook at its next tick; return whether it is in use and registered."""
    return connection.execute(_REQUEST, {"id": webhook_id}).rowcount == 1


def read_webhook(connection: Connection, webhook_id: int) -> WebhookDetails | None:
    """Return what is known of a webhook, by this service's id; ``None`` where there is none."""
    parameters = {"id": webhook_id}
    row = connection.execute(_WEBHOOK, parameters).mappings().one_or_none()
    if row is None:
        return None
    unavailable: dict[str, list[str]] = defaultdict(list)
    for flag, why in sorted(row["unavailable_events"].items()):
        unavailable[why["reason"]].append(flag)
    return WebhookDetails(
        webhook=dict(row),
        refused=[dict(each) for each in connection.execute(_REFUSED, parameters).mappings()],
        runs=[dict(each) for each in connection.execute(_RUNS, parameters).mappings()],
        unavailable=unavailable,
    )

"""The feed's current epoch: it began when PostgreSQL was restored or failed over, and readers reload the tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from receiver.ops.findings import Finding, FindingKind

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from receiver.ops.retention.record import Query

_EPOCH: Final = """
SELECT epoch.epoch, epoch.epoch_start, epoch.begun_at, epoch.reason,
    epoch.recovered_at IS NULL AND epoch.begun_at > now() - interval '8 days' AS needs_attention,
    (
        SELECT count(*) FROM receiver.webhooks AS webhook
        WHERE webhook.enabled AND webhook.opencard_webhook_id IS NOT NULL AND webhook.deleted_at IS NULL
            AND NOT webhook.test AND coalesce((
                SELECT run.id FROM receiver.reconcile_runs AS run
                WHERE run.webhook_id = webhook.id AND run.ended_at IS NOT NULL AND run.error IS NULL
                ORDER BY run.started_at DESC LIMIT 1
            ), 0) <= epoch.last_run_id
    ) AS webhooks_to_reconcile
FROM receiver.feed_epochs AS epoch WHERE epoch.reason IS NOT NULL ORDER BY epoch.epoch DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class EpochState:
    """The feed's present epoch, which began when PostgreSQL's history branched, or by hand."""

    epoch: int
    epoch_start: int
    begun_at: datetime
    reason: str
    needs_attention: bool
    """It is neither acknowledged nor eight days old."""
    webhooks_to_reconcile: int
    """How many were not reconciled since it began."""


def read_feed_epoch(query: Query) -> EpochState | None:
    """Return the present epoch; ``None`` as long as none has begun."""
    return next((EpochState(**each) for each in query(_EPOCH)), None)


def find_new_epoch(epoch: EpochState | None) -> Iterable[Finding]:
    """Yield a finding if an epoch began that has not been acknowledged."""
    if epoch is None or not epoch.needs_attention:
        return
    began = f"epoch {epoch.epoch} began at {epoch.begun_at:%Y-%m-%d %H:%M:%S} UTC ({epoch.reason})"
    left = epoch.webhooks_to_reconcile
    still = f"; {left} {'webhook is' if left == 1 else 'webhooks are'} still to be reconciled" if left else ""
    text = f"feed: {began}, and readers read the tables again{still}: acknowledge it"
    yield Finding(FindingKind.EPOCH, text, f"epoch {epoch.epoch}", command="receiver recover")

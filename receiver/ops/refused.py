"""Webhooks whose deliveries are refused: a secret, credentials or headers that differ from OpenCard's."""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING, Final

from receiver.ops.findings import Finding, FindingKind

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from receiver.ops.retention.record import Query

WRONG_SIGNATURE: Final = "signature-wrong"
OF_SECRETS: Final = ("signature", "basic", "custom", "oauth")
"""How the reasons of ``NotAuthentic`` begin."""
CAUSES: Final = {
    "signature-missing": "unsigned; accepted only with SIGNATURE_POLICY=when-present and credentials on the webhook",
    "signature-of-a-challenge": "a signed challenge was sent as a delivery: the endpoint's URL is known to others",
    "too-large": "larger than MAX_BODY_BYTES",
}
"""Of reasons that have one."""
MANY: Final = 10
"""The number of refused deliveries within a quarter of an hour that needs attention although others are stored."""
CLOCKS_DIFFER: Final = "1 minute"
"""How far OpenCard's clock and PostgreSQL's may differ."""

# since the last delivery that was stored, and those of the last quarter of an hour in any case; what has a time in the
# future was written before the server's clock was set back, and says nothing
_REFUSED: Final = f"""
SELECT webhook.id AS webhook_id, webhook.organization_reference_id, refused.reason, refused.number, refused.since, (
        SELECT count(*) FROM receiver.delivery_log AS entry
        WHERE entry.webhook_id = webhook.id AND entry.response_status = 401
            AND entry.attempted_at >= refused.since - interval '{CLOCKS_DIFFER}'
    ) AS in_log, coalesce(state.checked_until > refused.until + interval '{CLOCKS_DIFFER}', false) AS log_is_read
FROM receiver.webhooks AS webhook
LEFT JOIN receiver.reconcile_state AS state ON state.webhook_id = webhook.id
LEFT JOIN LATERAL (
    SELECT received_at FROM receiver.stored_deliveries
    WHERE webhook_id = webhook.id AND source = 'push' AND received_at <= now() ORDER BY received_at DESC LIMIT 1
) AS stored ON true
CROSS JOIN LATERAL (
    SELECT reason, CAST(sum(number) AS bigint) AS number, min(minute) AS since, max(refused.last_at) AS until
    FROM receiver.refused_deliveries AS refused
    WHERE refused.webhook_id = webhook.id AND refused.minute > now() - interval '7 days' AND refused.last_at <= now()
        AND (refused.last_at > coalesce(stored.received_at, '-infinity') OR minute > now() - interval '15 minutes')
    GROUP BY reason
    HAVING max(refused.last_at) > coalesce(stored.received_at, '-infinity')
        OR sum(number) FILTER (WHERE minute > now() - interval '15 minutes') >= {MANY}
) AS refused
WHERE webhook.enabled AND webhook.deleted_at IS NULL AND EXISTS (
    SELECT FROM receiver.refused_deliveries AS refused WHERE refused.webhook_id = webhook.id
)
ORDER BY webhook.id, refused.reason
"""  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True)
class RefusalCount:
    """Deliveries to a webhook that were refused for one reason."""

    webhook_id: int
    organization_reference_id: str
    reason: str
    number: int
    since: datetime
    """The minute of the first."""
    in_log: int = 0
    """How many attempts OpenCard's log has since then that were answered 401, as far as it was read."""
    log_is_read: bool = False
    """Whether its log was read up to the last of them."""

    @property
    def may_be_a_difference(self) -> bool:
        """Whether a secret or credentials that differ from OpenCard's would explain it."""
        return self.reason.startswith(OF_SECRETS) and self.reason not in CAUSES

    @property
    def cause(self) -> str:
        """What is wrong, as far as OpenCard's log shows it."""
        if not self.may_be_a_difference:
            return CAUSES.get(self.reason, "does a proxy before this service change or cut requests?")
        if self.reason == WRONG_SIGNATURE:
            fault = "the secret differs from OpenCard's"
        elif self.reason.endswith("-missing"):
            fault = "OpenCard sends no credentials"
        else:
            fault = "the credentials differ from OpenCard's"
        if self.in_log:
            return f"{fault}: its log has {self.in_log} answered 401"
        if self.log_is_read:
            return "forged, because OpenCard's log has no attempt answered 401 since then: change nothing"
        return f"either {fault}, or they are forged: OpenCard's log, not read since, will show it"

    @property
    def command(self) -> str:
        """What to run about it; empty where no command helps."""
        if not self.may_be_a_difference or (self.log_is_read and not self.in_log):
            return ""
        if self.in_log:
            return f"receiver webhooks rotate-secret {self.webhook_id}"  # which sends the credentials, too
        return f"receiver reconcile --organization {quote(self.organization_reference_id)}"


def read_refused(query: Query) -> tuple[RefusalCount, ...]:
    """Read which webhooks refuse what OpenCard sends: since the last that was stored, or many at present."""
    return tuple(RefusalCount(**row) for row in query(_REFUSED))


def find_refused(refused: Iterable[RefusalCount]) -> Iterable[Finding]:
    """Yield the deliveries that are refused, with what to do about it."""
    for each in refused:
        subject = f"webhook {each.webhook_id}"
        organization = each.organization_reference_id
        several = "delivery" if each.number == 1 else "deliveries"
        text = (
            f"{subject} ({organization}): {each.number} {several} refused since {each.since:%Y-%m-%d %H:%M} UTC: "
            f"{each.reason}: {each.cause}"
        )
        cause = f"{subject}: {each.reason}"
        yield Finding(FindingKind.REFUSED, text, cause, organization, each.number, command=each.command)

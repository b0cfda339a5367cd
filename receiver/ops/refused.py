"""Webhooks whose deliveries are refused: a secret, credentials or headers that differ from OpenCard's."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING, Final

from receiver.ops.findings import Finding, FindingKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from receiver.ops.retention.record import Query

WRONG_SIGNATURE: Final = "signature-wrong"
OF_CREDENTIALS: Final = ("basic", "custom", "oauth")
OF_SECRETS: Final = ("signature", *OF_CREDENTIALS)
"""How the reasons of ``NotAuthentic`` begin."""
MANY: Final = 10
"""So many refused within a quarter of an hour need attention although others are stored."""

# since the last delivery that was stored, and those of the last quarter of an hour in any case; what has a time in the
# future was written before the server's clock was set back, and says nothing
_REFUSED: Final = f"""
SELECT webhook.id AS webhook_id, webhook.organization_reference_id, refused.*
FROM receiver.webhooks AS webhook
LEFT JOIN LATERAL (
    SELECT received_at FROM receiver.stored_deliveries
    WHERE webhook_id = webhook.id AND source = 'push' AND received_at <= now() ORDER BY received_at DESC LIMIT 1
) AS stored ON true
CROSS JOIN LATERAL (
    SELECT reason, CAST(sum(number) AS bigint) AS number, min(minute) AS since
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


def read_refused(query: Query) -> tuple[RefusalCount, ...]:
    """Read which webhooks refuse what OpenCard sends: since the last that was stored, or many at present."""
    return tuple(RefusalCount(**row) for row in query(_REFUSED))


def count_not_authentic(refused: Iterable[RefusalCount]) -> Counter[int]:
    """Return by webhook how many were refused over a secret or credentials."""
    numbers: Counter[int] = Counter()
    for each in refused:
        if each.reason.startswith(OF_SECRETS):
            numbers[each.webhook_id] += each.number
    return numbers


def find_refused(refused: Sequence[RefusalCount]) -> Iterable[Finding]:
    """Yield the deliveries that are refused, with what to do about it."""
    for each in refused:
        subject = f"webhook {each.webhook_id}"
        organization = each.organization_reference_id
        several = "delivery" if each.number == 1 else "deliveries"
        text = (
            f"{subject} ({organization}): {each.number} {several} refused since {each.since:%Y-%m-%d %H:%M} UTC: "
            f"{each.reason}: {_cause(each)}"
        )
        cause, run = f"{subject}: {each.reason}", _command(each)
        yield Finding(FindingKind.REFUSED, text, cause, organization, each.number, command=run)


def _cause(refused: RefusalCount) -> str:
    if refused.reason == WRONG_SIGNATURE:
        return "the secret differs from OpenCard's, rotate it"
    if refused.reason == "signature-missing":
        return "unsigned; accepted only with SIGNATURE_POLICY=when-present and credentials on the webhook"
    if refused.reason == "signature-of-a-challenge":
        return "a signed challenge was sent as a delivery: the endpoint's URL is known to others"
    if refused.reason.startswith(OF_CREDENTIALS):
        return "the credentials differ from OpenCard's, register the webhook again"
    if refused.reason == "too-large":
        return "larger than MAX_BODY_BYTES"
    return "does a proxy before this service change or cut requests?"


def _command(refused: RefusalCount) -> str:
    if refused.reason == WRONG_SIGNATURE:
        return f"receiver webhooks rotate-secret {refused.webhook_id}"
    if refused.reason.startswith(OF_CREDENTIALS):
        return f"receiver bootstrap --organization {quote(refused.organization_reference_id)}"
    return ""

"""Purchases that stay in a state for unusually long, as information for ``receiver status``: no error by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from receiver.ops.retention.record import Query

NOT_INVOICED_DAYS: Final = 45
"""An issuer invoices once a month; the invoice follows some days later."""
NOT_CLEARED_DAYS: Final = 10
"""Clearing usually takes 3 to 5 days."""
MAX_COUNTED: Final = 10_000
"""Counted up to here: where invoices are not sent at all, every purchase stays cleared."""

# read from the end of an index: the purchases that have not changed for the longest
_AGEING: Final = """
SELECT count(*) AS number, min(since) AS oldest FROM (
    SELECT updated_at AS since FROM ems.transactions
    WHERE state = '{state}' AND updated_at < now() - interval '{days} days'
    ORDER BY updated_at LIMIT {most}
) AS unchanged
"""


@dataclass(frozen=True, slots=True)
class AgeingPurchases:
    """Purchases that have been in a state, without a change, for more than *days* days."""

    days: int
    number: int
    """``MAX_COUNTED`` means that or more."""
    oldest: datetime | None
    """When the first of them last changed."""


@dataclass(frozen=True, slots=True)
class Ageing:
    """Purchases that may never be invoiced or cleared."""

    not_invoiced: AgeingPurchases
    """Cleared; they are in ``ems.ledger``."""
    not_cleared: AgeingPurchases
    """Authorized and neither cleared nor deleted; they are in ``ems.pending_transactions``."""


def read_ageing(query: Query) -> Ageing:
    """Read how many purchases have not changed for long."""
    return Ageing(_read(query, "cleared", NOT_INVOICED_DAYS), _read(query, "authorized", NOT_CLEARED_DAYS))


def _read(query: Query, state: str, days: int) -> AgeingPurchases:
    (row,) = query(_AGEING.format(state=state, days=days, most=MAX_COUNTED))
    return AgeingPurchases(days, **row)

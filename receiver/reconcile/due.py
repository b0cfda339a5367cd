"""When a webhook is due: each has its own offset within the interval, so that many do not run at once. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

DAY: Final = timedelta(days=1)
LOOK_BACK: Final = timedelta(days=7)
"""How far back a webhook's daily run reads: for entries that appeared late, and for deliveries that were lost here."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RANGE: Final = 2**64
_GOLDEN: Final = 0x9E37_79B9_7F4A_7C15
"""``_RANGE`` divided by the golden ratio. Ids that follow each other, times this, lie evenly over the range."""


def is_due(webhook_id: int, *, now: datetime, last_start: datetime | None, interval: timedelta) -> bool:
    """Whether no run has started since the webhook's latest slot of the interval.

    A webhook that was missed in an outage or never run is due at once; its next runs are in its own slot again.
    """
    return last_start is None or last_start < latest_slot(webhook_id, interval, now)


def read_since(
    webhook_id: int, *, now: datetime, checked_until: datetime | None, last_look_back: datetime | None
) -> datetime | None:
    """Return how far back a due run reads; ``None`` for since the last run.

    A run looks back when no successful look-back has started since the webhook's slot of the day. A log that was never
    checked, or not within ``LOOK_BACK``, is read further back anyway.
    """
    if checked_until is None or checked_until <= now - LOOK_BACK:
        return None
    if last_look_back is None or last_look_back < latest_slot(webhook_id, DAY, now):
        return now - LOOK_BACK
    return None


def latest_slot(webhook_id: int, period: timedelta, now: datetime) -> datetime:
    """Return the latest of a webhook's slots, one in each *period*, that is not after *now*."""
    phase = period * (webhook_id * _GOLDEN % _RANGE / _RANGE)
    return now - (now - _EPOCH - phase) % period

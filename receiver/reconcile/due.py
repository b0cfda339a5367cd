"""When a webhook is to be reconciled: each at a time of its own, so that many do not fire at once. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

DAY: Final = timedelta(days=1)
LOOK_BACK: Final = timedelta(days=7)
"""How far a webhook's daily run reaches back: for what came late into the log, and for what was lost here."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RANGE: Final = 2**64
_GOLDEN: Final = 0x9E37_79B9_7F4A_7C15
"""``_RANGE`` divided by the golden ratio. Ids that follow each other, times this, lie evenly over the range."""


def is_due(webhook_id: int, *, now: datetime, last_start: datetime | None, interval: timedelta) -> bool:
    """Return whether a webhook is to be run now: no run has started since its latest moment of the interval.

    So what was missed in an outage is due at once, as is a webhook that was never run, and all is spread again after.
    """
    return last_start is None or last_start < latest_moment(webhook_id, interval, now)


def reach(
    webhook_id: int, *, now: datetime, checked_until: datetime | None, last_look_back: datetime | None
) -> datetime | None:
    """Return how far back the run that is due reads; ``None`` for since the last run.

    A run looks back when none that did has succeeded since the webhook's moment of the day. What was never checked, or
    not for so long, is read further back anyway.
    """
    if checked_until is None or checked_until <= now - LOOK_BACK:
        return None
    if last_look_back is None or last_look_back < latest_moment(webhook_id, DAY, now):
        return now - LOOK_BACK
    return None


def latest_moment(webhook_id: int, period: timedelta, now: datetime) -> datetime:
    """Return the latest of a webhook's own moments, one in each *period*, that is not after *now*."""
    phase = period * (webhook_id * _GOLDEN % _RANGE / _RANGE)
    return now - (now - _EPOCH - phase) % period

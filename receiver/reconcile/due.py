"""When a webhook is to be reconciled: each at a time of its own, so that many do not fire at once. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final

DAY: Final = timedelta(days=1)
LOOK_BACK: Final = timedelta(days=7)
"""How far a webhook's daily run reaches back: for what came late into the log, and for what was lost here."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RANGE: Final = 2**64
_GOLDEN: Final = 0x9E37_79B9_7F4A_7C15
"""``_RANGE`` divided by the golden ratio. Ids that follow each other, times this, lie evenly over the range."""


class Reach(Enum):
    """How far back a run that is due reads."""

    SINCE_LAST_RUN = "since the last run"
    LOOK_BACK = "look back"


def due(
    webhook_id: int,
    *,
    now: datetime,
    last_start: datetime | None,
    last_look_back: datetime | None,
    interval: timedelta,
) -> Reach | None:
    """Return what is due of a webhook now; ``None`` if nothing is.

    A run is due when none has started since the webhook's latest moment of the interval, and a look-back when none has
    since its moment of the day. So what was missed in an outage is due at once, and everything is spread again
    afterwards. A webhook that was never run is due at once; its first run reads the whole log.
    """
    if last_start is None:
        return Reach.SINCE_LAST_RUN
    if last_look_back is None or last_look_back < latest_moment(webhook_id, DAY, now):
        return Reach.LOOK_BACK
    if last_start < latest_moment(webhook_id, interval, now):
        return Reach.SINCE_LAST_RUN
    return None


def latest_moment(webhook_id: int, period: timedelta, now: datetime) -> datetime:
    """Return the latest of a webhook's own moments, one in each *period*, that is not after *now*."""
    phase = period * (webhook_id * _GOLDEN % _RANGE / _RANGE)
    return now - (now - _EPOCH - phase) % period

"""When a download that failed is tried again, and when it is given up. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

PAUSES: Final = (
    timedelta(seconds=10),
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=6),
)
"""Pause after the first failed attempt, after the second, and so on; the last one is repeated."""
JITTER: Final = 0.2
"""Pauses are longer by up to this share, so that what failed together is not tried together."""
BEFORE_THE_END: Final = timedelta(minutes=1)
"""How long before its expiry a URL is tried once more in any case."""
MAX_WITHOUT_EXPIRY: Final = 24
"""Attempts (in some five days) after which a URL without a time of expiry is given up."""


def next_attempt(
    failed_attempts: int,
    *,
    now: datetime,
    expires_at: datetime | None,
    chance: float,
    retry_after: float | None = None,
) -> datetime | None:
    """Return when to try again after *failed_attempts* (1 or more), or ``None`` when it is to be given up.

    A URL is tried until an attempt has failed after it expired: the zone of the expiry is not documented, and a URL
    that is said to have expired may work. *chance*: a random number from 0 to 1; *retry_after*: seconds that were asked
    for.
    """
    if expires_at is None:
        if failed_attempts >= MAX_WITHOUT_EXPIRY:
            return None
    elif now >= expires_at:
        return None
    pause = PAUSES[min(failed_attempts, len(PAUSES)) - 1] * (1 + JITTER * chance)
    at = now + max(pause, timedelta(seconds=min(retry_after or 0, PAUSES[-1].total_seconds())))
    if expires_at is not None and now < expires_at - BEFORE_THE_END < at:
        return expires_at - BEFORE_THE_END
    return at

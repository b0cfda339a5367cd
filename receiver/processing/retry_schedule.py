"""When a delivery that failed is tried again, and when it is ``dead``. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

PAUSES: Final = (
    timedelta(seconds=10),
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=6),
    timedelta(hours=24),
)
"""Pause after the first failed attempt, after the second, and so on; after the last one there is no more."""
JITTER: Final = 0.2
"""Pauses are longer by up to this share, so that what failed together is not tried together."""


def pause_after(failed_attempts: int, *, chance: float) -> timedelta | None:
    """Return the pause after a number of failed attempts (1 or more), or ``None`` when it was the last one.

    *chance*: a random number from 0 to 1, which spreads the pauses.
    """
    if failed_attempts > len(PAUSES):
        return None
    return PAUSES[failed_attempts - 1] * (1 + JITTER * chance)

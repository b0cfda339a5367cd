"""How long OpenCard tries to deliver something."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import stamina

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(frozen=True, slots=True)
class RetryLimits:
    """How long a sending is tried; whichever of *attempts* and *seconds* is reached first ends it (``None``: never).

    The pauses double from *first_pause* to *longest_pause*, each with up to *first_pause* of jitter; all in seconds.
    """

    attempts: int | None = None
    seconds: float | None = 120
    first_pause: float = 0.1
    longest_pause: float = 5

    def attempts_while(self, failure: type[Exception]) -> AsyncIterator[stamina.Attempt]:
        """Return one attempt after another, each a context, as long as they end with *failure*; the last raises it."""
        return stamina.retry_context(
            on=failure,
            attempts=self.attempts,
            timeout=self.seconds,
            wait_initial=self.first_pause,
            wait_max=self.longest_pause,
            wait_jitter=self.first_pause,
        )


DEFAULT_LIMITS: Final = RetryLimits()
FEW_ATTEMPTS: Final = RetryLimits(attempts=3, seconds=None, first_pause=0, longest_pause=0)
"""For a sending that cannot get through."""

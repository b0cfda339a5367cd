"""The attempts to deliver, counted by their results."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeAlias

AttemptResult: TypeAlias = Literal["accepted", "refused", "unanswered", "lost_answers"]
"""The result of one attempt; ``lost_answers``: answered 200, and the answer lost on purpose."""

End: TypeAlias = Literal["accepted", "lost", "outage", "given_up"]
"""The result of a sending, after all its attempts."""

_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """One request as OpenCard saw it: what its delivery log would hold."""

    organization_reference_id: str
    event: str
    status: int | None
    """The answer's status; ``None`` for no answer, lost ones included: OpenCard never saw those."""
    at: datetime
    """When the request began, in UTC; of two attempts in one run, never the same moment."""
    body: bytes = field(repr=False)


class MonotonicClock:
    """The time, in UTC, each moment later than the one before: so times show which of two began first."""

    def __init__(self) -> None:
        self._last = datetime.min.replace(tzinfo=UTC)

    def next(self) -> datetime:
        """Return the time, to the microsecond."""
        self._last = max(datetime.now(UTC), self._last + _MICROSECOND)
        return self._last


@dataclass(slots=True)
class AttemptCounts:
    """Attempts by outcome: ``sent`` is the sum of the others."""

    sent: int = 0
    accepted: int = 0
    """Answered 200."""
    refused: int = 0
    """Answered, but not 200; by a gateway included."""
    unanswered: int = 0
    """No connection (those of what is lost included), a broken one, or a time-out."""
    lost_answers: int = 0
    """Answered 200, and the answer lost on purpose: taken by the receiver, unknown to OpenCard."""

    def count(self, outcome: AttemptResult) -> None:
        """Add one attempt."""
        self.sent += 1
        setattr(self, outcome, getattr(self, outcome) + 1)


@dataclass(slots=True)
class DeliveryTally(AttemptCounts):
    """The attempts of a whole run, in all and by event."""

    given_up: int = 0
    """Sendings (not attempts) never accepted, and those held back because an earlier one of their holder was not."""
    lost: int = 0
    """Of those given up, the ones that were to be lost: no attempt reached the receiver."""
    in_outage: int = 0
    """Of those given up, the ones that fell into the outage."""
    by_event: defaultdict[str, AttemptCounts] = field(default_factory=lambda: defaultdict(AttemptCounts))

    def count_event(self, event: str, outcome: AttemptResult) -> None:
        """Add one attempt to deliver *event*."""
        self.count(outcome)
        self.by_event[event].count(outcome)

    def count_end(self, end: End) -> None:
        """Add one sending."""
        self.given_up += end != "accepted"
        self.lost += end == "lost"
        self.in_outage += end == "outage"

    @property
    def given_up_unexpectedly(self) -> int:
        """Sendings given up though neither a loss nor the outage was to stop them."""
        return self.given_up - self.lost - self.in_outage

"""What came of the attempts to deliver."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from datetime import datetime

Outcome: TypeAlias = Literal["accepted", "refused", "unanswered", "lost_answers"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request as OpenCard saw it: what its delivery log would hold."""

    organization_reference_id: str
    event: str
    status: int | None
    """The answer's status; ``None`` for no answer, lost ones included: OpenCard never saw those."""
    at: datetime
    """When the request began, in UTC."""
    body: bytes = field(repr=False)


@dataclass(slots=True)
class Counts:
    """Attempts by outcome: ``sent`` is the sum of the others."""

    sent: int = 0
    accepted: int = 0
    """Answered 200."""
    refused: int = 0
    """Answered, but not 200."""
    unanswered: int = 0
    """No connection, a broken one, or a time-out."""
    lost_answers: int = 0
    """Answered 200, and the answer lost on purpose: taken by the receiver, unknown to OpenCard."""

    def count(self, outcome: Outcome) -> None:
        """Add one attempt."""
        self.sent += 1
        setattr(self, outcome, getattr(self, outcome) + 1)


@dataclass(slots=True)
class Tally(Counts):
    """The attempts of a whole run, in all and by event."""

    given_up: int = 0
    """Sendings (not attempts) never accepted, and those held back because an earlier one of their holder was not."""
    by_event: defaultdict[str, Counts] = field(default_factory=lambda: defaultdict(Counts))

    def count_event(self, event: str, outcome: Outcome) -> None:
        """Add one attempt to deliver *event*."""
        self.count(outcome)
        self.by_event[event].count(outcome)

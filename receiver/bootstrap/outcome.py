"""What a run of bootstrap shall do, and what it found and did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from receiver.bootstrap.flags import EVENT_OF, words_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.bootstrap.concurrency import Failure
    from receiver.bootstrap.plan import Change
    from receiver.opencard.webhooks import Organization

SIDE_BY_SIDE: Final = 8
"""How many organizations are worked on at once: most of the time is spent waiting for OpenCard."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a run shall do."""

    write: bool = True
    """Carry the changes out; else nothing is written anywhere, neither here nor at OpenCard."""
    prune: bool = False
    only: tuple[str, ...] = ()
    """The EMS's ids of the organizations to look at; all, if there are none."""
    retry_rejected: bool = False
    """Ask again for events that OpenCard rejected less than a day ago."""
    side_by_side: int = SIDE_BY_SIDE


@dataclass(frozen=True, slots=True)
class UnavailableEvents:
    """Events that are wanted for an organization and that it cannot have, for one reason."""

    organization_reference_id: str | None
    organization_id: int
    flags: tuple[str, ...]
    reason: str

    def in_words(self) -> str:
        """Return which events, and why not."""
        return f"{', '.join(words_of(self.flags))}: {self.reason}"

    def as_fields(self) -> Mapping[str, object]:
        """Return it as machines read it, the events by their names."""
        return {
            "organization_reference_id": self.organization_reference_id,
            "organization_id": self.organization_id,
            "events": [EVENT_OF.get(flag, flag) for flag in self.flags],
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class DeletedWebhook:
    """A webhook that OpenCard does not have any more, found by this run."""

    webhook_id: int
    opencard_webhook_id: int | None
    organization_reference_id: str
    organization_id: int
    organization_deleted: bool


@dataclass(frozen=True, slots=True)
class Result:
    """What a run found and did."""

    organizations: int
    left_out: int
    changes: list[tuple[Organization, Change]]
    """What was done, or with ``write=False`` what would be."""
    failures: list[Failure]
    drift: bool
    """Whether something is not as wanted now that the run has ended."""
    unavailable: list[UnavailableEvents] = field(default_factory=list)
    """What organizations do not have because they cannot: no drift where all events are wanted."""
    deleted: list[DeletedWebhook] = field(default_factory=list)
    new_failures: list[Failure] = field(default_factory=list)
    """The failures that the run before did not have."""
    notes: list[Failure] = field(default_factory=list)
    """What should be known, and is no failure."""
    forgotten: int = 0
    """How many webhooks OpenCard has deleted, if that is all there were."""


def as_fields(organization: Organization, change: Change) -> Mapping[str, object]:
    """Return a change as machines read it."""
    return {
        "action": change.action.value,
        "organization_reference_id": organization.reference_id,
        "organization_id": organization.id,
        "opencard_webhook_id": change.opencard_webhook_id,
        "differences": [
            {"field": each.field, "registered": each.registered, "desired": each.desired} for each in change.differences
        ],
    }

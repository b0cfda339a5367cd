"""``BootstrapOptions``, and ``BootstrapResult``: the changes, failures and left-out events of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from receiver.bootstrap.flags import EVENT_OF, labels_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.bootstrap.concurrency import OrganizationFailure
    from receiver.bootstrap.plan import WebhookChange
    from receiver.opencard.webhooks import Organization

PARALLEL_ORGANIZATIONS: Final = 8
"""How many organizations are processed in parallel: most of the time is spent waiting for OpenCard."""


@dataclass(frozen=True, slots=True)
class BootstrapOptions:
    """The defaults are those of the scheduler's runs."""

    write: bool = True
    """Apply the changes; else nothing is written, neither here nor at OpenCard."""
    prune: bool = False
    only: tuple[str, ...] = ()
    """Reference ids of the organizations to process; all, if empty."""
    retry_rejected: bool = False
    """Request flags again that OpenCard rejected less than a day ago."""
    parallelism: int = PARALLEL_ORGANIZATIONS


@dataclass(frozen=True, slots=True)
class UnavailableEvents:
    """Desired events that an organization cannot have, for one reason."""

    organization_reference_id: str | None
    organization_id: int
    flags: tuple[str, ...]
    reason: str

    def describe(self) -> str:
        """Return the events and the reason in one line."""
        return f"{', '.join(labels_of(self.flags))}: {self.reason}"

    def as_fields(self) -> Mapping[str, object]:
        """Return it for JSON, with event names instead of flags."""
        return {
            "organization_reference_id": self.organization_reference_id,
            "organization_id": self.organization_id,
            "events": [EVENT_OF.get(flag, flag) for flag in self.flags],
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class DeletedWebhook:
    """A webhook that this run found deleted at OpenCard."""

    webhook_id: int
    opencard_webhook_id: int | None
    organization_reference_id: str
    organization_id: int
    organization_deleted: bool


@dataclass(frozen=True, slots=True)
class BootstrapResult:
    """The changes and failures of a run over all organizations."""

    organizations: int
    left_out: int
    changes: list[tuple[Organization, WebhookChange]]
    """The changes that were made, or with ``write=False`` would be."""
    failures: list[OrganizationFailure]
    drift: bool
    """Whether something still differs from the configuration after the run."""
    unavailable: list[UnavailableEvents] = field(default_factory=list)
    """Events that organizations cannot have: no drift where all events are desired."""
    deleted: list[DeletedWebhook] = field(default_factory=list)
    new_failures: list[OrganizationFailure] = field(default_factory=list)
    """The failures that the previous run did not have."""
    notes: list[OrganizationFailure] = field(default_factory=list)
    """Warnings that are not failures."""
    all_deleted: int = 0
    """How many webhooks OpenCard has deleted, if it has deleted all of them; else 0."""


def as_fields(organization: Organization, change: WebhookChange) -> Mapping[str, object]:
    """Return a change for JSON."""
    return {
        "action": change.action.value,
        "organization_reference_id": organization.reference_id,
        "organization_id": organization.id,
        "opencard_webhook_id": change.opencard_webhook_id,
        "differences": [
            {"field": each.field, "registered": each.registered, "desired": each.desired} for each in change.differences
        ],
    }

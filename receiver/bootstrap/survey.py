"""What is read of each organization before anything is changed, and what is stored of it afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from receiver.bootstrap.concurrency import OrganizationFailure, failure_of
from receiver.bootstrap.flags import UnavailableFlag, basis_of, describe_unavailable, flags_by_reason, unavailable_flags
from receiver.bootstrap.match import Match
from receiver.bootstrap.organizations import OrganizationRecord
from receiver.bootstrap.outcome import DeletedWebhook, UnavailableEvents
from receiver.bootstrap.plan import Extras
from receiver.errors import ResourceMissing, RouteMissing
from receiver.opencard.webhooks import RegisteredGroup, RegisteredHeader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeVar

    from receiver.bootstrap.desired import DesiredWebhook
    from receiver.bootstrap.match import ManagedWebhooks
    from receiver.bootstrap.outcome import BootstrapOptions
    from receiver.bootstrap.plan import WebhookChange
    from receiver.errors import OpenCardError
    from receiver.opencard.billings import Billing
    from receiver.opencard.webhooks import Organization, RegisteredWebhook, Webhooks
    from receiver.webhooks.managed import ManagedWebhook

    T = TypeVar("T")


@dataclass(slots=True)
class OrganizationPlan:
    """An organization with what was read of it, and the changes that follow."""

    organization: Organization
    desired: DesiredWebhook | None
    unavailable: dict[str, UnavailableFlag] = field(default_factory=dict)
    """Wanted flags that it cannot have."""
    matched: Match = field(default_factory=Match)
    extras: Extras = field(default_factory=Extras)
    notes: list[str] = field(default_factory=list)
    changes: list[WebhookChange] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class AccountState:
    """What is read before the organizations, one by one."""

    managed: ManagedWebhooks
    organizations: Mapping[int, OrganizationRecord]
    billings: Mapping[str, Billing] | None
    """``None`` where they cannot be read."""
    retry_before: datetime | None
    """Flags that were rejected before this time are requested again; with ``None``, none is."""
    deleted: list[ManagedWebhook] = field(default_factory=list)
    """Stored webhooks that OpenCard does not have, as far as this run has found."""

    @property
    def all_deleted(self) -> int:
        """How many webhooks OpenCard has deleted, if it has deleted all of them; otherwise 0."""
        there = [row for row in self.managed.all() if row.opencard_webhook_id is not None and not row.deleted]
        return len(there) if len(there) == len({row.id for row in self.deleted}) else 0


def registered_webhooks(api: Webhooks, organization: Organization, account: AccountState) -> list[RegisteredWebhook]:
    """Return an organization's webhooks, without test webhooks.

    One that the list lacks is requested by its id before it counts as deleted.
    """
    webhooks = [webhook for webhook in api.of(organization.id) if not account.managed.is_test(webhook)]
    listed = {webhook.id for webhook in webhooks}
    for row in (
        *account.managed.of(organization.reference_id or ""),
        *account.managed.under_other_reference_ids(organization),
    ):
        if row.opencard_webhook_id is not None and row.opencard_webhook_id not in listed and not row.deleted:
            try:
                webhooks.append(api.get(organization.id, row.opencard_webhook_id))
            except ResourceMissing:
                account.deleted.append(row)
    return webhooks


def read_extras(api: Webhooks, draft: OrganizationPlan, options: BootstrapOptions) -> None:
    """Read headers and groups where they are desired; a route that OpenCard lacks becomes a note."""
    webhook, desired, stored = draft.matched.registered, draft.desired, draft.matched.stored
    if webhook is None or desired is None:
        return
    unlisted: set[str] = set()

    def listed(what: str, read: Callable[[], Sequence[T]], known: Sequence[T]) -> tuple[T, ...]:
        try:
            return tuple(read())
        except (ResourceMissing, RouteMissing) as error:
            unlisted.add(what)
            draft.notes.append(f"{what} cannot be listed, so only what was never registered is added: {error}")
            return tuple(known)

    ids = draft.organization.id, webhook.id
    headers = groups = None
    if options.prune or desired.headers:
        values = [
            RegisteredHeader(id=0, key=key, value=value) for key, value in (stored.headers if stored else {}).items()
        ]
        headers = listed("headers", lambda: api.headers(*ids), values)
    if options.prune or desired.groups:
        parties = [RegisteredGroup(id=0, buyer_party=party) for party in (stored.groups if stored else ())]
        groups = listed("groups", lambda: api.groups(*ids), parties)
    draft.extras = Extras(headers, groups, frozenset(unlisted))


def exclude_unavailable(draft: OrganizationPlan, account: AccountState) -> None:
    """Remove the flags that the organization cannot have from its desired webhook; those that are on already stay."""
    if draft.desired is None:
        return
    on = draft.matched.registered.flags_on if draft.matched.registered else frozenset()
    previous = account.organizations.get(draft.organization.id)
    found = unavailable_flags(
        draft.organization,
        account.billings,
        previous.unavailable if previous else {},
        retry_before=account.retry_before,
    )
    desired = draft.desired.flags_on
    draft.unavailable = {flag: why for flag, why in found.items() if flag in desired and flag not in on}
    draft.desired = draft.desired.without(draft.unavailable)


def rejections(
    rejected: Mapping[str, OpenCardError], organization: Organization, account: AccountState
) -> dict[str, UnavailableFlag]:
    """Return the flags that OpenCard rejected in this run, as they are stored."""
    now, basis = datetime.now(UTC), basis_of(organization, account.billings)
    return {
        flag: UnavailableFlag(
            f"not in this organization's billing: OpenCard rejects them ({error.words or 'without saying why'}); "
            "they are asked for again after a day, or with --retry-rejected",
            now,
            basis,
        )
        for flag, error in rejected.items()
    }


def organization_record(
    organization: Organization, draft: OrganizationPlan | None, errors: Mapping[int | None, str], account: AccountState
) -> OrganizationRecord:
    """Return the state of an organization after a run; *errors* by OpenCard's id."""
    previous = account.organizations.get(organization.id)
    unavailable = draft.unavailable if draft else previous.unavailable if previous else {}
    return OrganizationRecord(
        organization.id,
        organization.reference_id,
        left_out=draft.desired is None if draft else previous is not None and previous.left_out,
        unavailable=unavailable,
        error=errors.get(organization.id),
    )


def unavailable_of(draft: OrganizationPlan) -> list[UnavailableEvents]:
    """Return the unavailable events of an organization, by reason."""
    return [
        UnavailableEvents(draft.organization.reference_id, draft.organization.id, tuple(flags), reason)
        for reason, flags in flags_by_reason(draft.unavailable).items()
    ]


def unavailable_failures(draft: OrganizationPlan) -> list[OrganizationFailure]:
    """Return a failure for each reason why explicitly configured events are unavailable."""
    if draft.desired is None or draft.desired.all_events:
        return []
    return [failure_of(draft.organization, line) for line in describe_unavailable(draft.unavailable)]


def is_new(failure: OrganizationFailure, account: AccountState) -> bool:
    """Whether an organization's failure differs from the previous run's."""
    previous = account.organizations.get(failure.organization_id or 0)
    return failure.organization_id is not None and (previous is None or previous.error != failure.error)


def deleted_webhook(webhook: ManagedWebhook, listed: Sequence[Organization]) -> DeletedWebhook:
    """Describe a deleted webhook; *listed* are the organizations that the account still has."""
    return DeletedWebhook(
        webhook.id,
        webhook.opencard_webhook_id,
        webhook.organization_reference_id,
        webhook.organization_id,
        organization_deleted=webhook.organization_id not in {organization.id for organization in listed},
    )

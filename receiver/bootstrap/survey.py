"""What is read of each organization before anything is changed, and what is remembered of it afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from receiver.bootstrap.concurrency import Failure, failed
from receiver.bootstrap.flags import Unavailable, basis_of, flags_by_reason, in_words, unavailable_flags
from receiver.bootstrap.match import Match
from receiver.bootstrap.organizations import KnownOrganization
from receiver.bootstrap.outcome import DeletedWebhook, UnavailableEvents
from receiver.bootstrap.plan import Extras
from receiver.errors import ResourceMissing, RouteMissing
from receiver.opencard.webhooks import Group, Header

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeVar

    from receiver.bootstrap.desired import Wanted
    from receiver.bootstrap.match import Care
    from receiver.bootstrap.outcome import Options
    from receiver.bootstrap.plan import Change
    from receiver.errors import OpenCardError
    from receiver.opencard.billings import Billing
    from receiver.opencard.webhooks import Organization, RegisteredWebhook, Webhooks
    from receiver.webhooks.managed import ManagedWebhook

    T = TypeVar("T")


@dataclass(slots=True)
class OrganizationPlan:
    """What was read of an organization, and what follows from it."""

    organization: Organization
    wanted: Wanted | None
    unavailable: dict[str, Unavailable] = field(default_factory=dict)
    """Wanted flags that it cannot have."""
    matched: Match = field(default_factory=Match)
    extras: Extras = field(default_factory=Extras)
    notes: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Known:
    """What is known before the organizations are read one by one."""

    care: Care
    organizations: Mapping[int, KnownOrganization]
    billings: Mapping[str, Billing] | None
    """``None`` where they cannot be read."""
    retry_before: datetime | None
    """Rejections before this time are not remembered; ``None`` remembers all."""
    deleted: list[ManagedWebhook] = field(default_factory=list)
    """Stored webhooks that OpenCard does not have, as far as this run has found."""

    @property
    def forgotten(self) -> int:
        """How many webhooks OpenCard has deleted, if that is all there were; otherwise 0."""
        there = [row for row in self.care.all() if row.opencard_webhook_id is not None and not row.deleted]
        return len(there) if len(there) == len({row.id for row in self.deleted}) else 0


def registered_webhooks(api: Webhooks, organization: Organization, known: Known) -> list[RegisteredWebhook]:
    """Return an organization's webhooks, without test webhooks.

    One that the list lacks is requested by its id before it counts as deleted.
    """
    webhooks = [webhook for webhook in api.of(organization.id) if not known.care.is_test(webhook)]
    listed = {webhook.id for webhook in webhooks}
    for row in (*known.care.of(organization.reference_id or ""), *known.care.under_other_names(organization)):
        if row.opencard_webhook_id is not None and row.opencard_webhook_id not in listed and not row.deleted:
            try:
                webhooks.append(api.get(organization.id, row.opencard_webhook_id))
            except ResourceMissing:
                known.deleted.append(row)
    return webhooks


def read_extras(api: Webhooks, made: OrganizationPlan, options: Options) -> None:
    """Read headers and groups where they are wanted; a route that OpenCard lacks is noted, and stops nothing."""
    webhook, wanted, stored = made.matched.registered, made.wanted, made.matched.stored
    if webhook is None or wanted is None:
        return
    unlisted: set[str] = set()

    def listed(what: str, read: Callable[[], Sequence[T]], known: Sequence[T]) -> tuple[T, ...]:
        try:
            return tuple(read())
        except (ResourceMissing, RouteMissing) as error:
            unlisted.add(what)
            made.notes.append(f"{what} cannot be listed, so only what was never registered is added: {error}")
            return tuple(known)

    ids = made.organization.id, webhook.id
    headers = groups = None
    if options.prune or wanted.headers:
        values = [Header(id=0, key=key, value=value) for key, value in (stored.headers if stored else {}).items()]
        headers = listed("headers", lambda: api.headers(*ids), values)
    if options.prune or wanted.groups:
        parties = [Group(id=0, buyer_party=party) for party in (stored.groups if stored else ())]
        groups = listed("groups", lambda: api.groups(*ids), parties)
    made.extras = Extras(headers, groups, frozenset(unlisted))


def leave_out_unavailable(made: OrganizationPlan, known: Known) -> None:
    """Find what the organization cannot have, and want the rest. What is on already is what it may have."""
    if made.wanted is None:
        return
    on = made.matched.registered.flags_on if made.matched.registered else frozenset()
    before = known.organizations.get(made.organization.id)
    found = unavailable_flags(
        made.organization, known.billings, before.unavailable if before else {}, retry_before=known.retry_before
    )
    wanted = made.wanted.flags_on
    made.unavailable = {flag: why for flag, why in found.items() if flag in wanted and flag not in on}
    made.wanted = made.wanted.without(made.unavailable)


def rejections(
    rejected: Mapping[str, OpenCardError], organization: Organization, known: Known
) -> dict[str, Unavailable]:
    """Return what is remembered of flags that OpenCard rejected just now."""
    now, basis = datetime.now(UTC), basis_of(organization, known.billings)
    return {
        flag: Unavailable(
            f"not in this client's billing, for OpenCard rejects them ({error.words or 'without saying why'}): they "
            "are asked for again after a day, or with --retry-rejected",
            now,
            basis,
        )
        for flag, error in rejected.items()
    }


def remembered(
    organization: Organization, made: OrganizationPlan | None, errors: Mapping[int | None, str], known: Known
) -> KnownOrganization:
    """Return what is remembered of an organization after a run; *errors*: by OpenCard's id, what could not be done."""
    before = known.organizations.get(organization.id)
    unavailable = made.unavailable if made else before.unavailable if before else {}
    return KnownOrganization(
        organization.id,
        organization.reference_id,
        left_out=made.wanted is None if made else before is not None and before.left_out,
        unavailable=unavailable,
        error=errors.get(organization.id),
    )


def unavailable_of(made: OrganizationPlan) -> list[UnavailableEvents]:
    """Return the wanted events that an organization cannot have, by reason."""
    return [
        UnavailableEvents(made.organization.reference_id, made.organization.id, tuple(flags), reason)
        for reason, flags in flags_by_reason(made.unavailable).items()
    ]


def denied(made: OrganizationPlan) -> list[Failure]:
    """Return a failure for each reason why events cannot be had that the configuration names one by one."""
    if made.wanted is None or made.wanted.all_events:
        return []
    return [failed(made.organization, line) for line in in_words(made.unavailable)]


def is_new(failure: Failure, known: Known) -> bool:
    """Return whether an organization's failure is another than that of the run before."""
    before = known.organizations.get(failure.organization_id or 0)
    return failure.organization_id is not None and (before is None or before.error != failure.error)


def deleted_webhook(webhook: ManagedWebhook, listed: Sequence[Organization]) -> DeletedWebhook:
    """Return a webhook that OpenCard does not have, and whether its organization is in the account's list."""
    return DeletedWebhook(
        webhook.id,
        webhook.opencard_webhook_id,
        webhook.organization_reference_id,
        webhook.organization_id,
        organization_deleted=webhook.organization_id not in {organization.id for organization in listed},
    )

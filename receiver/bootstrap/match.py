"""Match the registered webhooks with the stored ones. Pure.

A webhook is *ours* when this service stores its id, or when its URL is one of our endpoints. Other webhooks are never
changed. Each organization has one webhook of ours; further managed ones were adopted, and are not changed. Test
webhooks are filtered out by the caller (``ManagedWebhooks.is_test``).
"""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from receiver.webhooks.addresses import ENDPOINT_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from receiver.opencard.webhooks import Organization, RegisteredWebhook
    from receiver.webhooks.managed import ManagedWebhook


ALL_DELETED: Final = "OpenCard no longer has any webhook that is registered here"
"""As when a sandbox is started again with the old database."""


@dataclass(frozen=True, slots=True)
class Match:
    """The one webhook of an organization, stored and registered, and surplus ones."""

    stored: ManagedWebhook | None = None
    registered: RegisteredWebhook | None = None
    surplus: tuple[RegisteredWebhook, ...] = ()
    """Ours by their URL, but not stored: from a request that was sent twice, or from a lost database."""


class ManagedWebhooks:
    """All managed webhooks by organization, id and endpoint key; *tests* are only used to exclude test webhooks."""

    def __init__(self, stored: Sequence[ManagedWebhook], tests: Sequence[ManagedWebhook] = ()) -> None:
        self._stored = stored
        self._test_ids = {row.opencard_webhook_id for row in tests}
        self._test_keys = {key for row in tests for key in (row.endpoint_key, *row.previous_keys)}
        self.ids = {row.opencard_webhook_id: row for row in stored if row.opencard_webhook_id is not None}
        self.keys = {key: row for row in stored for key in (row.endpoint_key, *row.previous_keys)}

    def all(self) -> Sequence[ManagedWebhook]:
        """Return every one, oldest first."""
        return self._stored

    def of(self, reference_id: str) -> list[ManagedWebhook]:
        """Return the webhooks of an organization, oldest first."""
        return [row for row in self._stored if row.organization_reference_id == reference_id]

    def owner(self, webhook: RegisteredWebhook, rows: Sequence[ManagedWebhook]) -> ManagedWebhook | None:
        """Return the stored webhook that one registered for the organization of *rows* belongs to.

        By id, else by its URL's endpoint key. After OpenCard has lost everything, ids start again from 1: then the key
        counts more than an id that belonged to another organization's webhook.
        """
        by_id, by_key = self.ids.get(webhook.id), self.keys.get(endpoint_key(webhook.url))
        if by_key in rows and by_id not in rows:
            return by_key
        return by_id or by_key

    def is_test(self, webhook: RegisteredWebhook) -> bool:
        """Whether a registered webhook is a test webhook: by its URL's endpoint key, else by its id."""
        key = endpoint_key(webhook.url)
        return key in self._test_keys or (webhook.id in self._test_ids and key not in self.keys)

    def under_other_reference_ids(self, organization: Organization) -> list[ManagedWebhook]:
        """Return the managed webhooks for the same organization under another reference id."""
        return [
            row
            for row in self._stored
            if row.organization_id == organization.id and row.organization_reference_id != organization.reference_id
        ]


def endpoint_key(url: str) -> str:
    """Return the endpoint key in a URL of ours, under any ``PUBLIC_URL``; else an empty string."""
    return url.rpartition(ENDPOINT_PATH)[2] if ENDPOINT_PATH in url else ""


def match(
    managed: ManagedWebhooks, reference_id: str, registered: Sequence[RegisteredWebhook], *, public_url: str
) -> Match:
    """Find the webhook of an organization among the *managed* and the *registered* ones."""
    rows = managed.of(reference_id)
    candidates = sorted(registered, key=_preference)
    pairs = [(row, webhook) for webhook in candidates for row in rows if managed.owner(webhook, rows) is row]
    by_id = {webhook.id for row, webhook in pairs if row.opencard_webhook_id == webhook.id}
    best = min(
        pairs, key=lambda pair: pair[1].id not in by_id, default=None
    )  # the first of them, by id if there is one
    ours = [
        webhook
        for webhook in candidates
        if webhook.id not in by_id
        and (
            managed.owner(webhook, rows) in rows
            or (managed.owner(webhook, rows) is None and _is_ours(webhook, public_url))
        )
    ]
    if best is not None:
        return Match(*best, tuple(webhook for webhook in ours if webhook is not best[1]))
    if rows:
        return Match(rows[0], None, tuple(ours))
    return Match(None, ours[0], tuple(ours[1:])) if ours else Match()


def _is_ours(webhook: RegisteredWebhook, public_url: str) -> bool:
    return webhook.url.startswith(public_url + ENDPOINT_PATH)


def _preference(webhook: RegisteredWebhook) -> tuple[bool, bool, int]:
    """Sort the ones that deliver first: enabled, active, the oldest."""
    return (webhook.enabled is False, webhook.active is not True, webhook.id)


def find_conflicts(
    organizations: Sequence[Organization],
    managed: ManagedWebhooks,
    registered: Mapping[int, Sequence[RegisteredWebhook]],
) -> dict[int, str]:
    """Return by OpenCard's id the organizations that an operator has to clarify first, each with the reason."""
    names = Counter(str(each.reference_id) for each in organizations if each.reference_id is not None)
    found = {}
    for organization in organizations:
        why = _conflict(organization, names, managed, registered.get(organization.id, ()))
        if why is not None:
            found[organization.id] = why
    return found


def _conflict(
    organization: Organization, names: Counter[str], managed: ManagedWebhooks, registered: Sequence[RegisteredWebhook]
) -> str | None:
    reference = organization.reference_id
    if reference is None:
        return (
            "it has no reference_id, by which the EMS would know whose purchases arrive: "
            "set it at OpenCard, then run bootstrap again"
        )
    if names[reference] > 1:
        return f"{names[reference]} organizations have the reference_id {reference!r}: give each its own at OpenCard"
    renamed = managed.under_other_reference_ids(organization)
    if renamed:
        before = renamed[0].organization_reference_id
        if renamed[0].opencard_webhook_id not in {webhook.id for webhook in registered}:
            return (
                f"{ALL_DELETED}: webhook {renamed[0].id} is managed for {before!r}, but the organization is called "
                f"{reference!r} now, without that webhook. A sandbox that was started again gets an empty database "
                f"(DATABASE_URL), or the organizations of before (--organization {shlex.quote(before)}); if only "
                "the name was changed, change it back"
            )
        return (
            f"OpenCard calls it {reference!r} now, but webhook {renamed[0].id} is managed for {before!r}, and so is "
            "what it brought: give it its reference_id back at OpenCard, or move its data in ems first"
        )
    for webhook in registered:
        owner = managed.owner(webhook, managed.of(reference))
        if owner is not None and owner.organization_reference_id != reference:
            return (
                f"OpenCard's webhook {webhook.id} is registered for it, but managed for "
                f"{owner.organization_reference_id!r}: receiver webhooks show {owner.id}"
            )
    return None

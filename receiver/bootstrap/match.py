"""Which registered webhook is which stored one? Pure.

A webhook is *ours* when this service stores its id, or when its URL is one of our endpoints. What is not ours is never
touched. Each organization has one webhook of ours; further ones that are managed here were adopted, and are left alone.
Test webhooks are left out before: see ``test_webhooks``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from receiver.webhooks.addresses import ENDPOINT_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from receiver.opencard.webhooks import Organization, RegisteredWebhook
    from receiver.webhooks.managed import ManagedWebhook


FORGOTTEN: Final = "OpenCard has forgotten what is registered here"
"""What happens to a sandbox that is started anew beside a kept database."""


@dataclass(frozen=True, slots=True)
class Match:
    """The one webhook of an organization, on either side, and what else of ours is registered for it."""

    stored: ManagedWebhook | None = None
    registered: RegisteredWebhook | None = None
    surplus: tuple[RegisteredWebhook, ...] = ()
    """Ours by their URL, but nobody's: left behind by a request sent twice, or by a database that was lost."""


class Care:
    """All managed webhooks, found by organization, id and endpoint key; *tests* are only there to be left out."""

    def __init__(self, stored: Sequence[ManagedWebhook], tests: Sequence[ManagedWebhook] = ()) -> None:
        self._stored = stored
        self._test_ids = {row.opencard_webhook_id for row in tests}
        self._test_keys = {key for row in tests for key in (row.endpoint_key, *row.previous_keys)}
        self.ids = {row.opencard_webhook_id: row for row in stored if row.opencard_webhook_id is not None}
        self.keys = {key: row for row in stored for key in (row.endpoint_key, *row.previous_keys)}

    def all(self) -> Sequence[ManagedWebhook]:
        """Return all of them, oldest first."""
        return self._stored

    def of(self, reference_id: str) -> list[ManagedWebhook]:
        """Return the webhooks of an organization, oldest first."""
        return [row for row in self._stored if row.organization_reference_id == reference_id]

    def owner(self, webhook: RegisteredWebhook, rows: Sequence[ManagedWebhook]) -> ManagedWebhook | None:
        """Return the stored webhook that one registered for the organization of *rows* belongs to.

        By id, else by its URL's endpoint key; at an OpenCard that has forgotten everything, ids begin anew, and one of
        another organization's webhook proves nothing beside the key.
        """
        by_id, by_key = self.ids.get(webhook.id), self.keys.get(endpoint_key(webhook.url))
        if by_key in rows and by_id not in rows:
            return by_key
        return by_id or by_key

    def is_test(self, webhook: RegisteredWebhook) -> bool:
        """Return whether a registered webhook is a test webhook: by its URL's endpoint key, else by its id."""
        key = endpoint_key(webhook.url)
        return key in self._test_keys or (webhook.id in self._test_ids and key not in self.keys)

    def under_other_names(self, organization: Organization) -> list[ManagedWebhook]:
        """Return the managed webhooks for the same organization of OpenCard under another id of the EMS."""
        return [
            row
            for row in self._stored
            if row.organization_id == organization.id and row.organization_reference_id != organization.reference_id
        ]


def endpoint_key(url: str) -> str:
    """Return the endpoint key in a URL of ours, whatever ``PUBLIC_URL`` was when it was registered; else nothing."""
    return url.rpartition(ENDPOINT_PATH)[2] if ENDPOINT_PATH in url else ""


def match(care: Care, reference_id: str, registered: Sequence[RegisteredWebhook], *, public_url: str) -> Match:
    """Find the webhook of an organization in what is in *care* and *registered* for it."""
    rows = care.of(reference_id)
    candidates = sorted(registered, key=_preference)
    pairs = [(row, webhook) for webhook in candidates for row in rows if care.owner(webhook, rows) is row]
    by_id = {webhook.id for row, webhook in pairs if row.opencard_webhook_id == webhook.id}
    best = min(
        pairs, key=lambda pair: pair[1].id not in by_id, default=None
    )  # the first of them, by id if there is one
    ours = [
        webhook
        for webhook in candidates
        if webhook.id not in by_id
        and (care.owner(webhook, rows) in rows or (care.owner(webhook, rows) is None and _is_ours(webhook, public_url)))
    ]
    if best is not None:
        return Match(*best, tuple(webhook for webhook in ours if webhook is not best[1]))
    if rows:
        return Match(rows[0], None, tuple(ours))
    return Match(None, ours[0], tuple(ours[1:])) if ours else Match()


def _is_ours(webhook: RegisteredWebhook, public_url: str) -> bool:
    return webhook.url.startswith(public_url + ENDPOINT_PATH)


def _preference(webhook: RegisteredWebhook) -> tuple[bool, bool, int]:
    """Sort first what delivers: enabled, active, the oldest."""
    return (webhook.enabled is False, webhook.active is not True, webhook.id)


def objections(
    organizations: Sequence[Organization], care: Care, registered: Mapping[int, Sequence[RegisteredWebhook]]
) -> dict[int, str]:
    """Return why nothing can be done for an organization until a person has looked, by OpenCard's id of it."""
    names = Counter(str(each.reference_id) for each in organizations if each.reference_id is not None)
    found = {}
    for organization in organizations:
        why = _objection(organization, names, care, registered.get(organization.id, ()))
        if why is not None:
            found[organization.id] = why
    return found


def _objection(
    organization: Organization, names: Counter[str], care: Care, registered: Sequence[RegisteredWebhook]
) -> str | None:
    reference = organization.reference_id
    if reference is None:
        return (
            "it has no reference_id, by which the EMS would know whose purchases arrive: "
            "set it at OpenCard, then run bootstrap again"
        )
    if names[reference] > 1:
        return f"{names[reference]} organizations have the reference_id {reference!r}: give each its own at OpenCard"
    renamed = care.under_other_names(organization)
    if renamed:
        before = renamed[0].organization_reference_id
        if renamed[0].opencard_webhook_id not in {webhook.id for webhook in registered}:
            return (
                f"{FORGOTTEN}: webhook {renamed[0].id} is managed for {before!r}, but the organization is called "
                f"{reference!r} now, without that webhook. A sandbox that was started anew gets an empty database "
                f"(DATABASE_URL), or the organizations of before (--organization {before}); if only the name was "
                "changed, change it back"
            )
        return (
            f"OpenCard calls it {reference!r} now, but webhook {renamed[0].id} is managed for {before!r}, and so is "
            "what it brought: give it its reference_id back at OpenCard, or move its data in ems first"
        )
    for webhook in registered:
        owner = care.owner(webhook, care.of(reference))
        if owner is not None and owner.organization_reference_id != reference:
            return (
                f"OpenCard's webhook {webhook.id} is registered for it, but managed for "
                f"{owner.organization_reference_id!r}: receiver webhooks show {owner.id}"
            )
    return None

"""Organizations, their webhooks and the delivery log: what the dashboard shows, and lets people change."""

from __future__ import annotations

import random
import string
from dataclasses import replace
from itertools import count, cycle
from secrets import choice
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, TypeVar

from receiver.sandbox.provider.billing import PRODUCTS
from receiver.sandbox.provider.events import FLAG_OF, FLAGS
from receiver.sandbox.provider.log import LogView, ProviderLog
from receiver.sandbox.provider.log_style import LogStyle
from receiver.sandbox.provider.refusals import duplicate, not_found
from receiver.sandbox.provider.resources import (
    ProviderBilling,
    ProviderGroup,
    ProviderHeader,
    ProviderLogEntry,
    ProviderOrganization,
    ProviderWebhook,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from types import EllipsisType

    from receiver.sandbox.tally import DeliveryAttempt

T = TypeVar("T")
SECRET_LENGTH: Final = 60
AS_WRITTEN: Final = LogStyle()


def generated_secret() -> str:
    """Return the secret of a webhook whose maker supplied none."""
    return "".join(choice(string.ascii_letters + string.digits) for _ in range(SECRET_LENGTH))


class ProviderState:
    """Organizations, webhooks and the log of all accounts; safe for threads.

    Ids are given in order and never twice. Methods raise ``Refused`` (404) for an id that is not there.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._ids = count(1)
        self._billing_ids = count(301)
        self._organizations: dict[int, ProviderOrganization] = {}
        self._webhooks: dict[int, ProviderWebhook] = {}
        self._logs: dict[int, ProviderLog] = {}
        self._billings: dict[int, ProviderBilling] = {}
        self._shared_billings: dict[int, int] = {}

    def add_billing(
        self, products: Iterable[str] = PRODUCTS, *, account_id: int = 1, name: str = "Standard"
    ) -> ProviderBilling:
        """Make a billing profile with these products switched on."""
        with self._lock:
            billing = ProviderBilling(
                id=next(self._billing_ids), account_id=account_id, name=name, products=frozenset(products)
            )
            self._billings[billing.id] = billing
            return billing

    def change_billing(self, billing_id: int, products: Iterable[str]) -> ProviderBilling:
        """Switch exactly these products on; what is registered already stays as it is."""
        with self._lock:
            self._billings[billing_id] = replace(self.billing(billing_id), products=frozenset(products))
            return self._billings[billing_id]

    def billing(self, billing_id: int) -> ProviderBilling:
        """Return a billing profile."""
        return _found(self._billings, billing_id)

    def billings(self, account_id: int = 1) -> list[ProviderBilling]:
        """Return the billing profiles of an account."""
        with self._lock:
            return [each for each in self._billings.values() if each.account_id == account_id]

    def _shared_billing(self, account_id: int) -> int:
        """Return the id of the profile with all products that organizations have unless they are given another."""
        if account_id not in self._shared_billings:
            self._shared_billings[account_id] = self.add_billing(account_id=account_id).id
        return self._shared_billings[account_id]

    def add_organization(
        self,
        reference_id: str,
        *,
        name: str | None = None,
        buyer_party: str | None = None,
        account_id: int = 1,
        billing_id: int | EllipsisType | None = ...,
    ) -> ProviderOrganization:
        """Make an organization; its name and organization number follow from its id unless they are given.

        Unless *billing_id* is given it has a profile with all products, shared by such organizations; ``None``: none.
        """
        with self._lock:
            number = 1000 + next(self._ids)
            organization = ProviderOrganization(
                id=number,
                account_id=account_id,
                reference_id=reference_id,
                name=name or f"{reference_id} AB",
                buyer_party=buyer_party or f"55{number:08}",
                tpa_id=f"tpa-{number}",
                billing_id=self._shared_billing(account_id) if billing_id is ... else billing_id,
            )
            self._organizations[organization.id] = organization
            return organization

    def add_organizations(
        self, references: Iterable[str], products: Sequence[frozenset[str] | None], *, account_id: int = 1
    ) -> None:
        """Make organizations that have these *products* in turn, each kind under one billing; ``None``: under none."""
        with self._lock:
            ids = [None if each is None else self.add_billing(each, account_id=account_id).id for each in products]
            for reference, billing_id in zip(references, cycle(ids), strict=False):
                self.add_organization(reference, account_id=account_id, billing_id=billing_id)

    def change_organization(self, organization_id: int, **changes: Any) -> ProviderOrganization:  # noqa: ANN401 - its fields
        """Replace fields of an organization: its billing, or its reference."""
        with self._lock:
            self._organizations[organization_id] = replace(self.organization(organization_id), **changes)
            return self._organizations[organization_id]

    def remove_tpa(self, organization_id: int) -> None:
        """Delete an organization's activated TPA: its webhooks, with their logs, are deleted with it, unannounced."""
        with self._lock:
            self.organization(organization_id)
            for webhook in self.webhooks_of(organization_id):
                self.remove_webhook(webhook.id)

    def remove_organization(self, organization_id: int) -> None:
        """Remove an organization and its webhooks."""
        with self._lock:
            self.organization(organization_id)
            for webhook in self.webhooks_of(organization_id):
                self.remove_webhook(webhook.id)
            del self._organizations[organization_id]

    def organization(self, organization_id: int) -> ProviderOrganization:
        """Return an organization."""
        return _found(self._organizations, organization_id)

    def organizations(self, account_id: int = 1) -> list[ProviderOrganization]:
        """Return the organizations of an account, in the order of its list."""
        with self._lock:
            return [each for each in self._organizations.values() if each.account_id == account_id]

    def add_webhook(self, organization_id: int, url: str, **fields: Any) -> ProviderWebhook:  # noqa: ANN401 - Webhook's fields
        """Register a webhook without any check or challenge; its secret is generated unless it is given."""
        with self._lock:
            self.organization(organization_id)
            fields = {"secret": generated_secret(), **fields}
            webhook = ProviderWebhook(id=5000 + next(self._ids), organization_id=organization_id, url=url, **fields)
            self._webhooks[webhook.id] = webhook
            self._logs[webhook.id] = ProviderLog()
            return webhook

    def change_webhook(self, webhook_id: int, **changes: Any) -> ProviderWebhook:  # noqa: ANN401 - Webhook's fields
        """Replace fields of a webhook (url, enabled, active, ...) without any check or challenge."""
        with self._lock:
            self._webhooks[webhook_id] = replace(self.webhook(webhook_id), **changes)
            return self._webhooks[webhook_id]

    def switch_event(self, webhook_id: int, event: str, *, on: bool) -> ProviderWebhook:
        """Set the flag of *event*. Raises ``ValueError`` for an event without one."""
        flag = FLAG_OF.get(event)
        if flag is None:
            raise ValueError(f"{event!r} has no flag; there are {', '.join(FLAGS)}")
        with self._lock:
            flags = self.webhook(webhook_id).flags
            return self.change_webhook(webhook_id, flags=flags | {flag} if on else flags - {flag})

    def remove_webhook(self, webhook_id: int) -> None:
        """Remove a webhook with its log; the API cannot do it."""
        with self._lock:
            self.webhook(webhook_id)
            del self._webhooks[webhook_id], self._logs[webhook_id]

    def webhook(self, webhook_id: int) -> ProviderWebhook:
        """Return a webhook."""
        return _found(self._webhooks, webhook_id)

    def webhooks_of(self, organization_id: int) -> list[ProviderWebhook]:
        """Return the webhooks of an organization, in the order of its list."""
        with self._lock:
            return [each for each in self._webhooks.values() if each.organization_id == organization_id]

    def webhooks(self) -> list[ProviderWebhook]:
        """Return the webhooks of all organizations."""
        with self._lock:
            return list(self._webhooks.values())

    def add_header(self, webhook_id: int, key: str, value: str) -> ProviderHeader:
        """Register a custom header. Raises ``Refused`` (409) when there is one of that name, in whatever case."""
        with self._lock:
            headers = self.webhook(webhook_id).headers
            if key.lower() in {header.key.lower() for header in headers}:
                raise duplicate(f"The header {key} exists.")
            header = ProviderHeader(next(self._ids), key, value)
            self.change_webhook(webhook_id, headers=(*headers, header))
            return header

    def remove_header(self, webhook_id: int, header_id: int) -> None:
        """Remove a custom header."""
        with self._lock:
            left = {header.id: header for header in self.webhook(webhook_id).headers}
            _found(left, header_id)
            del left[header_id]
            self.change_webhook(webhook_id, headers=tuple(left.values()))

    def add_group(self, webhook_id: int, buyer_party: str) -> ProviderGroup:
        """Register a buyer party. Raises ``Refused`` (409) when the webhook has it."""
        with self._lock:
            groups = self.webhook(webhook_id).groups
            if buyer_party in {group.buyer_party for group in groups}:
                raise duplicate(f"The group {buyer_party} exists.")
            group = ProviderGroup(next(self._ids), buyer_party)
            self.change_webhook(webhook_id, groups=(*groups, group))
            return group

    def remove_group(self, webhook_id: int, group_id: int) -> None:
        """Remove a buyer party."""
        with self._lock:
            left = {group.id: group for group in self.webhook(webhook_id).groups}
            _found(left, group_id)
            del left[group_id]
            self.change_webhook(webhook_id, groups=tuple(left.values()))

    def log_attempt(self, webhook_id: int, event: str, status: int | None, at: datetime, body: bytes) -> None:
        """Write an attempt into the log of a webhook; for a deleted webhook nothing is stored."""
        with self._lock:
            if webhook_id in self._logs:
                self._logs[webhook_id].entries.append(
                    ProviderLogEntry(next(self._ids), webhook_id, event, status, at, body)
                )

    def log_attempts(self, webhook_id: int, attempts: Iterable[DeliveryAttempt]) -> list[int]:
        """Write *attempts* into the log of a webhook as they are, without delivering anything; return their ids.

        All are added at once, and quickly: a hundred thousand in a moment.
        """
        with self._lock:
            entries = [
                ProviderLogEntry(next(self._ids), webhook_id, attempt.event, attempt.status, attempt.at, attempt.body)
                for attempt in attempts
            ]
            _found(self._logs, webhook_id).entries.extend(entries)
            return [entry.id for entry in entries]

    def empty_logs(self) -> None:
        """Delete every attempt from the logs of all webhooks."""
        with self._lock:
            self._logs = {number: ProviderLog() for number in self._logs}

    def log_of(self, webhook_id: int, style: LogStyle = AS_WRITTEN) -> LogView:
        """Return the attempts to deliver to a webhook up to now: the newest first, unless *style* has another order."""
        with self._lock:
            return _found(self._logs, webhook_id).view(style)

    def shuffle(self, seed: int) -> None:
        """Put organizations and webhooks into another order, as lists may change while they are read."""
        rng = random.Random(seed)  # noqa: S311 - an order has to be the same again, not unguessable
        with self._lock:
            for kept in (self._organizations, self._webhooks):
                items = list(kept.items())
                rng.shuffle(items)
                kept.clear()
                kept.update(items)  # type: ignore[arg-type]


def _found(kept: dict[int, T], number: int) -> T:
    if number not in kept:
        raise not_found()
    return kept[number]

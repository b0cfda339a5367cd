"""One run of bootstrap over the organizations of the account: read, plan, apply, save."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from receiver.bootstrap.applied import AppliedConfigurations
from receiver.bootstrap.apply import ROUTES, Applier
from receiver.bootstrap.concurrency import OrganizationFailure, failure_of, in_parallel, one_at_a_time
from receiver.bootstrap.desired import nearest
from receiver.bootstrap.flags import RETRY_AFTER
from receiver.bootstrap.match import ManagedWebhooks, find_conflicts, match
from receiver.bootstrap.organizations import OrganizationStore
from receiver.bootstrap.outcome import PARALLEL_ORGANIZATIONS, BootstrapOptions, BootstrapResult, as_fields
from receiver.bootstrap.plan import Action, plan
from receiver.bootstrap.survey import (
    AccountState,
    OrganizationPlan,
    deleted_webhook,
    exclude_unavailable,
    is_new,
    organization_record,
    read_extras,
    registered_webhooks,
    rejections,
    unavailable_failures,
    unavailable_of,
)
from receiver.errors import OpenCardError, OperationRefused, ResourceMissing, ScopeNotGranted
from receiver.opencard.billings import list_billings
from receiver.opencard.client import OpenCard
from receiver.opencard.routes import LIST_BILLINGS
from receiver.opencard.scopes import READ_GROUPS, READ_HEADERS, READ_WEBHOOKS, scopes_of
from receiver.opencard.tokens import BorrowedTokens, StoredTokens
from receiver.opencard.webhooks import Webhooks
from receiver.progress import Progress
from receiver.webhooks.store import WebhookStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import httpx
    from sqlalchemy import Engine

    from receiver.bootstrap.desired import Configuration
    from receiver.db import HeldLock
    from receiver.encryption import Encryption
    from receiver.opencard.auth import Access
    from receiver.opencard.billings import Billing
    from receiver.opencard.tokens import TokenStore
    from receiver.opencard.webhooks import Organization, RegisteredWebhook

__all__ = ["PARALLEL_ORGANIZATIONS", "Bootstrap", "BootstrapOptions", "BootstrapResult", "as_fields"]

log = structlog.stdlib.get_logger(__name__)


class Bootstrap:
    """Makes the webhooks at OpenCard match the configuration."""

    def __init__(
        self,
        engine: Engine,
        encryption: Encryption,
        access: Access,
        public_url: str,
        *,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._engine = engine
        self._store = WebhookStore(engine, encryption)
        self._organizations = OrganizationStore(engine)
        self._applied = AppliedConfigurations(engine, encryption)
        self._tokens = StoredTokens(engine, encryption)
        self._access = access
        self._public_url = public_url
        self._transport = transport

    def run(
        self,
        configuration: Configuration | None,
        options: BootstrapOptions,
        progress: Progress = Progress(),  # noqa: B008
    ) -> BootstrapResult:
        """Compare, and with ``options.write`` apply the differences; one organization's failure stops no other.

        The *configuration* of a writing run over the whole account is stored; ``None`` applies the stored one again.
        Raises ``OperationRefused`` when another run is active, an organization does not exist or no configuration is
        stored, and an ``OpenCardError`` when there is no token or the organizations cannot be listed.
        """
        given = configuration
        with ExitStack() as stack:
            held = stack.enter_context(one_at_a_time(self._engine)) if options.write else None
            if configuration is None:  # loaded while no other run can replace it
                configuration = self._applied.load()
            if configuration is None:
                raise OperationRefused("no configuration was applied yet: run receiver bootstrap")
            tokens = self._tokens if options.write else BorrowedTokens(self._tokens)
            reading = stack.enter_context(self._client(_reading_scopes(configuration, options), tokens))
            api = Webhooks(reading)
            progress.stage("listing the organizations")
            organizations = api.organizations()
            failures = _unknown_organizations(configuration, organizations)
            selected = _selected(organizations, options.only)
            progress.total(len(selected) * (2 if options.write else 1))
            progress.stage("reading")
            account = self._account_state(tokens, options, selected)
            plans, unread = self._read(api, selected, configuration, options, account, progress)
            failures += unread
            if held is not None:
                needed = scopes_of(
                    route for each in plans for change in each.changes for route in ROUTES[change.action]
                )
                if needed:
                    api = Webhooks(reading, stack.enter_context(self._client(needed, tokens, held)))
                progress.stage("registering")
                failures += self._apply(api, held, plans, options, account, progress)
            if not options.only:
                self._find_deleted_organizations(Webhooks(reading), organizations, account)
            failures += [failure_of(each.organization, problem) for each in plans for problem in each.problems]
            failures += [failure for each in plans for failure in unavailable_failures(each)]
            changes = [(each.organization, change) for each in plans for change in each.changes]
            result = BootstrapResult(
                organizations=len(selected),
                left_out=sum(each.desired is None for each in plans),
                changes=changes,
                failures=failures,
                drift=bool(failures) or (bool(changes) and not options.write),
                unavailable=[found for each in plans for found in unavailable_of(each)],
                deleted=[deleted_webhook(webhook, organizations) for webhook in account.deleted],
                new_failures=[failure for failure in failures if is_new(failure, account)],
                notes=[failure_of(each.organization, note) for each in plans for note in each.notes],
                all_deleted=account.all_deleted,
            )
            if held is not None:
                held.check()
                self._save_state(given, options, organizations, selected, plans, result, account)
            return result

    def _client(self, scopes: Iterable[str], tokens: TokenStore, held: HeldLock | None = None) -> OpenCard:
        guard = {} if held is None else {"before_change": held.check}
        client = OpenCard(self._access, scopes, tokens, transport=self._transport, **guard)
        client.authenticate()  # a missing scope is reported once, not for each organization
        return client

    def _account_state(
        self, tokens: TokenStore, options: BootstrapOptions, selected: Sequence[Organization]
    ) -> AccountState:
        now = datetime.now(UTC)
        retry_before = None if not options.write else now if options.retry_rejected else now - RETRY_AFTER
        return AccountState(
            managed=ManagedWebhooks(self._store.all(), self._store.tests()),
            organizations=self._organizations.all(),
            billings=self._billings(tokens) if any(each.billing_id for each in selected) else None,
            retry_before=retry_before,
        )

    def _billings(self, tokens: TokenStore) -> Mapping[str, Billing] | None:
        """Return the billing profiles; ``None`` when this client cannot read them: the run goes on without."""
        with OpenCard(self._access, [LIST_BILLINGS.scope], tokens, transport=self._transport) as api:
            try:
                return list_billings(api)
            except ScopeNotGranted:
                return None
            except OpenCardError as error:
                log.warning("billings.unreadable", error=str(error))
                return None

    def _read(
        self,
        api: Webhooks,
        selected: Sequence[Organization],
        configuration: Configuration,
        options: BootstrapOptions,
        account: AccountState,
        progress: Progress,
    ) -> tuple[list[OrganizationPlan], list[OrganizationFailure]]:
        """Return the plan of each organization, and the failures of those without one."""

        def registered(organization: Organization) -> list[RegisteredWebhook]:
            try:
                return registered_webhooks(api, organization, account)
            finally:
                progress.advance()

        found, failures = in_parallel(registered, selected, options.parallelism)
        conflicts = find_conflicts(
            selected, account.managed, {organization.id: webhooks for organization, webhooks in found}
        )
        failures += [failure_of(each, conflicts[each.id]) for each in selected if each.id in conflicts]

        def planned(read: tuple[Organization, list[RegisteredWebhook]]) -> OrganizationPlan:
            organization, webhooks = read
            reference = organization.reference_id or ""
            draft = OrganizationPlan(organization, configuration.desired(reference))
            draft.matched = match(account.managed, reference, webhooks, public_url=self._public_url)
            exclude_unavailable(draft, account)
            read_extras(api, draft, options)
            draft.changes = plan(
                draft.desired, draft.matched, draft.extras, public_url=self._public_url, prune=options.prune
            )
            return draft

        sound = [(organization, webhooks) for organization, webhooks in found if organization.id not in conflicts]
        plans, unread = in_parallel(planned, sound, options.parallelism, organization=lambda read: read[0])
        return [draft for _, draft in plans], failures + unread

    def _apply(
        self,
        api: Webhooks,
        held: HeldLock,
        plans: Sequence[OrganizationPlan],
        options: BootstrapOptions,
        account: AccountState,
        progress: Progress,
    ) -> list[OrganizationFailure]:
        """Apply each plan; afterwards its changes are those that were made."""

        def carry_out(draft: OrganizationPlan) -> None:
            held.check()
            applier = Applier.of(
                api, self._store, self._public_url, draft.organization, draft.desired, draft.matched, draft.extras
            )
            try:
                applier.apply(draft.changes)
                log.debug(
                    "webhook.registered", organization=draft.organization.reference_id, changes=len(draft.changes)
                )
            finally:
                draft.changes, draft.problems = applier.done, applier.problems
                draft.unavailable |= rejections(applier.rejected, draft.organization, account)
                applier.note_facts()
                progress.advance()

        _, failures = in_parallel(carry_out, plans, options.parallelism, organization=lambda draft: draft.organization)
        return failures

    def _find_deleted_organizations(self, api: Webhooks, listed: Sequence[Organization], account: AccountState) -> None:
        """Find the webhooks of organizations that the account's list lacks; each is requested to be sure."""
        there = {organization.id for organization in listed}
        for webhook in account.managed.all():
            if webhook.organization_id not in there and webhook.opencard_webhook_id is not None and not webhook.deleted:
                try:
                    api.get(webhook.organization_id, webhook.opencard_webhook_id)
                except ResourceMissing:
                    account.deleted.append(webhook)
                except OpenCardError as error:
                    log.warning("webhook.unlisted", webhook_id=webhook.id, error=str(error))

    def _save_state(
        self,
        given: Configuration | None,
        options: BootstrapOptions,
        listed: Sequence[Organization],
        selected: Sequence[Organization],
        plans: Sequence[OrganizationPlan],
        result: BootstrapResult,
        account: AccountState,
    ) -> None:
        """Write what the next run, ``status`` and ``doctor`` read."""
        still_there = {row.id: row.opencard_webhook_id for row in self._store.all() if not row.deleted}
        registered_again = {
            each.matched.stored.id
            for each in plans
            for change in each.changes
            if each.matched.stored is not None and change.action is Action.CREATE
        }
        for webhook in account.deleted:
            # one that was registered again meanwhile has another id, unless OpenCard's ids start from 1 again
            if still_there.get(webhook.id) == webhook.opencard_webhook_id and webhook.id not in registered_again:
                self._store.note_deleted(webhook)
                log.warning("webhook.deleted", webhook_id=webhook.id, opencard_webhook_id=webhook.opencard_webhook_id)
        errors: dict[int | None, str] = {failure.organization_id: failure.error for failure in result.failures}
        by_id = {each.organization.id: each for each in plans}
        self._organizations.save(
            [
                organization_record(organization, by_id.get(organization.id), errors, account)
                for organization in selected
            ],
            account.organizations,
        )
        if not options.only:
            self._organizations.note_deleted(account.organizations.keys() - {each.id for each in listed})
            if given is not None:
                self._applied.save(given)


def _reading_scopes(configuration: Configuration, options: BootstrapOptions) -> frozenset[str]:
    """Return the scopes for reading: those of headers and groups only if these are desired, or to be pruned."""
    desired = configuration.all(options.only)
    needs = [READ_WEBHOOKS]
    if options.prune or any(each.headers for each in desired):
        needs.append(READ_HEADERS)
    if options.prune or any(each.groups for each in desired):
        needs.append(READ_GROUPS)
    return frozenset[str]().union(*(need.scopes for need in needs))


def _unknown_organizations(
    configuration: Configuration, organizations: Sequence[Organization]
) -> list[OrganizationFailure]:
    """Return a failure for each configured organization that the account does not have."""
    known = [each.reference_id for each in organizations if each.reference_id is not None]
    return [
        OrganizationFailure(
            name, None, f"the configuration names it, but the account has no such organization; {nearest(name, known)}"
        )
        for name in configuration.organizations
        if name not in known
    ]


def _selected(organizations: Sequence[Organization], only: Sequence[str]) -> list[Organization]:
    known = [each.reference_id for each in organizations if each.reference_id is not None]
    for name in only:
        if name not in known:
            raise OperationRefused(f"the account has no organization {name!r}; {nearest(name, known)}")
    return [each for each in organizations if not only or each.reference_id in only]

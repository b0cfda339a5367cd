"""One run of bootstrap over the organizations of the account: read, plan, apply, remember."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from receiver.bootstrap.applied import AppliedConfigurations
from receiver.bootstrap.apply import ROUTES, Applier
from receiver.bootstrap.concurrency import Failure, failed, one_at_a_time, side_by_side
from receiver.bootstrap.desired import nearest
from receiver.bootstrap.flags import RETRY_AFTER
from receiver.bootstrap.match import Care, match, objections
from receiver.bootstrap.organizations import OrganizationStore
from receiver.bootstrap.outcome import SIDE_BY_SIDE, Options, Result, as_fields
from receiver.bootstrap.plan import Action, plan
from receiver.bootstrap.survey import (
    Known,
    OrganizationPlan,
    deleted_webhook,
    denied,
    is_new,
    leave_out_unavailable,
    read_extras,
    registered_webhooks,
    rejections,
    remembered,
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
    from receiver.encryption import Encryption
    from receiver.opencard.auth import Access
    from receiver.opencard.billings import Billing
    from receiver.opencard.tokens import TokenStore
    from receiver.opencard.webhooks import Organization, RegisteredWebhook

__all__ = ["SIDE_BY_SIDE", "Bootstrap", "Options", "Result", "as_fields"]

log = structlog.stdlib.get_logger(__name__)


class Bootstrap:
    """Brings the webhooks at OpenCard to what the configuration wants."""

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
        options: Options,
        progress: Progress = Progress(),  # noqa: B008
    ) -> Result:
        """Compare, and with ``options.write`` carry out what differs; one organization's failure stops no other.

        The *configuration* of a writing run over the whole account is stored; ``None`` applies the stored one again.
        Raises ``OperationRefused`` when another run is under way, an organization is not there or no configuration is
        stored, and an ``OpenCardError`` when there is no token or the organizations cannot be listed.
        """
        given = configuration
        with ExitStack() as stack:
            if options.write:
                stack.enter_context(one_at_a_time(self._engine))
            if configuration is None:  # loaded while no other run can replace it
                configuration = self._applied.load()
            if configuration is None:
                raise OperationRefused("no configuration was applied yet: run receiver bootstrap")
            tokens = self._tokens if options.write else BorrowedTokens(self._tokens)
            reading = stack.enter_context(self._client(_reading_scopes(configuration, options), tokens))
            api = Webhooks(reading)
            progress.stage("listing the organizations")
            organizations = api.organizations()
            failures = _unknown(configuration, organizations)
            chosen = _chosen(organizations, options.only)
            progress.total(len(chosen) * (2 if options.write else 1))
            progress.stage("reading")
            known = self._known(tokens, options, chosen)
            plans, unread = self._read(api, chosen, configuration, options, known, progress)
            failures += unread
            if options.write:
                needed = scopes_of(
                    route for each in plans for change in each.changes for route in ROUTES[change.action]
                )
                if needed:
                    api = Webhooks(reading, stack.enter_context(self._client(needed, tokens)))
                progress.stage("registering")
                failures += self._apply(api, plans, options, known, progress)
            if not options.only:
                self._find_lost_organizations(Webhooks(reading), organizations, known)
            failures += [failed(each.organization, problem) for each in plans for problem in each.problems]
            failures += [failure for each in plans for failure in denied(each)]
            changes = [(each.organization, change) for each in plans for change in each.changes]
            result = Result(
                organizations=len(chosen),
                left_out=sum(each.wanted is None for each in plans),
                changes=changes,
                failures=failures,
                drift=bool(failures) or (bool(changes) and not options.write),
                unavailable=[found for each in plans for found in unavailable_of(each)],
                deleted=[deleted_webhook(webhook, organizations) for webhook in known.deleted],
                new_failures=[failure for failure in failures if is_new(failure, known)],
                notes=[failed(each.organization, note) for each in plans for note in each.notes],
                forgotten=known.forgotten,
            )
            if options.write:
                self._remember(given, options, organizations, chosen, plans, result, known)
            return result

    def _client(self, scopes: Iterable[str], tokens: TokenStore) -> OpenCard:
        client = OpenCard(self._access, scopes, tokens, transport=self._transport)
        client.authenticate()  # a scope that is missing is said once, not for each organization
        return client

    def _known(self, tokens: TokenStore, options: Options, chosen: Sequence[Organization]) -> Known:
        now = datetime.now(UTC)
        retry_before = None if not options.write else now if options.retry_rejected else now - RETRY_AFTER
        return Known(
            care=Care(self._store.all(), self._store.tests()),
            organizations=self._organizations.all(),
            billings=self._billings(tokens) if any(each.billing_id for each in chosen) else None,
            retry_before=retry_before,
        )

    def _billings(self, tokens: TokenStore) -> Mapping[str, Billing] | None:
        """Return the billing profiles; ``None`` when this client cannot read them, which stops nothing."""
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
        chosen: Sequence[Organization],
        configuration: Configuration,
        options: Options,
        known: Known,
        progress: Progress,
    ) -> tuple[list[OrganizationPlan], list[Failure]]:
        """Return the plan of each organization, and the failures of those for which there is none."""

        def registered(organization: Organization) -> list[RegisteredWebhook]:
            try:
                return registered_webhooks(api, organization, known)
            finally:
                progress.advance()

        found, failures = side_by_side(registered, chosen, options.side_by_side)
        objected = objections(chosen, known.care, {organization.id: webhooks for organization, webhooks in found})
        failures += [failed(each, objected[each.id]) for each in chosen if each.id in objected]

        def planned(read: tuple[Organization, list[RegisteredWebhook]]) -> OrganizationPlan:
            organization, webhooks = read
            reference = organization.reference_id or ""
            made = OrganizationPlan(organization, configuration.wanted(reference))
            made.matched = match(known.care, reference, webhooks, public_url=self._public_url)
            leave_out_unavailable(made, known)
            read_extras(api, made, options)
            made.changes = plan(
                made.wanted, made.matched, made.extras, public_url=self._public_url, prune=options.prune
            )
            return made

        sound = [(organization, webhooks) for organization, webhooks in found if organization.id not in objected]
        plans, unread = side_by_side(planned, sound, options.side_by_side, organization=lambda read: read[0])
        return [made for _, made in plans], failures + unread

    def _apply(
        self, api: Webhooks, plans: Sequence[OrganizationPlan], options: Options, known: Known, progress: Progress
    ) -> list[Failure]:
        """Carry out each plan; afterwards its changes are those that were made."""

        def carry_out(made: OrganizationPlan) -> None:
            applier = Applier.of(
                api, self._store, self._public_url, made.organization, made.wanted, made.matched, made.extras
            )
            try:
                applier.apply(made.changes)
                log.debug("registered", organization=made.organization.reference_id, changes=len(made.changes))
            finally:
                made.changes, made.problems = applier.done, applier.problems
                made.unavailable |= rejections(applier.rejected, made.organization, known)
                applier.note_facts()
                progress.advance()

        _, failures = side_by_side(carry_out, plans, options.side_by_side, organization=lambda made: made.organization)
        return failures

    def _find_lost_organizations(self, api: Webhooks, listed: Sequence[Organization], known: Known) -> None:
        """Find the webhooks of organizations that the account's list does not have; each is asked for to be sure."""
        there = {organization.id for organization in listed}
        for webhook in known.care.all():
            if webhook.organization_id not in there and webhook.opencard_webhook_id is not None and not webhook.deleted:
                try:
                    api.get(webhook.organization_id, webhook.opencard_webhook_id)
                except ResourceMissing:
                    known.deleted.append(webhook)
                except OpenCardError as error:
                    log.warning("webhook.unlisted", webhook_id=webhook.id, error=str(error))

    def _remember(
        self,
        given: Configuration | None,
        options: Options,
        listed: Sequence[Organization],
        chosen: Sequence[Organization],
        plans: Sequence[OrganizationPlan],
        result: Result,
        known: Known,
    ) -> None:
        """Write what the next run, ``status`` and ``doctor`` have to know."""
        still_there = {row.id: row.opencard_webhook_id for row in self._store.all() if not row.deleted}
        made_anew = {
            each.matched.stored.id
            for each in plans
            for change in each.changes
            if each.matched.stored is not None and change.action is Action.CREATE
        }
        for webhook in known.deleted:
            # one that was registered anew meanwhile has another id, unless ids began anew
            if still_there.get(webhook.id) == webhook.opencard_webhook_id and webhook.id not in made_anew:
                self._store.note_deleted(webhook)
                log.warning("webhook.deleted", webhook_id=webhook.id, opencard_webhook_id=webhook.opencard_webhook_id)
        errors: dict[int | None, str] = {failure.organization_id: failure.error for failure in result.failures}
        by_id = {each.organization.id: each for each in plans}
        self._organizations.save(
            [remembered(organization, by_id.get(organization.id), errors, known) for organization in chosen],
            known.organizations,
        )
        if not options.only:
            self._organizations.note_deleted(known.organizations.keys() - {each.id for each in listed})
            if given is not None:
                self._applied.save(given)


def _reading_scopes(configuration: Configuration, options: Options) -> frozenset[str]:
    """Return the scopes to read with: those of headers and groups only if such are wanted, or to be pruned."""
    wanted = configuration.all(options.only)
    needs = [READ_WEBHOOKS]
    if options.prune or any(each.headers for each in wanted):
        needs.append(READ_HEADERS)
    if options.prune or any(each.groups for each in wanted):
        needs.append(READ_GROUPS)
    return frozenset[str]().union(*(need.scopes for need in needs))


def _unknown(configuration: Configuration, organizations: Sequence[Organization]) -> list[Failure]:
    """Return a failure for each organization of the configuration that the account does not have."""
    known = [each.reference_id for each in organizations if each.reference_id is not None]
    return [
        Failure(
            name, None, f"the configuration names it, but the account has no such organization; {nearest(name, known)}"
        )
        for name in configuration.organizations
        if name not in known
    ]


def _chosen(organizations: Sequence[Organization], only: Sequence[str]) -> list[Organization]:
    known = [each.reference_id for each in organizations if each.reference_id is not None]
    for name in only:
        if name not in known:
            raise OperationRefused(f"the account has no organization {name!r}; {nearest(name, known)}")
    return [each for each in organizations if not only or each.reference_id in only]

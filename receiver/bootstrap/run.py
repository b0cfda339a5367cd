"""One run of bootstrap over the organizations of the account: read, plan, apply."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from receiver.bootstrap.apply import ROUTES, Applier
from receiver.bootstrap.concurrency import Failure, failed, one_at_a_time, side_by_side
from receiver.bootstrap.desired import nearest
from receiver.bootstrap.match import Care, Match, match, objections
from receiver.bootstrap.plan import Change, Extras, plan
from receiver.bootstrap.stored import WebhookStore
from receiver.errors import OperationRefused, ResourceMissing
from receiver.opencard.client import OpenCard
from receiver.opencard.scopes import READ_GROUPS, READ_HEADERS, READ_WEBHOOKS, scopes_of
from receiver.opencard.tokens import BorrowedTokens, StoredTokens
from receiver.opencard.webhooks import Webhooks
from receiver.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import httpx
    from sqlalchemy import Engine

    from receiver.bootstrap.desired import Configuration, Wanted
    from receiver.encryption import Encryption
    from receiver.opencard.auth import Access
    from receiver.opencard.tokens import TokenStore
    from receiver.opencard.webhooks import Organization, RegisteredWebhook

log = structlog.stdlib.get_logger(__name__)

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
    side_by_side: int = SIDE_BY_SIDE


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


@dataclass(slots=True)
class _Plan:
    """What was read of an organization, and what follows from it."""

    organization: Organization
    wanted: Wanted | None
    matched: Match = field(default_factory=Match)
    extras: Extras = field(default_factory=Extras)
    changes: list[Change] = field(default_factory=list)


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
        self._tokens = StoredTokens(engine, encryption)
        self._access = access
        self._public_url = public_url
        self._transport = transport

    def run(self, configuration: Configuration, options: Options, progress: Progress = Progress()) -> Result:  # noqa: B008
        """Compare, and with ``options.write`` carry out what differs; one organization's failure stops no other.

        Raises ``OperationRefused`` when another run is under way or an organization is not there, and an
        ``OpenCardError`` when there is no token or the organizations cannot be listed.
        """
        with ExitStack() as stack:
            if options.write:
                stack.enter_context(one_at_a_time(self._engine))
            tokens = self._tokens if options.write else BorrowedTokens(self._tokens)
            reading = stack.enter_context(self._client(_reading_scopes(configuration, options), tokens))
            progress.stage("listing the organizations")
            organizations = Webhooks(reading).organizations()
            failures = _unknown(configuration, organizations)
            chosen = _chosen(organizations, options.only)
            progress.total(len(chosen) * (2 if options.write else 1))
            progress.stage("reading")
            plans, unread = self._read(Webhooks(reading), chosen, configuration, options, progress)
            failures += unread
            changes = [(each.organization, change) for each in plans for change in each.changes]
            if options.write:
                needed = scopes_of(route for _, change in changes for route in ROUTES[change.action])
                api = Webhooks(reading)
                if needed:
                    api = Webhooks(reading, stack.enter_context(self._client(needed, tokens)))
                progress.stage("registering")
                undone = self._apply(api, plans, options, progress)
                without = {failure.organization_id for failure in undone}
                changes = [(each, change) for each, change in changes if each.id not in without]
                failures += undone
            return Result(
                organizations=len(chosen),
                left_out=sum(each.wanted is None for each in plans),
                changes=changes,
                failures=failures,
                drift=bool(failures) or (bool(changes) and not options.write),
            )

    def _client(self, scopes: Iterable[str], tokens: TokenStore) -> OpenCard:
        client = OpenCard(self._access, scopes, tokens, transport=self._transport)
        client.authenticate()  # a scope that is missing is said once, not for each organization
        return client

    def _read(
        self,
        api: Webhooks,
        chosen: Sequence[Organization],
        configuration: Configuration,
        options: Options,
        progress: Progress,
    ) -> tuple[list[_Plan], list[Failure]]:
        """Return the plan of each organization, and the failures of those for which there is none."""
        care = Care(self._store.all())

        def registered(organization: Organization) -> list[RegisteredWebhook]:
            try:
                return _registered(api, organization, care)
            finally:
                progress.advance()

        found, failures = side_by_side(registered, chosen, options.side_by_side)
        objected = objections(chosen, care, {organization.id: webhooks for organization, webhooks in found})
        failures += [failed(each, objected[each.id]) for each in chosen if each.id in objected]

        def planned(read: tuple[Organization, list[RegisteredWebhook]]) -> _Plan:
            organization, webhooks = read
            reference = organization.reference_id or ""
            made = _Plan(organization, configuration.wanted(reference))
            made.matched = match(care, reference, webhooks, public_url=self._public_url)
            made.extras = _extras(api, organization, made, options)
            made.changes = plan(
                made.wanted, made.matched, made.extras, public_url=self._public_url, prune=options.prune
            )
            return made

        sound = [(organization, webhooks) for organization, webhooks in found if organization.id not in objected]
        plans, unread = side_by_side(planned, sound, options.side_by_side, organization=lambda read: read[0])
        return [made for _, made in plans], failures + unread

    def _apply(self, api: Webhooks, plans: Sequence[_Plan], options: Options, progress: Progress) -> list[Failure]:
        def carry_out(made: _Plan) -> None:
            applier = Applier.of(
                api, self._store, self._public_url, made.organization, made.wanted, made.matched, made.extras
            )
            try:
                applier.apply(made.changes)
                log.debug("registered", organization=made.organization.reference_id, changes=len(made.changes))
            finally:
                applier.note_facts()
                progress.advance()

        _, failures = side_by_side(carry_out, plans, options.side_by_side, organization=lambda made: made.organization)
        return failures


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


def _registered(api: Webhooks, organization: Organization, care: Care) -> list[RegisteredWebhook]:
    """Return the webhooks of an organization; one in care that the list lacks is asked for before it counts as gone."""
    webhooks = api.of(organization.id)
    listed = {webhook.id for webhook in webhooks}
    for row in care.of(organization.reference_id or ""):
        if row.opencard_webhook_id is not None and row.opencard_webhook_id not in listed:
            try:
                webhooks.append(api.get(organization.id, row.opencard_webhook_id))
            except ResourceMissing:
                log.info("webhook is gone at OpenCard", webhook_id=row.id, opencard_webhook_id=row.opencard_webhook_id)
    return webhooks


def _extras(api: Webhooks, organization: Organization, made: _Plan, options: Options) -> Extras:
    webhook = made.matched.registered
    if webhook is None or made.wanted is None:
        return Extras()
    return Extras(
        headers=tuple(api.headers(organization.id, webhook.id)) if options.prune or made.wanted.headers else None,
        groups=tuple(api.groups(organization.id, webhook.id)) if options.prune or made.wanted.groups else None,
    )


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

"""Apply the changes of one organization, each step safe to be interrupted.

A webhook's secret, credentials and endpoint key are committed before they are sent to OpenCard, because the challenge
arrives during that call; what OpenCard accepted is committed after it. If a run is interrupted between the two, the
next run finds the webhook by its URL, or by the missing acknowledgment.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from receiver.bootstrap.endpoint import challenge_endpoint
from receiver.bootstrap.flags import flag_fields, subscribe
from receiver.bootstrap.plan import Action, FieldDifference, WebhookChange, credentials_differ
from receiver.errors import OpenCardError, OperationRefused, RouteMissing
from receiver.opencard import routes
from receiver.opencard.webhooks import OAUTH_FIELDS
from receiver.webhooks.addresses import endpoint_url, token_url
from receiver.webhooks.credentials import AuthenticationType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from receiver.bootstrap.desired import DesiredWebhook
    from receiver.bootstrap.match import Match
    from receiver.bootstrap.plan import Extras
    from receiver.opencard.routes import Route
    from receiver.opencard.webhooks import Organization, RegisteredHeader, RegisteredWebhook, Webhooks
    from receiver.webhooks.managed import ManagedWebhook
    from receiver.webhooks.store import WebhookStore

CREDENTIAL_OVERLAP: Final = timedelta(hours=24)
"""How long a replaced secret and replaced credentials stay valid after OpenCard has accepted the new ones."""
ROUTES: Final[dict[Action, tuple[Route, ...]]] = {
    Action.CREATE: (routes.CREATE_WEBHOOK,),
    Action.UPDATE: (routes.UPDATE_WEBHOOK,),
    Action.CHALLENGE: (routes.UPDATE_WEBHOOK,),
    Action.DISABLE: (routes.UPDATE_WEBHOOK,),
    Action.ADD_HEADER: (routes.CREATE_HEADER,),
    Action.REPLACE_HEADER: (routes.DELETE_HEADER, routes.CREATE_HEADER),
    Action.REMOVE_HEADER: (routes.DELETE_HEADER,),
    Action.ADD_GROUP: (routes.CREATE_GROUP,),
    Action.REMOVE_GROUP: (routes.DELETE_GROUP,),
}
"""Action → the routes that write for it: the plan of a run decides the scopes of its token."""


def registration_fields(
    webhook: ManagedWebhook, flags: Mapping[str, bool], *, public_url: str, enabled: bool = True
) -> dict[str, Any]:
    """Return all fields of a webhook as OpenCard's API takes them.

    Always all: whether a ``PUT`` keeps the fields that it does not name is not documented.
    """
    credentials = webhook.credentials
    proof: dict[str, str] = {}
    match webhook.authentication_type:
        case AuthenticationType.BASIC:
            proof = {"basic_username": credentials.basic_username, "basic_password": credentials.basic_password}
        case AuthenticationType.CUSTOM:
            proof = {"custom_key": credentials.custom_key, "custom_value": credentials.custom_value}
        case AuthenticationType.OAUTH:
            proof = {
                OAUTH_FIELDS["url"]: token_url(public_url),
                OAUTH_FIELDS["client_id"]: credentials.oauth_client_id,
                OAUTH_FIELDS["client_secret"]: credentials.oauth_client_secret,
            }
        case AuthenticationType.NONE:
            pass
    return {
        "url": endpoint_url(public_url, webhook.endpoint_key),
        "secret": webhook.secret,
        "enabled": enabled,
        "authentication_type": webhook.authentication_type.value,
        **proof,
        **flags,
    }


@dataclass(slots=True)
class Applier:
    """Applies the changes of one organization, and keeps track of its webhook on both sides."""

    api: Webhooks
    store: WebhookStore
    public_url: str
    organization: Organization
    reference_id: str
    desired: DesiredWebhook | None
    stored: ManagedWebhook | None
    registered: RegisteredWebhook | None
    surplus: Sequence[RegisteredWebhook]
    headers: Sequence[RegisteredHeader] | None
    """The custom headers that were registered when the changes were planned; ``None`` if they were not read."""
    done: list[WebhookChange] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Headers and groups that OpenCard did not accept. They stop nothing else."""
    rejected: dict[str, OpenCardError] = field(default_factory=dict)
    """The flags that OpenCard rejected, each with its error: the webhook is registered without them."""

    @classmethod
    def of(
        cls,
        api: Webhooks,
        store: WebhookStore,
        public_url: str,
        organization: Organization,
        desired: DesiredWebhook | None,
        matched: Match,
        extras: Extras,
    ) -> Applier:
        """Make an applier for an organization that has a reference id."""
        return cls(
            api=api,
            store=store,
            public_url=public_url,
            organization=organization,
            reference_id=organization.reference_id or "",
            desired=desired,
            stored=matched.stored,
            registered=matched.registered,
            surplus=matched.surplus,
            headers=None if "headers" in extras.unlisted else extras.headers,
        )

    def apply(self, changes: Iterable[WebhookChange]) -> None:
        """Apply *changes* in their order; the result is in ``done``, ``problems`` and ``rejected``.

        Raises a ``ReceiverError`` when the webhook itself cannot be registered; earlier changes stay applied.
        """
        for change in changes:
            match change.action:
                case Action.CREATE:
                    self._create()
                case Action.UPDATE:
                    self._update()
                case Action.CHALLENGE:
                    self._make_active()
                case Action.DISABLE:
                    self._disable(change)
                case _:
                    try:
                        self._change_extra(change)
                    except OpenCardError as error:
                        self.problems.append(str(error))
                        continue
            carried_out = self._without_rejected(change)
            if carried_out is not None:
                self.done.append(carried_out)

    def _change_extra(self, change: WebhookChange) -> None:
        match change.action:
            case Action.ADD_HEADER | Action.REPLACE_HEADER:
                self._set_header(change)
            case Action.REMOVE_HEADER:
                self._remove_header(change)
            case Action.ADD_GROUP:
                self.api.add_group(self.organization.id, self._webhook.id, buyer_party=change.subject)
                self._save_groups(lambda groups: (*groups, change.subject))
            case Action.REMOVE_GROUP:
                self.api.remove_group(self.organization.id, self._webhook.id, _id(change))
                self._save_groups(lambda groups: tuple(party for party in groups if party != change.subject))

    def _save_groups(self, changed: Callable[[tuple[str, ...]], tuple[str, ...]]) -> None:
        if self.stored is not None:
            self.stored = self.store.note_groups(self.stored, tuple(dict.fromkeys(changed(self.stored.groups))))

    def _without_rejected(self, change: WebhookChange) -> WebhookChange | None:
        """Return *change* as it was applied; ``None`` when all of it was rejected."""
        if not self.rejected or not change.differences:
            return change
        made = tuple(each for each in change.differences if each.field not in self.rejected)
        if change.action is Action.CREATE:
            number = FieldDifference("events", None, len(self._required.flags_on))
            made = tuple(number if each.field == "events" else each for each in made)
        return replace(change, differences=made) if made else None

    def note_facts(self) -> None:
        """Store what OpenCard reports about the webhook, where that differs."""
        if self.stored is not None and self.registered is not None:
            at_our_url = self.registered.url == endpoint_url(self.public_url, self.stored.endpoint_key)
            active = self.registered.active if at_our_url else self.stored.active
            self.store.note_facts(self.stored, organization_id=self.organization.id, active=active)
            self._save_headers(self.stored)

    def _save_headers(self, stored: ManagedWebhook) -> None:
        """Store header values that OpenCard reported, and delete those of headers that were removed."""
        if self.headers is None:
            return
        desired = {} if self.desired is None else {key.lower(): value for key, value in self.desired.headers.items()}
        reported = {header.key.lower(): header.value for header in self.headers}
        for key, value in reported.items():
            if value is not None and value == desired.get(key) != stored.headers.get(key):
                self.store.note_header(stored, key, value)
        for key in stored.headers.keys() - reported.keys() - desired.keys():
            self.store.forget_header(stored, key)

    @property
    def _webhook(self) -> RegisteredWebhook:
        if self.registered is None:
            raise AssertionError("headers or groups changed before the webhook was created")
        return self.registered

    def _create(self) -> None:
        stored = self.stored = self._store_webhook()
        self._register(stored)
        self.stored = self.store.acknowledge(stored, opencard_webhook_id=self._webhook.id, overlap=CREDENTIAL_OVERLAP)
        self._ensure_active()

    def _update(self) -> None:
        stored = self.stored = self._store_webhook()
        before = self._webhook
        self._register(stored)
        self.stored = self.store.acknowledge(stored, opencard_webhook_id=before.id, overlap=CREDENTIAL_OVERLAP)
        self.registered = self.api.get(self.organization.id, before.id)
        if before.url != endpoint_url(self.public_url, stored.endpoint_key):
            self._ensure_active()

    def _register(self, stored: ManagedWebhook) -> None:
        """Create or update the webhook at OpenCard, with as many of the desired flags as are allowed."""

        def send(flags: frozenset[str]) -> None:
            fields = registration_fields(stored, flag_fields(flags), public_url=self.public_url)
            if self.registered is None:
                self.registered = self.api.create(self.organization.id, fields)
            else:
                self.api.update(self.organization.id, self.registered.id, fields)

        current = frozenset[str]() if self.registered is None else self.registered.flags_on
        _, rejected = subscribe(send, self._required.flags_on, current=current)
        if rejected:
            self.rejected |= rejected
            self.desired = self._required.without(rejected)

    def _store_webhook(self) -> ManagedWebhook:
        """Commit the webhook with everything that will be sent to OpenCard, and return it."""
        desired = self._required
        if self.stored is None:
            return self.store.add(
                organization_id=self.organization.id,
                organization_reference_id=self.reference_id,
                authentication_type=desired.authentication_type,
                given=desired.given_credentials,
                opencard_webhook_id=None if self.registered is None else self.registered.id,
            )
        if credentials_differ(desired, self.stored):
            return self.store.replace_credentials(self.stored, desired.authentication_type, desired.given_credentials)
        return self.stored

    def _ensure_active(self) -> None:
        """Check that the challenge has passed; if not, repeat it under a new URL."""
        if self._webhook.active is not True:
            self.registered = self.api.get(self.organization.id, self._webhook.id)
        if self._webhook.active is False:
            self._make_active()

    def _make_active(self) -> None:
        """Check our own endpoint, then give the inactive webhook a new URL, which triggers a new challenge."""
        stored = self.stored
        if stored is None:
            raise AssertionError("challenge of a webhook that is not stored")
        problem = challenge_endpoint(endpoint_url(self.public_url, stored.endpoint_key), stored.secret)
        if problem is not None:
            raise OperationRefused(
                f"webhook {self._webhook.id} is not active, and its endpoint fails: through PUBLIC_URL, {problem}"
            )
        self.stored = stored = self.store.replace_endpoint_key(stored)
        self._register(stored)
        self.registered = self.api.get(self.organization.id, self._webhook.id)
        if self.registered.active is not True:
            raise OperationRefused(
                f"webhook {self.registered.id} is not active, though its endpoint answers the challenge through "
                f"PUBLIC_URL, and OpenCard was made to ask again: can OpenCard reach "
                f"{endpoint_url(self.public_url, stored.endpoint_key)} from outside, with ?challenge= and 20 letters?"
            )

    def _disable(self, change: WebhookChange) -> None:
        known = [webhook for webhook in (self.registered, *self.surplus) if webhook is not None]
        webhook = next(webhook for webhook in known if webhook.id == change.opencard_webhook_id)
        stored = self.stored if webhook is self.registered else None

        def send(flags: frozenset[str]) -> None:
            if stored is None:  # its secret is unknown
                fields: dict[str, Any] = {"url": webhook.url, "enabled": False, **flag_fields(flags, webhook.flags)}
            else:
                on_or_off = flag_fields(flags, webhook.flags)
                fields = registration_fields(stored, on_or_off, public_url=self.public_url, enabled=False)
            self.api.update(self.organization.id, webhook.id, fields)

        subscribe(send, webhook.flags_on, current=webhook.flags_on)

    def _set_header(self, change: WebhookChange) -> None:
        if change.action is Action.REPLACE_HEADER:
            if change.subject_id is None:
                raise RouteMissing(
                    f"the header {change.subject} has another value, and OpenCard does not list the headers, so it "
                    "cannot be replaced: do it in the dashboard"
                )
            self.api.remove_header(self.organization.id, self._webhook.id, _id(change))
        value = self._required.headers[change.subject]
        self.api.add_header(self.organization.id, self._webhook.id, key=change.subject, value=value)
        if self.stored is not None:
            self.store.note_header(self.stored, change.subject, value)

    def _remove_header(self, change: WebhookChange) -> None:
        self.api.remove_header(self.organization.id, self._webhook.id, _id(change))
        if self.stored is not None:
            self.store.forget_header(self.stored, change.subject)

    @property
    def _required(self) -> DesiredWebhook:
        if self.desired is None:
            raise AssertionError("registering for an organization that is left out")
        return self.desired


def _id(change: WebhookChange) -> int | str:
    if change.subject_id is None:
        raise AssertionError("removal without an id")
    return change.subject_id

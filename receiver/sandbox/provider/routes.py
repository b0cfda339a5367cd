"""The routes of the application API (contract, section 3), each a function of a ``Call``.

Who calls has been proved before: the token, its scope, the account and the organization.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeAlias

from receiver.sandbox.provider import scopes, webhook_fields
from receiver.sandbox.provider.billing import billing_fields, reject, rejected_flags
from receiver.sandbox.provider.call import Answer, Call
from receiver.sandbox.provider.log_item import log_item
from receiver.sandbox.provider.refusals import against_the_rules, malformed, not_found
from receiver.sandbox.provider.scopes import SCOPES
from receiver.sandbox.provider.send_test import send_test
from receiver.sandbox.provider.shown import client_fields, group_fields, header_fields, organization_fields
from receiver.sandbox.provider.state import generated_secret

if TYPE_CHECKING:
    from receiver.sandbox.provider.log_style import LogStyle
    from receiver.sandbox.provider.resources import Client, ProviderWebhook

Route: TypeAlias = Callable[[Call], Answer]

ROUTES: Final[dict[tuple[str, str], Route]] = {}
"""Method and route → what it does."""


def _route(method: str, path: str) -> Callable[[Route], Route]:
    def bind(route: Route) -> Route:
        ROUTES[method, path] = route
        return route

    return bind


@_route("GET", scopes.ORGANIZATIONS)
def _list_organizations(call: Call) -> Answer:
    shown = partial(organization_fields, all_fields=call.provider.behaviour.describes_organizations)
    return call.page(lambda: call.state.organizations(call.account_id), shown)


@_route("GET", scopes.BILLINGS)
def _list_billings(call: Call) -> Answer:
    style = call.provider.behaviour.billing_style
    return call.page(lambda: call.state.billings(call.account_id), lambda billing: billing_fields(billing, style))


def _require_allowed(call: Call, flags: Collection[str]) -> None:
    """Raise ``Refused`` when the billing of the organization does not allow one of these flags."""
    number, behaviour = call.organization.billing_id, call.provider.behaviour
    billing = None if number is None else call.state.billing(number)
    rejected = rejected_flags(flags, billing, undocumented_need=behaviour.undocumented_need)
    if rejected:
        raise reject(rejected, behaviour.rejection, call.body())


@_route("GET", scopes.WEBHOOKS)
def _list_webhooks(call: Call) -> Answer:
    return call.page(lambda: call.state.webhooks_of(call.organization.id), lambda webhook: _shown(call, webhook))


@_route("POST", scopes.WEBHOOKS)
def _create_webhook(call: Call) -> Answer:
    fields = webhook_fields.changes_in(call.body())
    if "url" not in fields:
        raise against_the_rules("The url is required.")
    supplied = "secret" in fields
    fields = {"secret": generated_secret(), **fields}
    webhook_fields.check(fields)
    _require_allowed(call, fields["flags"])
    webhook = call.state.add_webhook(call.organization.id, **fields)
    passed = call.provider.challenge(webhook.url, webhook.secret)  # the caller does not know the secret yet
    webhook = call.state.change_webhook(webhook.id, active=passed)
    return HTTPStatus.CREATED, _shown(call, webhook, secret=not supplied)


@_route("GET", scopes.WEBHOOK)
def _show_webhook(call: Call) -> Answer:
    return HTTPStatus.OK, _shown(call, call.webhook)


@_route("PUT", scopes.WEBHOOK)
def _change_webhook(call: Call) -> Answer:
    before = call.webhook
    changes = webhook_fields.changes_in(call.body(), before.flags)
    webhook_fields.check({**webhook_fields.all_fields(before), **changes})
    _require_allowed(call, changes["flags"])
    if changes.get("url", before.url) != before.url:
        # Until the answer is known, deliveries go where they went.
        changes["active"] = call.provider.challenge(changes["url"], changes.get("secret", before.secret))
    return HTTPStatus.OK, _shown(call, call.state.change_webhook(before.id, **changes))


def _shown(call: Call, webhook: ProviderWebhook, *, secret: bool = False) -> dict[str, object]:
    return webhook_fields.shown(webhook, secrets=call.provider.behaviour.echoes_secrets, secret=secret)


@_route("POST", scopes.TEST)
def _test_webhook(call: Call) -> Answer:
    if not call.webhook.enabled or not call.webhook.active:
        raise against_the_rules("The webhook is not enabled and active.")
    send_test(call.provider, call.organization, call.webhook, call.names["event"])
    return HTTPStatus.OK, {"message": "The test event is sent."}


@_route("GET", scopes.EVENTS)
def _list_events(call: Call) -> Answer:
    def style() -> LogStyle:
        return call.provider.behaviour.log_style

    return call.page(lambda: call.state.log_of(call.webhook.id, style()), lambda entry: log_item(entry, style()))


@_route("GET", scopes.HEADERS)
def _list_headers(call: Call) -> Answer:
    hides = call.provider.behaviour.hides_header_values
    return call.page(lambda: call.webhook.headers, lambda header: header_fields(header, with_value=not hides))


@_route("POST", scopes.HEADERS)
def _add_header(call: Call) -> Answer:
    header = call.state.add_header(call.webhook.id, call.text("key"), call.text("value"))
    return HTTPStatus.CREATED, header_fields(header, with_value=True)


@_route("DELETE", scopes.HEADER)
def _remove_header(call: Call) -> Answer:
    call.state.remove_header(call.webhook.id, call.names["header"])
    return HTTPStatus.NO_CONTENT, None


@_route("GET", scopes.GROUPS)
def _list_groups(call: Call) -> Answer:
    return call.page(lambda: call.webhook.groups, group_fields)


@_route("POST", scopes.GROUPS)
def _add_group(call: Call) -> Answer:
    return HTTPStatus.CREATED, group_fields(call.state.add_group(call.webhook.id, call.text("buyer_party")))


@_route("DELETE", scopes.GROUP)
def _remove_group(call: Call) -> Answer:
    call.state.remove_group(call.webhook.id, call.names["group"])
    return HTTPStatus.NO_CONTENT, None


@_route("GET", scopes.CLIENTS)
def _list_clients(call: Call) -> Answer:
    return call.page(
        lambda: call.provider.clients.of_account(call.account_id), lambda client: _shown_client(call, client)
    )


@_route("POST", scopes.CLIENTS)
def _create_client(call: Call) -> Answer:
    name, wanted = call.text("name"), _scopes(call)
    client = call.provider.clients.add(account_id=call.account_id, name=name, scopes=wanted)
    return HTTPStatus.CREATED, {**client_fields(client), "secret": client.secret}


@_route("GET", scopes.CLIENT)
def _show_client(call: Call) -> Answer:
    return HTTPStatus.OK, _shown_client(call, _client(call))


@_route("PUT", scopes.CLIENT)
def _change_client(call: Call) -> Answer:
    client = _client(call)
    wanted = _scopes(call, known=client.scopes)
    return HTTPStatus.OK, _shown_client(call, call.provider.clients.set_scopes(client.id, wanted))


def _shown_client(call: Call, client: Client) -> dict[str, object]:
    return client_fields(client, with_scopes=call.provider.behaviour.reports_client_scopes)


def _client(call: Call) -> Client:
    client = call.provider.clients.get(call.names["client"])
    if client.account_id != call.account_id:
        raise not_found()
    return client


def _scopes(call: Call, known: Iterable[str] = ()) -> list[str]:
    wanted = call.body().get("scopes")
    if not isinstance(wanted, list) or not all(isinstance(scope, str) for scope in wanted):
        raise malformed("The scopes must be a list of strings.")
    unknown = set(wanted) - set(SCOPES) - set(known)
    if unknown and not call.provider.behaviour.accepts_unknown_scopes:
        raise against_the_rules(f"Unknown scopes: {', '.join(sorted(unknown))}.")
    return wanted

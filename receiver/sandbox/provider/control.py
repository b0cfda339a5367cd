"""The sandbox's own switches over HTTP, for a sandbox in another process; no token, loopback only.

``POST /sandbox/faults`` (a fault's fields) · ``GET`` and ``DELETE /sandbox/faults`` · ``GET /sandbox/requests`` ·
``POST /sandbox/events`` (see ``trigger.Wanted``) · ``GET /sandbox/webhooks`` (their ids) · ``DELETE /sandbox/log`` ·
``POST /sandbox/organizations`` (``reference_id``, and ``products``: a list, or null for no billing) ·
``DELETE /sandbox/organizations/<id>`` · ``DELETE /sandbox/webhooks/<id>`` ·
``PUT /sandbox/organizations/<id>/products`` (``products``)
"""

from __future__ import annotations

from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING, TypeVar

import msgspec
from flask import Blueprint, Response, request

from receiver.sandbox.provider.billing import PRODUCTS
from receiver.sandbox.provider.faults import ApiFault
from receiver.sandbox.provider.refusals import forbidden, malformed
from receiver.sandbox.provider.shown import organization_fields
from receiver.sandbox.provider.trigger import Wanted, trigger

if TYPE_CHECKING:
    from receiver.sandbox.provider.provider import Provider

T = TypeVar("T")


def control_routes(provider: Provider) -> Blueprint:
    """Return the switches of *provider*."""
    routes = Blueprint("sandbox", __name__, url_prefix="/sandbox")

    @routes.before_request
    def insist_on_loopback() -> None:
        if not ip_address(request.remote_addr or "0.0.0.0").is_loopback:  # noqa: S104 - an address to refuse
            raise forbidden("Loopback only.")

    @routes.post("/faults")
    def add_fault() -> Response:
        fault = _request_of(ApiFault)
        provider.faults.add(fault)
        return _json(fault, HTTPStatus.CREATED)

    @routes.get("/faults")
    def list_faults() -> Response:
        return _json(provider.faults.waiting())

    @routes.delete("/faults")
    def clear_faults() -> Response:
        provider.faults.clear()
        return Response(status=HTTPStatus.NO_CONTENT)

    @routes.get("/requests")
    def list_requests() -> Response:
        names = ("method", "path", "query", "status", "answered", "client_id", "scopes", "scopes_asked")
        return _json([{name: getattr(seen, name) for name in names} for seen in provider.requests.all()])

    @routes.post("/events")
    def trigger_events() -> Response:
        return _json(trigger(provider, _request_of(Wanted), request.root_url.rstrip("/")), HTTPStatus.CREATED)

    _account_routes(routes, provider)
    return routes


def _account_routes(routes: Blueprint, provider: Provider) -> None:
    """Add what changes the account: organizations, their products, their webhooks."""

    @routes.post("/organizations")
    def add_organization() -> Response:
        request = _request_of(_NewOrganization)
        billing = None if request.products is None else provider.state.add_billing(request.products).id
        made = provider.state.add_organization(request.reference_id, billing_id=billing)
        return _json(organization_fields(made), HTTPStatus.CREATED)

    @routes.put("/organizations/<int:organization_id>/products")
    def change_products(organization_id: int) -> Response:
        billing = provider.state.add_billing(_request_of(_Products).products).id
        changed = provider.state.change_organization(organization_id, billing_id=billing)
        return _json(organization_fields(changed))

    @routes.delete("/organizations/<int:organization_id>")
    def remove_organization(organization_id: int) -> Response:
        provider.state.remove_organization(organization_id)
        return Response(status=HTTPStatus.NO_CONTENT)

    @routes.get("/webhooks")
    def list_webhooks() -> Response:
        return _json([webhook.id for webhook in provider.state.webhooks()])

    @routes.delete("/log")
    def empty_log() -> Response:
        provider.state.empty_logs()
        return Response(status=HTTPStatus.NO_CONTENT)

    @routes.delete("/webhooks/<int:webhook_id>")
    def remove_webhook(webhook_id: int) -> Response:
        provider.state.remove_webhook(webhook_id)
        return Response(status=HTTPStatus.NO_CONTENT)


class _NewOrganization(msgspec.Struct):
    reference_id: str
    products: list[str] | None = msgspec.field(default_factory=lambda: list(PRODUCTS))


class _Products(msgspec.Struct):
    products: list[str]


def _request_of(kind: type[T]) -> T:
    try:
        return msgspec.json.decode(request.get_data(), type=kind)
    except msgspec.DecodeError as error:
        raise malformed(str(error)) from None


def _json(value: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(msgspec.json.encode(value, order="deterministic"), status, mimetype="application/json")

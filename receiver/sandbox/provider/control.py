"""The sandbox's own switches over HTTP, for a sandbox in another process; no token, loopback only.

``POST /sandbox/faults`` (a fault's fields) · ``GET`` and ``DELETE /sandbox/faults`` · ``GET /sandbox/requests``
"""

from __future__ import annotations

from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING

import msgspec
from flask import Blueprint, Response, request

from receiver.sandbox.provider.faults import ApiFault
from receiver.sandbox.provider.refusals import forbidden, malformed

if TYPE_CHECKING:
    from receiver.sandbox.provider.provider import Provider


def control_routes(provider: Provider) -> Blueprint:
    """Return the switches of *provider*."""
    routes = Blueprint("sandbox", __name__, url_prefix="/sandbox")

    @routes.before_request
    def insist_on_loopback() -> None:
        if not ip_address(request.remote_addr or "0.0.0.0").is_loopback:  # noqa: S104 - an address to refuse
            raise forbidden("Loopback only.")

    @routes.post("/faults")
    def add_fault() -> Response:
        try:
            fault = msgspec.json.decode(request.get_data(), type=ApiFault)
        except msgspec.DecodeError as error:
            raise malformed(str(error)) from None
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

    return routes


def _json(value: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(msgspec.json.encode(value, order="deterministic"), status, mimetype="application/json")

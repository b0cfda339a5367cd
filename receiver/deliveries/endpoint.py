"""The endpoint that OpenCard calls: ``/hooks/opencard/<endpoint_key>``."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from time import perf_counter
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from receiver.counters import STORE_SECONDS, count_request
from receiver.deliveries import receive as journey
from receiver.deliveries.bodies import read_body
from receiver.deliveries.webhooks import ENDPOINT_PATH

if TYPE_CHECKING:
    from receiver.deliveries.receive import Intake

VERIFY_TOKEN_HEADER = "X-Verify-Token"  # noqa: S105 - a header's name


def endpoint(intake: Intake, *, max_body_bytes: int) -> Blueprint:
    """Return the blueprint. Its errors are ``DeliveryRefused``; the application turns them into answers."""
    blueprint = Blueprint("deliveries", __name__)

    @blueprint.post(ENDPOINT_PATH + "<endpoint_key>")
    def deliver(endpoint_key: str) -> Response:
        began = perf_counter()
        journey.receive(intake, endpoint_key, request.headers, partial(read_body, max_bytes=max_body_bytes))
        STORE_SECONDS.observe(perf_counter() - began)
        count_request("delivery", HTTPStatus.OK, "stored")
        return Response("{}", mimetype="application/json")

    @blueprint.get(ENDPOINT_PATH + "<endpoint_key>")
    def answer_challenge(endpoint_key: str) -> Response:
        token = journey.challenge(intake, endpoint_key, request.args.get("challenge"))
        count_request("challenge", HTTPStatus.OK, "answered")
        return Response("{}", mimetype="application/json", headers={VERIFY_TOKEN_HEADER: token})

    return blueprint

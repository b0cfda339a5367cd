"""The endpoint that OpenCard calls: ``/hooks/opencard/<endpoint_key>``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, request
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from werkzeug.exceptions import ClientDisconnected

from receiver.deliveries import receive as journey
from receiver.deliveries.webhooks import ENDPOINT_PATH
from receiver.errors import BodyCutOff, BodyTooLarge, MalformedRequest

if TYPE_CHECKING:
    from receiver.deliveries.receive import Intake

VERIFY_TOKEN_HEADER = "X-Verify-Token"  # noqa: S105 - a header's name


def endpoint(intake: Intake, *, max_body_bytes: int) -> Blueprint:
    """Return the blueprint. Its errors are ``DeliveryRefused``; the application turns them into answers."""
    blueprint = Blueprint("deliveries", __name__)

    def read_body() -> bytes:
        # A longer Content-Length is refused before reading. A chunked body has none: Werkzeug stops reading at the
        # maximum without a word, so one byte more than the limit is what tells that it is too long.
        announced = request.content_length
        if announced is not None and announced > max_body_bytes:
            raise BodyTooLarge(max_body_bytes)
        request.max_content_length = max_body_bytes + 1
        try:
            body = request.get_data(cache=False)
        except ClientDisconnected:
            raise BodyCutOff from None
        except ParseException:  # gunicorn reads chunks while we read the body
            raise MalformedRequest("the chunks of the body cannot be read", reason="broken-chunks") from None
        if len(body) > max_body_bytes:
            raise BodyTooLarge(max_body_bytes)
        if announced is not None and len(body) != announced:
            raise BodyCutOff
        return body

    @blueprint.post(ENDPOINT_PATH + "<endpoint_key>")
    def deliver(endpoint_key: str) -> Response:
        journey.receive(intake, endpoint_key, request.headers, read_body)
        return Response("{}", mimetype="application/json")

    @blueprint.get(ENDPOINT_PATH + "<endpoint_key>")
    def answer_challenge(endpoint_key: str) -> Response:
        token = journey.challenge(intake, endpoint_key, request.args.get("challenge"))
        return Response("{}", mimetype="application/json", headers={VERIFY_TOKEN_HEADER: token})

    return blueprint

"""The endpoint that OpenCard calls: ``/hooks/opencard/<endpoint_key>``."""

from __future__ import annotations

import re
from functools import partial
from http import HTTPStatus
from time import perf_counter
from typing import TYPE_CHECKING, Final

from flask import Blueprint, Response, request
from werkzeug.datastructures import EnvironHeaders

from receiver.counters import STORE_SECONDS, count_request
from receiver.deliveries import accepted
from receiver.deliveries.bodies import read_body
from receiver.deliveries.receive import challenge, receive
from receiver.webhooks.addresses import ENDPOINT_PATH, TOKEN_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from receiver.deliveries.receive import Intake

    Receive: TypeAlias = Callable[[Intake, str, EnvironHeaders, Callable[[], bytes]], None]

VERIFY_TOKEN_HEADER = "X-Verify-Token"  # noqa: S105 - a header's name
SLASHES: Final = re.compile("/{2,}")
REFUSAL: Final = "receiver.refusal"
"""Key of the request's environ for the exception: why its delivery was refused or not stored."""


class DeliveriesFirst:
    """WSGI middleware that receives deliveries before Flask: Flask's routing costs more than all of our own work.

    It answers only 200 by itself. Every other answer is made by the application.
    """

    def __init__(
        self, application: WSGIApplication, intake: Intake, *, max_body_bytes: int, receive: Receive = receive
    ) -> None:
        self._application = application
        self._intake = intake
        self._max_body_bytes = max_body_bytes
        self._receive = receive

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Receive the request if it is a delivery; otherwise pass it to the application."""
        path: str = environ["PATH_INFO"]
        if "//" in path:  # a proxy may double slashes; Flask's routes treat several as one
            path = SLASHES.sub("/", path)
        if path.startswith((ENDPOINT_PATH, TOKEN_PATH)):
            environ["PATH_INFO"] = path
        if environ["REQUEST_METHOD"].upper() != "POST" or not path.startswith(ENDPOINT_PATH):
            return self._application(environ, start_response)
        began = perf_counter()
        try:
            self._receive(
                self._intake,
                path.removeprefix(ENDPOINT_PATH),
                EnvironHeaders(environ),
                partial(read_body, environ, max_bytes=self._max_body_bytes),
            )
        except Exception as error:  # noqa: BLE001 - the view raises it where the error handlers are
            environ[REFUSAL] = error
            return self._application(environ, start_response)
        STORE_SECONDS.observe(perf_counter() - began)
        count_request("delivery", HTTPStatus.OK, "stored")
        start_response(accepted.STATUS, accepted.HEADERS)
        return [accepted.BODY]


def endpoint(intake: Intake) -> Blueprint:
    """Return the blueprint. Its errors are ``DeliveryRefused``; the application turns them into answers."""
    blueprint = Blueprint("deliveries", __name__)

    @blueprint.post(ENDPOINT_PATH + "<endpoint_key>")
    def refuse(endpoint_key: str) -> Response:
        del endpoint_key
        raise request.environ.pop(REFUSAL)

    @blueprint.get(ENDPOINT_PATH + "<endpoint_key>")
    def answer_challenge(endpoint_key: str) -> Response:
        token = challenge(intake, endpoint_key, request.args.get("challenge"))
        count_request("challenge", HTTPStatus.OK, "answered")
        return Response("{}", mimetype="application/json", headers={VERIFY_TOKEN_HEADER: token})

    return blueprint

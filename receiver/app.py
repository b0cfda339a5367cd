"""The web application: deliveries from OpenCard, the tokens it authenticates them with, health and metrics."""

from __future__ import annotations

import atexit
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from flask import Flask, Response, jsonify, redirect, request
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from receiver.counter_store import CONNECT_SECONDS, Flusher
from receiver.counters import OTHER, count_request
from receiver.deliveries.committer import Committer
from receiver.deliveries.endpoint import DeliveriesFirst, endpoint
from receiver.deliveries.receive import Intake, receive
from receiver.deliveries.store import connect, connection_pool
from receiver.deliveries.token_endpoint import token_endpoint
from receiver.deliveries.traced import TracedReceiver
from receiver.encryption import Encryption
from receiver.error_reports import start_reporting
from receiver.errors import DeliveryRefused
from receiver.logs import configure_logs
from receiver.ops.console.application import PATH as CONSOLE_PATH
from receiver.ops.console.application import console_application
from receiver.ops.health import Readiness, health
from receiver.ops.metrics import metrics
from receiver.queue import WakeUp
from receiver.request_ids import RequestIds
from receiver.tracing import load_tracing, start_tracing, stop_tracing
from receiver.webhooks.directory import WebhookDirectory

if TYPE_CHECKING:
    from receiver.settings import Settings

log = structlog.stdlib.get_logger(__name__)

CONNECTIONS_PER_PROCESS = 4
"""Database connections that a web process reads with, besides the committer's one and the console's."""
RETRY_AFTER = 5
"""Seconds after which a sender may try again when its delivery could not be stored."""
NO_CONSOLE = """\
The OpenCard receiver is running, without its console.
To switch the console on, set SECRET_KEY and OPS_USERS (or OPS_OIDC_ISSUER) and restart: docs/operate/console.md
"""

ROUTES = {
    "deliveries.refuse": "delivery",
    "deliveries.answer_challenge": "challenge",
    "tokens.answer_token_request": "token",
}
"""Flask's name of a route → how its requests are counted."""


def create_app(settings: Settings) -> Flask:
    """Return the application of one web process. Connects to PostgreSQL and Redis when first needed."""
    configure_logs(level=settings.log_level, log_format=settings.log_format)
    start_reporting(settings.sentry_dsn, process="web")
    load_tracing(settings)
    recorder = start_tracing(settings, process="web")
    pool = connection_pool(settings.database_url, size=CONNECTIONS_PER_PROCESS)
    committer = Committer(partial(connect, settings.database_url))
    wake_up = WakeUp(settings.redis_url)
    intake = Intake(
        webhooks=WebhookDirectory(pool, Encryption(settings.encryption_keys)),
        committer=committer,
        signature_policy=settings.signature_policy,
        wake_worker=wake_up,
    )
    app = Flask("receiver", static_folder=None)
    app.extensions["receiver"] = intake
    app.register_blueprint(endpoint(intake))
    app.register_blueprint(token_endpoint(intake.webhooks, retry_after=RETRY_AFTER))
    readiness = Readiness(pool, committer, redis_url=settings.redis_url)
    app.register_blueprint(health(readiness))
    app.register_blueprint(metrics(pool, token=settings.metrics_token, can_store=readiness.can_store))
    app.register_error_handler(DeliveryRefused, _refuse)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)
    console = console_application(settings, wake_worker=wake_up) if settings.has_console else None
    if console is not None:
        app.extensions["receiver.console"] = console
        app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {CONSOLE_PATH: console})  # type: ignore[method-assign]
        app.add_url_rule("/", "console", lambda: redirect(f"{CONSOLE_PATH}/"))
    else:
        for path in ("/", f"{CONSOLE_PATH}/"):
            app.add_url_rule(path, "console", _no_console, strict_slashes=False)
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1)  # type: ignore[method-assign]
    app.wsgi_app = DeliveriesFirst(  # type: ignore[method-assign]
        app.wsgi_app,
        intake,
        max_body_bytes=settings.max_body_bytes,
        receive=receive if recorder is None else TracedReceiver(recorder, wake_up),
    )
    app.wsgi_app = RequestIds(app.wsgi_app)  # type: ignore[method-assign]
    pool.open(wait=False)
    flusher = Flusher(partial(pool.connection, timeout=CONNECT_SECONDS))
    flusher.start()

    def close() -> None:
        committer.close()
        wake_up.close()
        if console is not None:
            console.extensions["console.close"]()
        flusher.close()
        pool.close(timeout=2)
        if recorder is not None:
            stop_tracing()

    atexit.register(close)
    app.extensions["receiver.close"] = close
    app.extensions["receiver.flusher"] = flusher
    return app


def _refuse(refused: DeliveryRefused) -> tuple[Response, int, dict[str, str]]:
    _count(refused.status, refused.reason)
    if refused.status != HTTPStatus.UNAUTHORIZED:  # which was reported where it was found
        log.debug("request.refused", status=int(refused.status), reason=refused.reason)
    headers = {"Retry-After": str(RETRY_AFTER)} if refused.retryable else {}
    return jsonify(error=str(refused)), refused.status, headers


def _http_error(error: HTTPException) -> tuple[Response, int, dict[str, str]]:
    """Answer what Flask itself refuses (no such route, wrong method) in JSON, too."""
    headers = {name: value for name, value in error.get_headers() if name.lower() in {"allow", "retry-after"}}
    _count(error.code or 500, "http")
    return jsonify(error=(error.name or "error").lower()), error.code or 500, headers


def _no_console() -> Response:
    """Say how to switch the console on."""
    _count(HTTPStatus.NOT_FOUND, "http")
    return Response(NO_CONSOLE, HTTPStatus.NOT_FOUND, content_type="text/plain; charset=utf-8")


def _unexpected(error: Exception) -> tuple[Response, int]:
    """Log the error in full; the caller gets no details."""
    log.error("request.failed", exc_info=error)
    _count(500, "internal-error")
    return jsonify(error="internal error"), 500


def _count(status: int, reason: str) -> None:
    count_request(ROUTES.get(request.endpoint or "", OTHER), status, reason)

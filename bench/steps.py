"""Steps from an empty answer to the receiver, each measured under the receiver's gunicorn.

``bench.steps:bare`` reads the body and answers, with nothing but gunicorn; ``bench.steps:flask()`` does so in a view of
Flask; ``bench.steps:signed()`` verifies the delivery as well. ``bench.steps:pooled()`` also stores it: each request in
a separate statement through a pool of connections, with the receiver's own wake-up. What the receiver does beyond
that is to commit many requests at once, to read the webhook again when it changed, and to keep its limits when
PostgreSQL is slow.
"""

from __future__ import annotations

import json
import os
from contextlib import closing
from typing import TYPE_CHECKING, Final

import psycopg
from flask import Flask, Response, abort, request
from psycopg_pool import ConnectionPool
from sqlalchemy import make_url

from receiver.deliveries.authentication import authenticate
from receiver.deliveries.headers import evidence
from receiver.encryption import Encryption
from receiver.errors import NotAuthentic
from receiver.queue import WakeUp
from receiver.settings import load_settings
from receiver.webhooks.addresses import ENDPOINT_PATH
from receiver.webhooks.credentials import Expected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from werkzeug.datastructures import Headers

    from receiver.settings import Settings

ANSWER = b"{}"
CONNECTIONS: Final = 16
"""Of each web process to PostgreSQL."""

_INSERT: Final = """
WITH stored AS (
    INSERT INTO receiver.stored_deliveries (webhook_id, event, version, verification)
    SELECT id, %s, %s, %s FROM receiver.webhooks RETURNING id
), bodies AS (
    INSERT INTO receiver.bodies (delivery_id, body, headers) SELECT id, %s, %s::jsonb FROM stored
)
INSERT INTO receiver.queue (delivery_id) SELECT id FROM stored
"""


def bare(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Read the body and answer."""
    environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(ANSWER)))])
    return [ANSWER]


def flask() -> Flask:
    """Return a Flask application that reads the body and answers."""
    app = Flask("empty", static_folder=None)

    @app.post(ENDPOINT_PATH + "<endpoint_key>")
    def deliver(endpoint_key: str) -> Response:
        del endpoint_key
        request.get_data()
        return Response(ANSWER, mimetype="application/json")

    return app


def signed() -> Flask:
    """Return a Flask application that also checks the signature with the secret of the only webhook."""
    return _verifying("signed", lambda _body, _headers, _verification: None)


def pooled() -> Flask:
    """Return a Flask application that also stores what it verified, and wakes the workers."""
    settings = load_settings(os.environ)
    # idle ones are closed, since others are measured in turns on the same server
    pool = ConnectionPool(
        _libpq_url(settings),
        kwargs={"autocommit": True},
        min_size=1,
        max_size=CONNECTIONS,
        max_idle=1,
        open=False,
    )
    wake_up = WakeUp(settings.redis_url)

    def store(body: bytes, headers: Headers, verification: str) -> None:
        kept = json.dumps(evidence(headers, custom_key=""))
        pool.open()  # after the fork; later calls do nothing
        with pool.connection() as connection:
            connection.execute(_INSERT, (headers["X-Event"], headers.get("X-Version"), verification, body, kept))
        wake_up()

    app = _verifying("pooled", store)
    app.extensions["receiver.close"] = pool.close  # gunicorn's settings call it at the end
    return app


def _verifying(name: str, store: Callable[[bytes, Headers, str], None]) -> Flask:
    settings = load_settings(os.environ)
    with closing(psycopg.connect(_libpq_url(settings))) as connection:
        row = connection.execute("SELECT secret FROM receiver.webhooks").fetchone()
    assert row is not None
    expected = Expected((Encryption(settings.encryption_keys).decrypt(row[0]),))
    app = Flask(name, static_folder=None)

    @app.post(ENDPOINT_PATH + "<endpoint_key>")
    def deliver(endpoint_key: str) -> Response:
        del endpoint_key
        body = request.get_data()
        try:
            verification = authenticate(body, request.headers, expected, settings.signature_policy)
        except NotAuthentic:
            abort(401)
        store(body, request.headers, verification)
        return Response(ANSWER, mimetype="application/json")

    return app


def _libpq_url(settings: Settings) -> str:
    return make_url(settings.database_url).set(drivername="postgresql").render_as_string(hide_password=False)

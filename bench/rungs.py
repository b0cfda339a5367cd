"""Steps from an empty answer to the receiver, each measured under the receiver's gunicorn.

``bench.rungs:bare`` reads the body and answers, with nothing but gunicorn; ``bench.rungs:flask`` does so in a view of
Flask; ``bench.rungs:signed()`` verifies the delivery as well. None of them stores anything.
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
from flask import Flask, Response, abort, request
from sqlalchemy import make_url

from receiver.deliveries.authentication import authenticate
from receiver.encryption import Encryption
from receiver.errors import NotAuthentic
from receiver.settings import load_settings
from receiver.webhooks.addresses import ENDPOINT_PATH
from receiver.webhooks.credentials import Expected

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

ANSWER = b"{}"


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
    settings = load_settings(os.environ)
    url = make_url(settings.database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with closing(psycopg.connect(url)) as connection:
        row = connection.execute("SELECT secret FROM receiver.webhooks").fetchone()
    assert row is not None
    expected = Expected((Encryption(settings.encryption_keys).decrypt(row[0]),))
    app = Flask("signed", static_folder=None)

    @app.post(ENDPOINT_PATH + "<endpoint_key>")
    def deliver(endpoint_key: str) -> Response:
        del endpoint_key
        try:
            authenticate(request.get_data(), request.headers, expected, settings.signature_policy)
        except NotAuthentic:
            abort(401)
        return Response(ANSWER, mimetype="application/json")

    return app

"""The token endpoint: OpenCard gets the bearer tokens here that it authenticates with on ``oauth`` webhooks."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import structlog
from flask import Blueprint, Response, jsonify, request

from receiver.counters import count_request
from receiver.deliveries.bodies import read_body
from receiver.deliveries.receive import CANNOT_STORE
from receiver.errors import BodyCutOff, MalformedRequest
from receiver.webhooks.addresses import TOKEN_PATH
from receiver.webhooks.oauth import TOKEN_LIFETIME, issue_token
from receiver.webhooks.token_request import (
    TokenRequest,
    TokenRequestRefused,
    invalid_client,
    matching_client,
    read_token_request,
)

if TYPE_CHECKING:
    from receiver.webhooks.directory import WebhookDirectory

MAX_BODY_BYTES: Final = 4096
"""Enough for any token request."""
CLIENT_ID: Final = re.compile(r"[\x20-\x7e]{1,255}", re.ASCII)
"""What a client id can look like (RFC 6749, appendix A.1)."""
NO_CLIENT_ID: Final = ""
CHALLENGE: Final = 'Basic realm="OpenCard webhooks", charset="UTF-8"'

log = structlog.stdlib.get_logger(__name__)


def token_endpoint(webhooks: WebhookDirectory, *, retry_after: int) -> Blueprint:
    """Return the blueprint; *retry_after* is in seconds, for when the database is unavailable."""
    blueprint = Blueprint("tokens", __name__)

    @blueprint.post(TOKEN_PATH)
    def answer_token_request() -> Response:
        token = grant(webhooks, _token_request(), datetime.now(UTC))
        count_request("token", HTTPStatus.OK, "issued")
        return jsonify(
            access_token=token,
            token_type="Bearer",  # noqa: S106 - what kind it is
            expires_in=int(TOKEN_LIFETIME.total_seconds()),
        )

    @blueprint.errorhandler(TokenRequestRefused)
    def refuse(refused: TokenRequestRefused) -> tuple[Response, HTTPStatus]:
        log.info("token.refused", reason=refused.reason)
        count_request("token", refused.status, refused.reason)
        return jsonify(error=refused.reason, error_description=str(refused)), refused.status

    @blueprint.after_request
    def add_headers(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = CHALLENGE
        elif response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            response.headers["Retry-After"] = str(retry_after)
        return response

    return blueprint


def grant(webhooks: WebhookDirectory, request_: TokenRequest, now: datetime) -> str:
    """Return a token for the webhook of the client in *request_*, valid from *now* on.

    Raises ``TokenRequestRefused``: the client is not known, its secret is wrong, or the database cannot be asked.
    """
    client_id = request_.client_id if CLIENT_ID.fullmatch(request_.client_id) else NO_CLIENT_ID
    try:
        webhook = webhooks.read_by_client(client_id)
    except CANNOT_STORE as error:
        log.warning("token.not_issued", error=type(error).__name__, reason=str(error).partition("\n")[0])
        raise TokenRequestRefused(
            "temporarily_unavailable", "please ask again", status=HTTPStatus.SERVICE_UNAVAILABLE
        ) from error
    client = matching_client(request_, webhook.expected(now))
    if client is None:
        raise invalid_client()
    log.info("token.issued", webhook_id=webhook.id)
    return issue_token(
        webhook_id=webhook.id, client_id=client.oauth_client_id, client_secret=client.oauth_client_secret, now=now
    )


def _token_request() -> TokenRequest:
    try:
        body = read_body(request.environ, max_bytes=MAX_BODY_BYTES)
    except (BodyCutOff, MalformedRequest) as refused:
        raise TokenRequestRefused("invalid_request", str(refused)) from None
    return read_token_request(body, request.headers.get("Content-Type", ""), request.headers.get("Authorization"))

"""What OpenCard asks the token endpoint for: pure functions of a request, by RFC 6749, sections 2.3.1, 4.4 and 5.2.

How OpenCard asks is not documented, so both ways of naming the client are taken, and a JSON object like a form.
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote_plus

import msgspec

from receiver.errors import DeliveryRefused
from receiver.webhooks.credentials import AuthenticationType

if TYPE_CHECKING:
    from receiver.webhooks.credentials import Credentials, Expected

FORM: Final = "application/x-www-form-urlencoded"
MAX_FIELDS: Final = 50
_json_object: Final = msgspec.json.Decoder(dict[str, object])


class TokenRequestRefused(DeliveryRefused):
    """No token is issued. *error* is one of RFC 6749, section 5.2; the text goes to the caller."""

    def __init__(self, error: str, text: str, *, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(text, reason=error)
        self.status = status


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A client that asks for a token, and what it proves itself with."""

    client_id: str
    client_secret: str = field(repr=False)


def read_token_request(body: bytes, content_type: str, authorization: str | None) -> TokenRequest:
    """Return who asks for a token.

    Raises ``TokenRequestRefused`` for anything but a well-formed request by client credentials. A ``scope`` is
    ignored: a token opens one webhook's endpoint, and nothing else.
    """
    fields = _fields(body, content_type.partition(";")[0].strip().lower())
    grant_type = fields.get("grant_type")
    if not grant_type:
        raise TokenRequestRefused("invalid_request", "grant_type is missing")
    if grant_type != "client_credentials":
        raise TokenRequestRefused("unsupported_grant_type", "only client_credentials is supported")
    if authorization is None:
        return TokenRequest(fields.get("client_id", ""), fields.get("client_secret", ""))
    by_header = _basic(authorization)
    by_form = TokenRequest(
        fields.get("client_id", by_header.client_id), fields.get("client_secret", by_header.client_secret)
    )
    if by_form != by_header:  # the same said twice does no harm
        raise TokenRequestRefused("invalid_request", "the client authenticates in two ways that differ")
    return by_header


def matching_client(request: TokenRequest, expected: Expected) -> Credentials | None:
    """Return which of the good credentials of a webhook *request* proves, or ``None``. Takes constant time for each."""
    secret = request.client_secret.encode("utf-8", "surrogatepass")
    for authentication in (expected.current, expected.previous):
        if authentication is None or authentication.type is not AuthenticationType.OAUTH:
            continue
        client = authentication.credentials
        right = hmac.compare_digest(secret, client.oauth_client_secret.encode())
        if right and secret and request.client_id == client.oauth_client_id:
            return client
    return None


def invalid_client() -> TokenRequestRefused:
    """Return the one answer to any caller that is not a client: it does not reveal which clients exist."""
    return TokenRequestRefused("invalid_client", "client authentication failed", status=HTTPStatus.UNAUTHORIZED)


def _fields(body: bytes, media_type: str) -> dict[str, str]:
    """Return the fields that have a value."""
    try:
        if media_type in {FORM, ""}:
            pairs = parse_qsl(body.decode(), max_num_fields=MAX_FIELDS, errors="strict")
            if len(dict(pairs)) != len(pairs):
                raise TokenRequestRefused("invalid_request", "a field is given twice")
            return dict(pairs)
        if media_type == "application/json":
            return {
                name: value for name, value in _json_object.decode(body).items() if value and isinstance(value, str)
            }
    except (ValueError, RecursionError):
        raise TokenRequestRefused("invalid_request", "the body cannot be read") from None
    raise TokenRequestRefused("invalid_request", f"send Content-Type: {FORM}")


def _basic(authorization: str) -> TokenRequest:
    scheme, _, encoded = authorization.partition(" ")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except ValueError:
        raise invalid_client() from None
    client_id, colon, client_secret = decoded.partition(":")
    if scheme.lower() != "basic" or not colon:
        raise invalid_client()
    return TokenRequest(unquote_plus(client_id), unquote_plus(client_secret))

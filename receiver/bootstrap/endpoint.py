"""Challenge our own endpoint through ``PUBLIC_URL`` as OpenCard would, to find out which of the two ends fails."""

from __future__ import annotations

import hmac
import secrets
import string
from http import HTTPStatus
from typing import Final

import httpx

from receiver.deliveries.challenge import sign
from receiver.deliveries.endpoint import VERIFY_TOKEN_HEADER
from receiver.tls import tls_context

CHALLENGE_LENGTH: Final = 20
TIMEOUT: Final = httpx.Timeout(10, connect=5)


def challenge_endpoint(url: str, secret: str, *, transport: httpx.BaseTransport | None = None) -> str | None:
    """Check that the endpoint at *url* knows *secret*; return the problem with its answer, or ``None``.

    The problem names the URL with its challenge, so that it can be tried by hand; it never contains the secret.
    """
    challenge = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(CHALLENGE_LENGTH))
    problem = _problem_with(url, challenge, secret, transport)
    return None if problem is None else f"the challenge GET {url}?challenge={challenge} fails: {problem}"


def _problem_with(url: str, challenge: str, secret: str, transport: httpx.BaseTransport | None) -> str | None:
    try:
        with httpx.Client(verify=tls_context(), timeout=TIMEOUT, transport=transport) as http:
            answer = http.get(url, params={"challenge": challenge}, headers={"X-Event": "challenge"})
    except httpx.HTTPError as error:
        return f"no answer ({type(error).__name__}): is PUBLIC_URL right, and does a web process listen behind it?"
    if answer.status_code != HTTPStatus.OK:
        return f"it answers {answer.status_code}: {_hint(answer.status_code)}"
    token = answer.headers.get(VERIFY_TOKEN_HEADER, "")
    if not token:
        return f"its answer lacks {VERIFY_TOKEN_HEADER}: is that address this service, and does its proxy keep headers?"
    if not hmac.compare_digest(token.encode(), sign(secret, challenge.encode()).encode()):
        return f"its {VERIFY_TOKEN_HEADER} is wrong: does the web process use another database than this command?"
    return None


def _hint(status: int) -> str:
    match status:
        case HTTPStatus.NOT_FOUND:
            return "is PUBLIC_URL this service, and does the web process use the same database as this command?"
        case HTTPStatus.SERVICE_UNAVAILABLE:
            return "the web process cannot reach PostgreSQL, or its ENCRYPTION_KEYS differ"
        case status if status in range(300, 400):
            return "it redirects, which a webhook must not: give PUBLIC_URL as it is redirected to"
        case _:
            return "is PUBLIC_URL this service?"

"""What the API refuses, and with which status (contract, section 2)."""

from __future__ import annotations

from http import HTTPStatus


class Refused(Exception):
    """The request is answered with an error: ``{"error": <text>}``."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.fields: dict[str, object] = {"error": text}


def malformed(text: str) -> Refused:
    """Return 400: it cannot be read, or a field is of the wrong type."""
    return Refused(HTTPStatus.BAD_REQUEST, text)


def unauthenticated() -> Refused:
    """Return 401: the token is missing, unknown or expired, and the API does not say which."""
    return Refused(HTTPStatus.UNAUTHORIZED, "Unauthenticated.")


def forbidden(text: str) -> Refused:
    """Return 403: the token lacks the scope, or the account or organization is another's."""
    return Refused(HTTPStatus.FORBIDDEN, text)


def not_found() -> Refused:
    """Return 404."""
    return Refused(HTTPStatus.NOT_FOUND, "Not found.")


def duplicate(text: str) -> Refused:
    """Return 409."""
    return Refused(HTTPStatus.CONFLICT, text)


def against_the_rules(text: str) -> Refused:
    """Return 422: well-formed, but a business rule forbids it."""
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, text)

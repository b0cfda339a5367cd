"""The errors of this service, all under one root, each saying whether trying again can help.

::

    ReceiverError
    ├── ConfigurationError      settings are missing or wrong; exit code 2
    ├── OperationRefused        a command cannot do what it was asked; exit code 1
    ├── OpenCardError           OpenCard's API did not do what it was asked; names the route, its scope and the way out
    │   ├── InvalidRequest          400, 422
    │   ├── ClientRefused           the token endpoint does not know the client, or its secret is wrong
    │   ├── ScopeNotGranted         the token endpoint does not give the client a scope
    │   ├── TokenRefused            401, with a new token as well
    │   ├── AccessDenied            403
    │   ├── ResourceMissing         404
    │   ├── RouteMissing            405
    │   ├── Conflict                409
    │   ├── ApiUnavailable          429, 5xx, no connection   (retryable)
    │   ├── OutcomeUnknown          no answer to a request that may have been carried out   (retryable: look first)
    │   ├── HtmlAnswer              an HTML page, or a redirect to one, where JSON was expected
    │   └── UnreadableAnswer        not what the contract says
    ├── DeliveryRefused         a request is not taken; carries its HTTP status
    │   ├── UnknownEndpoint         404
    │   ├── NotAuthentic            401
    │   ├── MalformedRequest        400
    │   ├── BodyCutOff              400
    │   ├── BodyTooLarge            413
    │   ├── NotJson                 415
    │   ├── TokenRequestRefused     400, 401: OpenCard asked for a token in a wrong way; in OAuth's own words
    │   └── StoreUnavailable        503   (retryable)
    ├── DownloadError           a receipt's file is not stored   (retryable, until its URL expires)
    │   ├── DownloadRefused         permanent: on another host, or too large
    │   └── DownloadsImpossible     no token, or nowhere to store: concerns every receipt   (retryable)
    └── EventError              a stored delivery cannot be applied
        ├── NotHandled              permanent: unknown to this release; a replay after an upgrade helps
        ├── PayloadError            permanent: names the field and the reason
        └── WrongOrganization       permanent: belongs to another organization
"""

from __future__ import annotations

from http import HTTPStatus


class ReceiverError(Exception):
    """Root of all errors that this service raises on purpose."""

    retryable: bool = False
    """Whether doing the same again later can succeed."""


class ConfigurationError(ReceiverError):
    """Settings are missing or wrong: one line for each variable, ready to be printed."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class OperationRefused(ReceiverError):
    """A command cannot do what it was asked; the text says why and what would help."""


class OpenCardError(ReceiverError):
    """OpenCard's API did not do what it was asked. The text never holds a secret or a token."""

    retry_after: float | None = None
    """Seconds that OpenCard asks to wait before the next try."""
    answer: str = ""
    """The beginning of the answer's body, which may name what is refused; never shown."""
    words: str = ""
    """OpenCard's own words for a refusal, without secrets; empty if it has none."""


class InvalidRequest(OpenCardError):
    """400 or 422: OpenCard does not accept what was sent, and says why."""


class ClientRefused(OpenCardError):
    """The token endpoint does not know the OAuth client, or its secret is wrong."""


class ScopeNotGranted(OpenCardError):
    """The token endpoint does not give the client a scope that was asked for."""


class TokenRefused(OpenCardError):
    """401, though the token is new."""


class AccessDenied(OpenCardError):
    """403: the scope is missing, or the account or organization is not the client's own."""


class ResourceMissing(OpenCardError):
    """404: there is no such thing, or this client may not see it."""


class RouteMissing(OpenCardError):
    """405: OpenCard's API has the path, but not this method of it."""


class Conflict(OpenCardError):
    """409: it exists already, for one."""


class ApiUnavailable(OpenCardError):
    """429, a 5xx, or no connection, several times over: it was not carried out."""

    retryable = True


class OutcomeUnknown(OpenCardError):
    """No answer to a request that may have been carried out: look before it is sent again."""

    retryable = True


class HtmlAnswer(OpenCardError):
    """An HTML page, or a redirect to one, where JSON was expected: OpenCard refuses a request that way, too."""


class UnreadableAnswer(OpenCardError):
    """An answer that is not what the contract says."""


class DeliveryRefused(ReceiverError):
    """A request is not taken. The text goes to the caller: it helps a genuine sender, and reveals nothing to others."""

    status: HTTPStatus = HTTPStatus.BAD_REQUEST
    reason: str = "malformed"
    """A short constant for counters and logs."""

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class UnknownEndpoint(DeliveryRefused):
    """No enabled webhook has this endpoint key; a disabled one looks alike to the caller."""

    status = HTTPStatus.NOT_FOUND
    reason = "unknown-endpoint"

    def __init__(self) -> None:
        super().__init__("not found")


class NotAuthentic(DeliveryRefused):
    """The request does not prove that OpenCard sent it. The reason is for the operator, never for the caller."""

    status = HTTPStatus.UNAUTHORIZED
    reason = "not-authentic"

    def __init__(self, reason: str) -> None:
        super().__init__("not authentic: check the signature and the credentials registered for this webhook")
        self.reason = reason


class MalformedRequest(DeliveryRefused):
    """The request lacks something that every delivery or challenge has."""


class BodyCutOff(DeliveryRefused):
    """The connection ended before the body did."""

    reason = "body-cut-off"

    def __init__(self) -> None:
        super().__init__("the body ended too early")


class BodyTooLarge(DeliveryRefused):
    """The body exceeds ``MAX_BODY_BYTES``."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    reason = "too-large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is larger than {limit} bytes")


class NotJson(DeliveryRefused):
    """The ``Content-Type`` is not JSON."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    reason = "not-json"

    def __init__(self) -> None:
        super().__init__("send Content-Type: application/json")


class StoreUnavailable(DeliveryRefused):
    """The delivery could not be stored; nothing is kept, and the sender should try again."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    reason = "store-unavailable"
    retryable = True

    def __init__(self) -> None:
        super().__init__("could not store the delivery; please send it again")


class DownloadError(ReceiverError):
    """A receipt's file could not be downloaded or is not one; the text never holds the URL's query or a token."""

    retryable = True
    retry_after: float | None = None
    """Seconds that OpenCard asks to wait before the next try."""


class DownloadRefused(DownloadError):
    """The file must not be asked for or stored: it is on another host, or too large."""

    retryable = False


class DownloadsImpossible(DownloadError):
    """There is no token to be had, or no way to store: no other receipt would do better now."""


class EventError(ReceiverError):
    """A stored delivery cannot be applied."""


class NotHandled(EventError):
    """An event or version that this release does not know, handled by a replay after an upgrade; or a test delivery."""


class PayloadError(EventError):
    """A payload cannot be parsed: *field* (a JSON path) and the reason. Trying again cannot help."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field


class WrongOrganization(EventError):
    """A payload names another organization than its webhook's."""

    def __init__(self, *, expected: str, found: str) -> None:
        super().__init__(
            f"organization.reference_id is {found!r}, but this webhook belongs to organization {expected!r}; "
            "not applied"
        )

"""From a stored delivery to an event: pure, exact, and with a clear word for everything that makes no sense."""

from __future__ import annotations

import hashlib
import re
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from receiver.errors import NotHandled, PayloadError, WrongTenant
from receiver.events.catalogue import NAME_NO_ORGANIZATION, canonical_name
from receiver.events.event import Event, StoredDelivery
from receiver.events.payloads import (
    MARKS,
    OWN_FIELDS,
    CardHolderPayload,
    EnrichmentPayload,
    TransactionPayload,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.events.payloads import Payload
    from receiver.events.registry import Handler

SUPPORTED_VERSIONS: Final = frozenset({None, "", "1"})
"""Values of ``X-Version`` that this code understands; the header may be absent."""
NUMBER_DIGITS: Final = 1000
"""How many digits a number may have before or after its point; PostgreSQL takes more, money needs less."""
SHORTEST_NUMBER: Final = re.compile(r"-?[0-9]{1,20}\.[0-9]{0,19}[1-9]")
"""What amounts look like: within all limits, and in the one spelling that equal numbers share."""
PLAIN_NUMBER: Final = re.compile(r"-?[0-9]{1,20}\.[0-9]{1,20}")
"""The same with zeros at its end, perhaps."""
NUL_ESCAPE: Final = b"\\u0000"
REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

_WHERE: Final = re.compile(r" - at `(?:key in )?\$\.?(?P<path>[^`]*)`$")
_MISSING: Final = re.compile(r"missing required field `(?P<field>\w+)`")


def understand(delivery: StoredDelivery, handlers: Mapping[str, Handler]) -> Event:
    """Return the event in *delivery*.

    Raises ``NotHandled`` for an unknown event or version, ``WrongTenant`` when the payload names another
    organization, ``PayloadError`` with the field and the reason when it cannot be understood.
    """
    name = canonical_name(delivery.event)
    if name is None or name not in handlers:
        raise NotHandled(f"unknown event {delivery.event!r}")
    if delivery.version is not None and delivery.version.strip() not in SUPPORTED_VERSIONS:
        raise NotHandled(f"unknown version {delivery.version!r} of the webhook format")
    content, by_value = _read(delivery.body)
    payload_type = handlers[name].payload_type
    _check_tenant(content, delivery.organization_reference_id)
    _check_kind(content, payload_type)
    document = None
    if NUL_ESCAPE in delivery.body:
        content = without_nul(content)
        document = _TO_JSON.encode(content)
    payload = _typed_in_any_spelling(content, by_value, payload_type)
    return Event(
        delivery_id=delivery.id,
        name=name,
        organization_reference_id=delivery.organization_reference_id,
        card_holder_reference_id=_card_holder(payload),
        transaction_id=_transaction(payload),
        occurred_at=delivery.occurred_at,
        source=delivery.source,
        fingerprint=_fingerprint(name, by_value, delivery.organization_reference_id),
        payload=payload,
        document=document,
    )


def fingerprint(name: str, body: bytes, organization: str) -> bytes:
    """Return the SHA-256 of an event by value: key order, spacing and ``45`` / ``45.0`` do not count.

    *organization* is whose webhook it came by; it counts only where the payload does not say whose it is. Raises
    ``PayloadError`` when *body* is not JSON.
    """
    return _fingerprint(name, _decoded(_BY_VALUE, body), organization)


def decode(body: bytes) -> dict[str, Any]:
    """Return the JSON object in *body*, its numbers exact. Raises ``PayloadError``."""
    return _object(_decoded(_EXACT, body))


def encode(content: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Return decoded JSON as bytes again, its numbers with the digits that they came with."""
    return _TO_JSON.encode(content)


def without_nul(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return *value* with U+FFFD for NUL in every text: PostgreSQL refuses NUL, and the raw bytes keep it."""
    if isinstance(value, str):
        return value.replace("\0", REPLACEMENT)
    if isinstance(value, dict):
        return {key.replace("\0", REPLACEMENT): without_nul(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nul(item) for item in value]
    return value


class _OtherSpelling(Exception):
    """A number is not in its shortest spelling."""


def _read(body: bytes) -> tuple[dict[str, Any], Any]:
    """Return the object in *body* with its numbers as sent, and the same by value: one object if all are shortest."""
    try:
        content = _object(_decoded(_SHORTEST, body))
    except _OtherSpelling:
        return decode(body), _decoded(_BY_VALUE, body)
    return content, content


def _fingerprint(name: str, by_value: Any, organization: str) -> bytes:  # noqa: ANN401 - any JSON value
    of_whom = organization.encode() + b"\0" if name in NAME_NO_ORGANIZATION else b""
    return hashlib.sha256(name.encode() + b"\0" + of_whom + _TO_SORTED_JSON.encode(by_value)).digest()


def _object(content: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    if not isinstance(content, dict):
        raise PayloadError("body", "not a JSON object")
    return content


def _shortest_only(digits: str) -> Decimal:
    if SHORTEST_NUMBER.fullmatch(digits):
        return Decimal(digits)
    raise _OtherSpelling


def _exact(digits: str) -> Decimal:
    if PLAIN_NUMBER.fullmatch(digits):
        return Decimal(digits)
    try:
        number = Decimal(digits)
    except InvalidOperation:
        raise PayloadError("body", "a number is out of range") from None
    _, _, exponent = number.as_tuple()
    if not isinstance(exponent, int) or exponent < -NUMBER_DIGITS or number.adjusted() > NUMBER_DIGITS:
        raise PayloadError("body", f"a number has more than {NUMBER_DIGITS} digits before or after its point")
    return number


def _by_value(digits: str) -> Decimal | int:
    """Return the same object for every spelling of a number: ``45.0``, ``4.5e1`` and ``45`` are 45."""
    if PLAIN_NUMBER.fullmatch(digits):
        digits = digits.rstrip("0").rstrip(".")
        return Decimal(digits) if "." in digits else int(digits)
    number = _exact(digits)
    whole = int(number)
    return whole if whole == number else _shortest(number)


def _shortest(fraction: Decimal) -> Decimal:
    # not Decimal.normalize(), which rounds to the context's precision
    return Decimal(format(fraction, "f").rstrip("0"))


_SHORTEST: Final = msgspec.json.Decoder(float_hook=_shortest_only)
_EXACT: Final = msgspec.json.Decoder(float_hook=_exact)
_BY_VALUE: Final = msgspec.json.Decoder(float_hook=_by_value)
_TO_JSON: Final = msgspec.json.Encoder(decimal_format="number")
_TO_SORTED_JSON: Final = msgspec.json.Encoder(decimal_format="number", order="sorted")


def _decoded(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PayloadError("body", f"not JSON: {error}") from None
    except RecursionError:
        raise PayloadError("body", "nested too deeply") from None


def _check_tenant(content: dict[str, Any], expected: str) -> None:
    """Refuse a payload of another organization before anything else of it is looked at."""
    organization = content.get("organization")
    found = organization.get("reference_id") if isinstance(organization, dict) else None
    if isinstance(found, str) and found != expected:
        raise WrongTenant(expected=expected, found=found)


def _check_kind(content: dict[str, Any], payload_type: type[Payload]) -> None:
    """Refuse the payload of another kind of event.

    OpenCard signs the body and not ``X-Event``: who has seen a signed purchase could send it as
    ``card_holder.deleted``, which asks for nothing that a purchase does not have. A field that no kind asks for, or
    that only another kind has, is no reason: OpenCard may add fields at any time.
    """
    own = OWN_FIELDS.get(payload_type)
    if own and content.keys().isdisjoint(own):
        raise PayloadError(own[0], "missing")
    for marks, field in _stricter_kinds(payload_type):
        if marks <= content.keys():
            raise PayloadError(field, "belongs to another event than X-Event says, which no signature covers")


@cache
def _stricter_kinds(payload_type: type[Payload]) -> list[tuple[frozenset[str], str]]:
    """Return the marks of the kinds that require more than this one, each with a field that this one does not."""
    asked = {field.name for field in msgspec.structs.fields(payload_type) if field.required}
    others = (marks for kind, marks in MARKS.items() if not issubclass(payload_type, kind))
    return [(marks, max(marks - asked)) for marks in others if asked < marks]


def _typed(content: dict[str, Any], payload_type: type[Payload]) -> Payload:
    try:
        return msgspec.convert(content, payload_type, builtin_types=(Decimal,))
    except msgspec.ValidationError as error:
        raise _payload_error(str(error)) from None


def _typed_in_any_spelling(content: dict[str, Any], by_value: Any, payload_type: type[Payload]) -> Payload:  # noqa: ANN401
    """Return the payload, also where a whole number is written ``45.0``; decimals keep their digits if they can."""
    try:
        return _typed(content, payload_type)
    except PayloadError:
        if by_value is content:
            raise
    return _typed(without_nul(by_value), payload_type)


def _payload_error(text: str) -> PayloadError:
    """Return msgspec's words as field and reason."""
    where = _WHERE.search(text)
    path = where["path"] if where else ""
    reason = _WHERE.sub("", text)
    missing = _MISSING.search(reason)
    if missing:
        return PayloadError(f"{path}.{missing['field']}".lstrip("."), "missing")
    return PayloadError(path or "body", reason[:1].lower() + reason[1:])


def _card_holder(payload: Payload) -> str | None:
    if isinstance(payload, (TransactionPayload, EnrichmentPayload, CardHolderPayload)):
        return payload.card_holder.reference_id
    return None


def _transaction(payload: Payload) -> str | None:
    if isinstance(payload, TransactionPayload):
        return payload.id
    if isinstance(payload, EnrichmentPayload):
        return payload.transaction.id
    return None

"""The JSON of an event: numbers exact, texts that PostgreSQL takes, and what makes two events equal. Pure."""

from __future__ import annotations

import hashlib
import re
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

import msgspec

from receiver.errors import EventError, PayloadError
from receiver.events.catalogue import NAME_NO_ORGANIZATION
from receiver.json_text import repaired

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_ID: Final = 255
"""Longer than any real id, and short enough for a B-tree index."""
NUMBER_DIGITS: Final = 1000
"""Digits allowed before or after the decimal point: more than money needs, less than PostgreSQL allows."""
SHORTEST_NUMBER: Final = re.compile(r"-?[0-9]{1,20}\.[0-9]{0,19}[1-9]")
"""A usual amount: within all limits, and in the shortest spelling, which equal numbers share."""
PLAIN_NUMBER: Final = re.compile(r"-?[0-9]{1,20}\.[0-9]{1,20}")
"""The same, possibly with trailing zeros."""
NUL_ESCAPE: Final = b"\\u0000"
REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
TOO_EXACT: Final = re.compile(r"(?<=\.[0-9]{6})[0-9]+")
"""The digits of a time after the microseconds."""
UNREADABLE: Final = (EventError, msgspec.MsgspecError, ValueError, OverflowError, RecursionError)
"""Errors that reading a body may raise."""


def fingerprint(name: str, body: bytes, organization: str) -> bytes:
    """Return the SHA-256 of an event by value: key order, spacing and ``45`` / ``45.0`` do not count.

    *organization* is that of the webhook; it counts only for events whose payload names no organization. Raises
    ``PayloadError`` when *body* is not JSON.
    """
    return fingerprint_of(name, _decoded(_BY_VALUE, body)[1], organization)


def decode(body: bytes) -> dict[str, Any]:
    """Return the JSON object in *body*, its numbers exact. Raises ``PayloadError``."""
    return _object(_decoded(_EXACT, body)[1])


def encode(content: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Return decoded JSON as bytes again, with the digits of its numbers as received."""
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


def read(body: bytes) -> tuple[bytes, dict[str, Any], Any]:
    """Return *body*, repaired if that is needed, the object in it with its numbers as sent, and the same by value.

    The object is one for both if all its numbers are in their shortest spelling.
    """
    try:
        text, content = _decoded(_SHORTEST, body)
    except _OtherSpelling:
        text, content = _decoded(_EXACT, body)
        return text, _object(content), _decoded(_BY_VALUE, text)[1]
    content = _object(content)
    return text, content, content


def as_postgresql_reads_it(content: dict[str, Any], text: bytes) -> dict[str, Any]:
    """Return *content* changed so that Python and PostgreSQL read the same from it; itself, if they already do."""
    if NUL_ESCAPE in text:
        content = without_nul(content)
    # Python and PostgreSQL round a time to the nearest microsecond, also past the end of the day: PostgreSQL then has
    # 24:00:00, which no client can read.
    shortened = {
        name: TOO_EXACT.sub("", value)
        for name in ("purchase_time", "expiration_time")
        if isinstance(value := content.get(name), str) and len(value) > len("hh:mm:ss") and TOO_EXACT.search(value)
    }
    return {**content, **shortened} if shortened else content


def fingerprint_of(name: str, by_value: Any, organization: str) -> bytes:  # noqa: ANN401 - any JSON value
    """Return the fingerprint of an event whose content is decoded *by_value*, see ``fingerprint``."""
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


def _decoded(decoder: msgspec.json.Decoder[Any], body: bytes) -> tuple[bytes, Any]:
    """Return the JSON value in *body*, and the text that it was read from: *body*, or *body* repaired."""
    try:
        return body, decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        text = repaired(body)
        if text != body:
            return _decoded(decoder, text)
        what = "not UTF-8" if isinstance(error, UnicodeDecodeError) else "not JSON"
        raise PayloadError("body", f"{what}: {error}") from None
    except RecursionError:
        raise PayloadError("body", "nested too deeply") from None


def reference_of(content: Mapping[str, Any], owner: str) -> str | None:
    """Return the ``reference_id`` of the *owner*, ``organization`` or ``card_holder``; a whole number as text."""
    named = content.get(owner)
    reference = named.get("reference_id") if isinstance(named, dict) else None
    if isinstance(reference, Decimal) and reference == reference.to_integral_value():
        reference = int(reference)
    if isinstance(reference, int) and not isinstance(reference, bool):
        return str(reference)
    return reference if isinstance(reference, str) else None


def named_ids(body: bytes) -> tuple[str | None, str | None]:
    """Return the ids of the transaction and the card holder in *body*, even if it cannot be applied.

    Operators search deliveries by them.
    """
    try:
        content = without_nul(decode(body))
    except PayloadError:
        return None, None
    link = content.get("transaction")
    transaction = link.get("id") if isinstance(link, dict) else content.get("id") if "state" in content else None
    return _indexable(transaction), _indexable(reference_of(content, "card_holder"))


def _indexable(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST_ID else None

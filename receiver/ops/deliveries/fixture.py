"""A stored delivery as a fixture for tests: same structure and types, no personal data. Pure.

Only values that identify neither a person nor a company are kept: states, currencies, countries, rates, kinds, times of
day. In every other text letters and digits are replaced, amounts are multiplied, and days are moved. Equal values get
equal replacements, under a key: so deliveries of one purchase belong together in several fixtures, and nobody without
the key can find the original value, not even by trying all that are possible.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import string
import unicodedata
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any, Final

import msgspec

from receiver.errors import OperationRefused
from receiver.json_text import repaired

if TYPE_CHECKING:
    from collections.abc import Mapping

_decode: Final = msgspec.json.Decoder(float_hook=Decimal).decode
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode

KEPT: Final[Mapping[str, re.Pattern[str]]] = {
    "state": re.compile(r"authorized|deleted|cleared|invoiced"),
    "type": re.compile(r"card|CARD_PURCHASE|CASH_WITHDRAWAL|FEE_AND_DISCOUNT"),
    "card_type": re.compile(r"private|corporate|corporate_with_private_invoice"),
    "card_funding": re.compile(r"debit|credit"),
    "content_type": re.compile(
        r"application/(pdf|json|xml|octet-stream)|image/(png|jpe?g|gif|webp|tiff)|text/(html|plain)"
    ),
    "purchase_country": re.compile(r"[A-Z]{2}", re.ASCII),
    "purchase_time": re.compile(r"[0-9]{1,2}:[0-9]{1,2}(:[0-9]{1,2})?", re.ASCII),
    "purchase_timezone": re.compile(r"UTC|[A-Z]{3,4}|[+-][0-9]{2}:?[0-9]{2}|Europe/[A-Z][a-z]{2,12}", re.ASCII),
    "mcc_code": re.compile(r"[0-9]{4}", re.ASCII),
    "percentage": re.compile(r"-?[0-9]{1,3}([.,][0-9]+)?", re.ASCII),
    "vat_rate": re.compile(r"-?[0-9]{1,3}([.,][0-9]+)?", re.ASCII),
}
"""Fields whose texts are kept where they are as expected."""
CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)
SMALL: Final = frozenset({"percentage", "vat_rate", "exchange_rate", "quantity", "no_of_transactions", "mcc_code"})
"""Fields whose numbers are kept up to a limit: rates, and how many there are of something."""
LARGEST_KEPT: Final = 10_000
TIME: Final = r"[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.][0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?"
DAY: Final = re.compile(rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})((?:{TIME})?)", re.ASCII)
NAME: Final = re.compile(r"[a-z][a-z_]{0,39}", re.ASCII)
"""What a field's name looks like; any other may be a value."""
EVENT: Final = re.compile(r"[a-z][a-z_.]{0,99}", re.ASCII)
VERSION: Final = re.compile(r"[a-z0-9.]{1,10}", re.ASCII)
HEADERS: Final = {
    "content-type": re.compile(r"application/json(; ?charset=[A-Za-z0-9-]+)?"),
    "x-event": EVENT,
    "x-version": VERSION,
}
"""The headers that are kept, and what their values look like."""
FACTORS: Final = (3, 97)
DAYS: Final = (28, 364)
BEYOND_ASCII: Final = "åäöøæéüñ"
ALPHABETS: Final = (string.digits, string.ascii_lowercase, string.ascii_uppercase, BEYOND_ASCII)
"""A character becomes another one of the same alphabet."""
JOINED: Final = ("Mn", "Mc", "So")
"""Categories of Unicode that are part of a name, too: accents that are written apart, and pictures."""
EXPONENT: Final = re.compile(r"[eE].*")
LEADING_ZERO: Final = re.compile(r"(?<=^-)0|^0")
MAX_DIGITS: Final = 100
"""An amount with more is none."""


@dataclass(frozen=True, slots=True)
class Fixture:
    """A delivery without personal data; ``receiver trigger --fixture`` and the test kit send it."""

    event: str
    headers: dict[str, str]
    body: dict[str, Any]

    def as_json(self) -> str:
        """Return it as a JSON document, its numbers with the digits that they have."""
        return msgspec.json.format(_encode(self), indent=2).decode()


def make_fixture(event: str, headers: Mapping[str, str], body: bytes, key: bytes) -> Fixture:
    """Return a delivery without personal data, its values replaced under *key*.

    Raises ``OperationRefused`` for a body that is no JSON object: what is in it cannot be known.
    """
    try:
        payload = _decode(repaired(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        payload = None
    if not isinstance(payload, dict):
        raise OperationRefused("the body is no JSON object, so it cannot be replaced field by field: no fixture")
    replaced = _Replacement(key, payload)
    return Fixture(
        event=event if EVENT.fullmatch(event) else replaced.text(event),
        headers={
            name: value if pattern.fullmatch(value) else replaced.text(value)
            for name, value in headers.items()
            if (pattern := HEADERS.get(name.lower()))
        },
        body=replaced.fields(payload),
    )


class _Replacement:
    """Replaces the values of one payload."""

    def __init__(self, key: bytes, payload: dict[str, Any]) -> None:
        self._key = key
        transaction = payload.get("transaction")
        about = transaction.get("id") if isinstance(transaction, dict) else payload.get("id")
        self._factor = self._between("factor", str(about), *FACTORS)
        self._days = timedelta(days=self._between("days", "", *DAYS))

    def fields(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return an object with its values replaced, and those names that do not look like a field's."""
        return {
            name if NAME.fullmatch(name) else self.text(name): self._value(name, value)
            for name, value in fields.items()
        }

    def _value(self, name: str, value: Any) -> Any:  # noqa: ANN401 - any JSON value
        match value:
            case dict():
                return self.fields(value)
            case list():
                return [self._value(name, each) for each in value]
            case bool() | None:
                return value
            case int() | Decimal():
                return self._amount(name, value)
            case _:
                return self._words(name, value)

    def _words(self, name: str, value: str) -> str:
        pattern = CURRENCY if name.endswith("currency") else KEPT.get(name)
        if pattern is not None and pattern.fullmatch(value):
            return value
        day = DAY.fullmatch(value)
        if day is not None:
            try:
                return f"{date.fromisoformat(day[1]) - self._days}{day[2]}"
            except (ValueError, OverflowError):
                pass
        return self.text(value)

    def _amount(self, name: str, value: int | Decimal) -> int | Decimal:
        if name in SMALL and -LARGEST_KEPT <= value <= LARGEST_KEPT:
            return value
        if ("amount" in name or name.startswith("carbon_")) and abs(Decimal(value).adjusted()) < MAX_DIGITS:
            with localcontext() as context:
                context.prec = len(Decimal(value).as_tuple().digits) + 2  # those of the largest factor
                return value * self._factor
        digits, exponent = EXPONENT.sub("", str(value)), EXPONENT.search(str(value))
        replaced = LEADING_ZERO.sub("1", self.text(digits)) + (exponent[0] if exponent else "")
        return int(replaced) if isinstance(value, int) else Decimal(replaced)

    def text(self, value: str) -> str:
        """Return a text of the same shape: other letters and digits, the rest as it is."""
        stream = hashlib.shake_256(self._digest("text", value)).digest(len(value))
        return "".join(map(_another, value, stream))

    def _between(self, what: str, value: str, lowest: int, highest: int) -> int:
        return lowest + int.from_bytes(self._digest(what, value)) % (highest - lowest + 1)

    def _digest(self, what: str, value: str) -> bytes:
        return hmac.digest(self._key, f"{what} {value}".encode("utf-8", "surrogatepass"), "sha256")


def _another(character: str, byte: int) -> str:
    """Return a character of the same kind that is not this one, chosen by *byte*."""
    for alphabet in ALPHABETS:
        place = alphabet.find(character)
        if place >= 0:
            return alphabet[(place + 1 + byte % (len(alphabet) - 1)) % len(alphabet)]
    if not character.isascii() and (character.isalnum() or unicodedata.category(character) in JOINED):
        return BEYOND_ASCII[byte % len(BEYOND_ASCII)]
    return character

"""Parse one item of OpenCard's delivery log, in any spelling (contract, section 7).

The undocumented parts of an item are interpreted only here. The item is stored byte for byte, so that the
interpretation can be improved later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T")

ID_FIELDS: Final = ("id", "uuid")
TIME_FIELDS: Final = ("attempted_at", "sent_at", "timestamp", "created_at")
"""In the order in which they are tried: the most exact time of the request first."""
STATUS_FIELDS: Final = ("response_status", "status_code", "status")
PAYLOAD_FIELDS: Final = ("payload", "data", "body")
REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
HIGHEST_STATUS: Final = 999
EARLIEST_MILLISECONDS: Final = 10**11
"""A time as a number of this size or more counts milliseconds, not seconds."""
EARLIEST: Final = datetime(2015, 1, 1, tzinfo=UTC)
LATEST: Final = timedelta(days=1)
"""How far ahead of our clock a time may be. A later time, or one before ``EARLIEST``, is ignored."""
UNREADABLE: Final = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError, ArithmeticError)

_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_VALUE: Final = msgspec.json.Decoder(float_hook=Decimal)


@dataclass(frozen=True, slots=True)
class LogItem:
    """One attempt of the log; fields that are missing or unreadable are ``None``."""

    id: str | None
    event: str
    """Empty where no event is named."""
    response_status: int | None
    attempted_at: datetime | None
    """In UTC."""
    payload: bytes | None = field(repr=False)
    """The unchanged bytes of the object; of a string, its content."""
    item: bytes = field(repr=False)
    """The unchanged bytes of the whole item."""


def read_item(item: bytes, *, now: datetime) -> LogItem:
    """Parse an item in any spelling; an unreadable one becomes an entry without fields.

    A time that is impossible at *now* (aware) is ignored.
    """
    try:
        fields = _FIELDS.decode(item)
    except UNREADABLE:
        fields = {}
    return LogItem(
        id=_first(fields, ID_FIELDS, _id),
        event=_first(fields, ("event",), _text) or "",
        response_status=_first(fields, STATUS_FIELDS, _status),
        attempted_at=_first(fields, TIME_FIELDS, lambda raw: _possible(_time(raw), now)),
        payload=_first(fields, PAYLOAD_FIELDS, _payload) or _first(fields, PAYLOAD_FIELDS, _any_text),
        item=item,
    )


def _first(fields: Mapping[str, msgspec.Raw], names: Iterable[str], read: Callable[[bytes], T | None]) -> T | None:
    for name in names:
        if name in fields:
            try:
                value = read(bytes(fields[name]))
            except UNREADABLE:
                continue
            if value is not None:
                return value
    return None


def _value(raw: bytes) -> Any:  # noqa: ANN401 - any JSON value
    return _VALUE.decode(raw)


def _text(raw: bytes) -> str | None:
    value = _value(raw)
    return value.replace("\0", REPLACEMENT) if isinstance(value, str) and value else None


def _id(raw: bytes) -> str | None:
    value = _value(raw)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(raw)


def _status(raw: bytes) -> int | None:
    value = _value(raw)
    if isinstance(value, Decimal) and value > HIGHEST_STATUS:
        return None  # 1e999999 would become an integer of as many digits
    if isinstance(value, (int, Decimal, str)) and not isinstance(value, bool):
        number = int(value)
        return number if 0 < number <= HIGHEST_STATUS else None
    return None


def _time(raw: bytes) -> datetime | None:
    """Parse a time into UTC: ISO 8601, without a zone as UTC; or seconds or milliseconds since 1970."""
    value = _value(raw)
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, Decimal)):
        return datetime.fromtimestamp(float(value / 1000 if value >= EARLIEST_MILLISECONDS else value), UTC)
    if not isinstance(value, str):
        return None
    at = datetime.fromisoformat(value.strip())
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _possible(at: datetime | None, now: datetime) -> datetime | None:
    return at if at is not None and EARLIEST <= at <= now + LATEST else None


def _payload(raw: bytes) -> bytes | None:
    """Return an object's bytes, or those of a string that holds an object."""
    if raw.startswith(b"{"):
        return raw
    content = _any_text(raw)
    if content is None:
        return None
    _FIELDS.decode(content)
    return content


def _any_text(raw: bytes) -> bytes | None:
    value = _value(raw) if raw.startswith(b'"') else None
    return value.encode() if value else None

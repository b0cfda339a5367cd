"""One event as OpenCard sends it, and how its JSON is written and read: exact decimals both ways."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    import random
    from collections.abc import Hashable

BEGINNING: Final = datetime(2026, 1, 12, tzinfo=UTC)
"""The moment from which ``at`` counts. A story ends before summer time begins, so offsets from UTC stay constant."""

_write: Final = msgspec.json.Encoder(decimal_format="number").encode
_read: Final = msgspec.json.Decoder(float_hook=Decimal).decode


@dataclass(frozen=True, slots=True)
class StoryEvent:
    """An event, which OpenCard has to deliver once."""

    organization_reference_id: str
    event: str
    payload: bytes
    """The JSON body in UTF-8; amounts are numbers with their exact decimal digits."""
    at: timedelta
    """Virtual time since the start of the story."""

    @property
    def card_holder(self) -> tuple[str, str] | None:
        """Organization and card holder whose events must keep their order; ``None`` for all other events."""
        if not self.event.startswith("card_holder."):
            return None
        return self.organization_reference_id, read(self.payload)["card_holder"]["reference_id"]


def write(fields: dict[str, object]) -> bytes:
    """Return *fields* as a JSON body: UTF-8, and ``Decimal`` as a number with the very digits it has."""
    return _write(fields)


def read(payload: bytes) -> dict[str, Any]:
    """Return the fields of a JSON body; numbers are ``int`` or ``Decimal``, never binary floating point."""
    fields: dict[str, Any] = _read(payload)
    return fields


def comparable(value: object) -> Hashable:
    """Return what equals that of another JSON value when the two are equal: whatever the order of keys, ``45`` as 45.0.

    True is not 1, and a text is not a number. *value* is as ``read`` returns it.
    """
    match value:
        case dict():
            return "object", frozenset((name, comparable(item)) for name, item in value.items())
        case list():
            return "list", tuple(comparable(item) for item in value)
        case bool():
            return "truth", value
        case int() | Decimal():
            return "number", Decimal(value)
        case None | str():
            return value
    raise TypeError(f"{type(value).__name__} is nothing that JSON was read into")


def new_id(rng: random.Random) -> str:
    """Return an id as OpenCard would give it, drawn from *rng*."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def seconds(rng: random.Random, shortest: float, longest: float) -> timedelta:
    """Return a span of whole seconds between the two, drawn from *rng*."""
    return timedelta(seconds=rng.randint(int(shortest), int(longest)))


def hours(rng: random.Random, shortest: float, longest: float) -> timedelta:
    """Return a span between that many hours, to the second, drawn from *rng*."""
    return seconds(rng, shortest * 3600, longest * 3600)

"""The same JSON as another system might write it: equal by value, not by bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

_SPACINGS = (("", "", ""), ("", " ", " "), ("\n  ", " ", "\n  "), (" ", "\t", " "))
"""The space inside brackets, after a colon, and after a comma."""


def rewrite_json(fields: object, rng: Random) -> str:
    """Return *fields* as JSON that a careless system might have written after it had read ours.

    The keys are in another order; spacing and escapes are those of some library; a whole number may have become
    ``45.0``, and a decimal may have lost or won zeros at its end. Numbers are exact: ``int`` and ``Decimal`` only.
    """
    inside, colon, comma = rng.choice(_SPACINGS)
    writer = _Writer(rng, inside, ":" + colon, "," + comma, ascii_only=_either(rng), escapes_slashes=_either(rng))
    return writer.write(fields)


def _either(rng: Random) -> bool:
    return rng.choice((True, False))


@dataclass(frozen=True, slots=True)
class _Writer:
    rng: Random
    inside: str
    colon: str
    comma: str
    ascii_only: bool
    escapes_slashes: bool

    def write(self, value: object) -> str:
        match value:
            case dict():
                items = list(value.items())
                self.rng.shuffle(items)
                return self._between("{", [self._text(key) + self.colon + self.write(item) for key, item in items], "}")
            case list():
                return self._between("[", [self.write(item) for item in value], "]")
            case str():
                return self._text(value)
            case bool() | None:
                return json.dumps(value)
            case int() | Decimal():
                return self._number(value)
        raise TypeError(f"{type(value).__name__} is nothing that JSON was read into")

    def _between(self, opening: str, parts: list[str], closing: str) -> str:
        return opening + self.inside + self.comma.join(parts) + self.inside + closing

    def _text(self, value: str) -> str:
        written = json.dumps(value, ensure_ascii=self.ascii_only)
        return written.replace("/", r"\/") if self.escapes_slashes else written

    def _number(self, value: int | Decimal) -> str:
        digits = f"{Decimal(value):f}"
        if "." in digits:
            digits = digits.rstrip("0").rstrip(".")
        if _either(self.rng):
            return digits
        return f"{digits}0" if "." in digits else f"{digits}.0"

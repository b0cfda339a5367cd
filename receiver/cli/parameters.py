"""Types of parameters that several commands take."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    _Type: TypeAlias = click.ParamType[timedelta]
else:
    _Type = click.ParamType  # which older releases of click cannot subscript

ID = click.IntRange(min=1, max=2**63 - 1)
"""An id, as its column can hold it."""

UNITS: Final = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
LONGEST: Final = timedelta(days=3650)
_PART: Final = re.compile(r"([0-9]{1,9})([smhdw])", re.ASCII)
_DURATION: Final = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)


class DurationType(_Type):
    """A length of time, as ``24h``, ``30m``, ``1h30m`` or ``7d``; ``0`` needs no unit."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:  # noqa: ANN401
        """Return the length of time."""
        if isinstance(value, timedelta):
            return value
        text = str(value).strip().lower()
        if text == "0":
            return timedelta()
        if not _DURATION.fullmatch(text):
            unit = " with its unit" if text.isdecimal() else ""
            self.fail(f"{value!r} is no length of time{unit}: give one such as 90s, 30m, 24h or 7d, or 0", param, ctx)
        length = sum((int(number) * UNITS[unit] for number, unit in _PART.findall(text)), timedelta())
        if length > LONGEST:
            self.fail(f"{value!r} is longer than {LONGEST.days} days", param, ctx)
        return length


DURATION: Final = DurationType()

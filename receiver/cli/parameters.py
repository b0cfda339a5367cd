"""Types of parameters that several commands take."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    _IdType: TypeAlias = click.ParamType[int]
    _Type: TypeAlias = click.ParamType[timedelta]
    _MomentType: TypeAlias = click.ParamType[datetime]
    _DayType: TypeAlias = click.ParamType[date]
else:
    _IdType = _Type = _MomentType = _DayType = click.ParamType  # which older releases of click cannot subscript


class Id(_IdType):
    """An id, as its column can hold it."""

    name = "id"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the id. Fails for anything else."""
        digits = str(value)
        if not (digits.isascii() and digits.isdecimal() and 0 < int(digits[:20]) < 2**63):
            self.fail(f"{digits!r} is not an id: give a whole number as the lists show it", param, ctx)
        return int(digits)


ID = Id()


class WholeNumber(click.IntRange):
    """A whole number within bounds, which help and errors describe in words."""

    name = "number"

    def _describe_range(self) -> str:
        return _between(self.min, self.max)


class Number(click.FloatRange):
    """A number within bounds, likewise."""

    name = "number"

    def _describe_range(self) -> str:
        return f"more than {self.min:g}" if self.min_open and self.max is None else _between(self.min, self.max)


def _between(low: float | None, high: float | None) -> str:
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"


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
            self.fail(f"{value!r} is not a duration{unit}: give one such as 90s, 30m, 24h or 7d, or 0", param, ctx)
        length = sum((int(number) * UNITS[unit] for number, unit in _PART.findall(text)), timedelta())
        if length > LONGEST:
            self.fail(f"{value!r} is longer than {LONGEST.days} days", param, ctx)
        return length


DURATION: Final = DurationType()


class MomentType(_MomentType):
    """A point in time: ``2026-02-13``, ``2026-02-13T08:00:00Z`` (UTC without a zone), or ``24h``: that long ago."""

    name = "time"
    _examples = "2026-02-13, 2026-02-13T08:00:00Z, or 24h for 24 hours ago"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:  # noqa: ANN401
        """Return the point in time, in UTC."""
        if isinstance(value, datetime):
            return value
        text = str(value).strip()
        if text == "0" or _DURATION.fullmatch(text.lower()):
            return datetime.now(UTC) - DURATION.convert(text, param, ctx)
        try:
            moment = datetime.fromisoformat(text)
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"invalid time {value!r}: give one such as {self._examples}", param, ctx)


MOMENT: Final = MomentType()


class PastMomentType(MomentType):
    """A point in time that is over."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:  # noqa: ANN401
        """Return the point in time, in UTC. Fails for one in the future."""
        moment = super().convert(value, param, ctx)
        if moment > datetime.now(UTC):
            self.fail(f"{moment:%Y-%m-%d %H:%M} UTC is in the future: give an earlier time", param, ctx)
        return moment


PAST: Final = PastMomentType()


class FutureMomentType(MomentType):
    """A point in time to come: a time as ``MomentType`` has it, or ``24h``: that far ahead."""

    _examples = "2026-12-01, 2026-12-01T08:00:00Z, or 2h for two hours from now"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:  # noqa: ANN401
        """Return the point in time, in UTC. Fails for one in the past."""
        now = datetime.now(UTC)
        moment = super().convert(value, param, ctx)
        if _DURATION.fullmatch(str(value).strip().lower()):
            moment = now + DURATION.convert(value, param, ctx)
        if moment <= now:
            self.fail(f"{moment:%Y-%m-%d %H:%M} UTC is in the past: give a later time", param, ctx)
        return moment


FUTURE: Final = FutureMomentType()


class DayType(_DayType):
    """A day, as ``2026-02-13``."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:  # noqa: ANN401
        """Return the day."""
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(str(value).strip())
        except ValueError:
            self.fail(f"invalid day {value!r}: give one such as 2026-02-13", param, ctx)


DAY: Final = DayType()

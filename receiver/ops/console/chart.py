"""The bars of deliveries per hour: the position of each, as plain numbers. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from receiver.ops.activity import Hour

WIDTH: Final = 720
HEIGHT: Final = 180
LEFT: Final = 48
"""Room for the numbers of the axis."""
BOTTOM: Final = 22
TOP: Final = 8
GAP: Final = 3
HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Bar:
    """The deliveries of one hour: those that were pushed, and on top of them those that were recovered from the log."""

    hour: datetime
    pushed: int
    recovered: int
    x: float
    width: float
    pushed_y: float
    pushed_height: float
    recovered_y: float
    recovered_height: float


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the axis, and the number that it represents."""

    y: float
    number: int


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart, ready to be drawn."""

    bars: tuple[Bar, ...]
    lines: tuple[Line, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT


def chart_of(found: Iterable[Hour], *, last: datetime, hours: int) -> Chart:
    """Return the bars of so many hours, the last of which begins at *last*; hours without deliveries are empty."""
    pushed: dict[datetime, int] = {}
    recovered: dict[datetime, int] = {}
    for each in found:
        numbers = recovered if each.source == "log" else pushed
        numbers[each.hour] = numbers.get(each.hour, 0) + each.deliveries
    beginnings = [last - (hours - 1 - place) * HOUR for place in range(hours)]
    top = rounded_up(max(pushed.get(hour, 0) + recovered.get(hour, 0) for hour in beginnings))
    room, slot = HEIGHT - TOP - BOTTOM, (WIDTH - LEFT) / hours
    bars = []
    for place, hour in enumerate(beginnings):
        below, above = room * pushed.get(hour, 0) / top, room * recovered.get(hour, 0) / top
        bars.append(
            Bar(
                hour=hour,
                pushed=pushed.get(hour, 0),
                recovered=recovered.get(hour, 0),
                x=round(LEFT + place * slot + GAP / 2, 2),
                width=round(slot - GAP, 2),
                pushed_y=round(TOP + room - below, 2),
                pushed_height=round(below, 2),
                recovered_y=round(TOP + room - below - above, 2),
                recovered_height=round(above, 2),
            )
        )
    numbers_shown = dict.fromkeys((0, top // 2, top))
    return Chart(
        tuple(bars), tuple(Line(round(TOP + room - room * number / top, 2), number) for number in numbers_shown)
    )


def rounded_up(number: int) -> int:
    """Return the next number that is easily read: 2, 4, 6, 10, 20, 40, … and so on."""
    if number <= 2:  # noqa: PLR2004 - the least that has a half
        return 2
    magnitude = int(10 ** math.floor(math.log10(number)))
    return next(step * magnitude for step in (1, 2, 4, 6, 10) if step * magnitude >= number)

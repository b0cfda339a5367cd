"""The chart of deliveries by outcome, as numbers to draw. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from receiver.ops.traffic import Part

KINDS: Final = ("processed", "recovered", "pending", "failed", "refused")
"""Height of the drawing, in its own units."""
HEIGHT: Final = 100
SLOT: Final = 10
GAP: Final = 2
WORDS: Final = 4
"""Labels of time below a chart, besides the last."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One colour of a bar."""

    kind: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of the range, as pieces one on top of the other."""

    part: Part
    x: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart, ready to be drawn: it is *width* wide and ``HEIGHT`` high, whatever the screen makes of it."""

    bars: tuple[Bar, ...]
    top: int
    """The number at the upper end of the axis."""
    times: tuple[datetime, ...]
    """The labels below it, from left to right, at equal distances."""
    width: int
    height: int = HEIGHT
    bar_width: int = SLOT - GAP

    @property
    def is_empty(self) -> bool:
        """Whether no delivery is in it."""
        return not any(bar.pieces for bar in self.bars)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What occurs in it; what was processed in any case."""
        found = {piece.kind for bar in self.bars for piece in bar.pieces} | {KINDS[0]}
        return tuple(kind for kind in KINDS if kind in found)


def chart_of(parts: Sequence[Part]) -> Chart:
    """Return a bar for each part."""
    top = rounded_up(max((part.total for part in parts), default=0))
    bars = []
    for place, part in enumerate(parts):
        pieces, below = [], 0
        for kind in KINDS:
            number = getattr(part, kind)
            if number:
                below += number
                pieces.append(Piece(kind, round(HEIGHT - HEIGHT * below / top, 2), round(HEIGHT * number / top, 2)))
        bars.append(Bar(part, place * SLOT + GAP // 2, tuple(pieces)))
    step = max(1, len(parts) // WORDS)
    times = tuple(part.at for part in parts[::step])
    return Chart(tuple(bars), top, times, max(1, len(parts)) * SLOT)


def place_in(chart: Chart, parts: Sequence[Part], step: timedelta, at: datetime) -> float:
    """Return where on the axis of *chart* a moment is; *parts* are its bars, each *step* long."""
    if not parts:
        return 0
    return round(min(max((at - parts[0].at) / (step * len(parts)), 0), 1) * chart.width, 2)


def rounded_up(number: int) -> int:
    """Return the next number that is easily read: 2, 4, 6, 10, 20, 40, … and so on."""
    if number <= 2:  # noqa: PLR2004 - the least that has a half
        return 2
    magnitude = int(10 ** math.floor(math.log10(number)))
    return next(step * magnitude for step in (1, 2, 4, 6, 10) if step * magnitude >= number)

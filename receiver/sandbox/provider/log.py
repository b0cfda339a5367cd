"""The log of the attempts to deliver to one webhook, in whatever order and however long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, TypeAlias, overload

if TYPE_CHECKING:
    from receiver.sandbox.provider.log_style import LogStyle, Order
    from receiver.sandbox.provider.resources import ProviderLogEntry

_Arrangement: TypeAlias = "tuple[int, Order, int, frozenset[int]]"
"""What the places depend on: how many attempts there are, and the style's order, seed and gaps."""


@dataclass(slots=True)
class ProviderLog:
    """Attempts in the order in which they were written down; only ever added to."""

    entries: list[ProviderLogEntry] = field(default_factory=list)
    _arranged: tuple[_Arrangement, list[int]] | None = None

    def view(self, style: LogStyle) -> LogView:
        """Return the attempts as they are now, in the order of *style* and without its gaps.

        Nothing is copied as long as there are no gaps and the order is one by time; else places are kept until the
        log or the style changes.
        """
        count = len(self.entries)
        if not style.gaps and style.order != "any":
            places = range(count)
            return LogView(self.entries, places if style.order == "oldest-first" else places[::-1])
        arrangement: _Arrangement = (count, style.order, style.seed, style.gaps)
        if self._arranged is None or self._arranged[0] != arrangement:
            self._arranged = arrangement, self._arrange(style)
        return LogView(self.entries, self._arranged[1])

    def _arrange(self, style: LogStyle) -> list[int]:
        places = [place for place, entry in enumerate(self.entries) if entry.id not in style.gaps]
        match style.order:
            case "newest-first":
                places.reverse()
            case "any":
                # A draw for each place, whatever is left out or added: the others stay where they are to each other.
                rng = Random(style.seed)  # noqa: S311 - an order has to be the same again, not unguessable
                draws = [rng.random() for _ in self.entries]
                places.sort(key=draws.__getitem__)
            case "oldest-first":
                pass
        return places


@dataclass(frozen=True, slots=True)
class LogView(Sequence["ProviderLogEntry"]):
    """The attempts of a moment: those that are added later do not show."""

    entries: Sequence[ProviderLogEntry]
    places: Sequence[int]
    """Which entries there are, in which order."""

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> ProviderLogEntry: ...
    @overload
    def __getitem__(self, index: slice) -> list[ProviderLogEntry]: ...
    def __getitem__(self, index: int | slice) -> ProviderLogEntry | list[ProviderLogEntry]:
        if isinstance(index, slice):
            return [self.entries[place] for place in self.places[index]]
        return self.entries[self.places[index]]

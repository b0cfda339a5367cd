"""Read lists that change while they are read (contract, section 3: their order is undocumented)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Item: TypeAlias = dict[str, Any]

MAX_PASSES: Final = 60
"""How often a list is read from its beginning before it counts as unreadable."""


class ListKeepsChanging(Exception):
    """The list changed during every pass, so that it is never known as a whole."""


class _Envelope(msgspec.Struct):
    data: list[Any]
    last_page: int = 1
    total: int | None = None


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page: its items, the number of the last page, and the list's total, if known."""

    items: list[Item]
    last_page: int
    total: int | None

    @classmethod
    def read(cls, content: bytes) -> ListPage:
        """Parse an answer; a bare list is the only page. Raises ``msgspec.ValidationError``."""
        document = msgspec.json.decode(content)
        if isinstance(document, list):
            document = {"data": document}
        envelope = msgspec.convert(document, _Envelope, strict=False)
        return cls(msgspec.convert(envelope.data, list[Item]), envelope.last_page, envelope.total)


def read_whole(fetch: Callable[[int], ListPage]) -> list[Item]:
    """Return every item that is in a list during the whole reading, each once; *fetch* returns a page, from 1.

    An item that moves between pages while they are read is missed or read twice. So a list of several pages is read
    again until there is a moment (a fetch) at which the whole list is known: as many items as it then had were read
    before it, and again after it. Ids are never reused, so exactly these items were in the list at that moment. Without
    a total, two passes with the same items are enough. An item read twice is returned as read last; one that was
    removed by that moment is left out. Raises ``ListKeepsChanging``.
    """
    reading = _Reading()
    before: set[Hashable] | None = None
    for _ in range(MAX_PASSES):
        pages = reading.one_pass(fetch)
        if reading.is_one_page:
            return reading.items_since(reading.fetches - 1)
        moment = reading.moment_of_completeness()
        if moment is not None:
            return reading.items_since(moment)
        start = reading.fetches - pages
        seen = {key for key, sighting in reading.sightings.items() if sighting.last >= start}
        if seen == before and reading.totals[-1] is None:
            return reading.items_since(start)
        before = seen
    raise ListKeepsChanging


@dataclass(slots=True)
class _Sighting:
    """The newest version of an item, and the numbers of the first and last fetch that returned it."""

    item: Item
    first: int
    last: int


@dataclass(slots=True)
class _Reading:
    """All passes over a list so far. Fetches are counted from 0."""

    sightings: dict[Hashable, _Sighting] = field(default_factory=dict)
    totals: list[int | None] = field(default_factory=list)
    is_one_page: bool = False

    @property
    def fetches(self) -> int:
        return len(self.totals)

    def one_pass(self, fetch: Callable[[int], ListPage]) -> int:
        """Fetch all pages in order; return how many there were."""
        repeats: Counter[bytes] = Counter()
        number = 0
        while True:
            number += 1
            page = fetch(number)
            for item in page.items:
                self._see(_identity(item, repeats), item)
            self.totals.append(page.total)
            self.is_one_page = number == 1 and page.last_page <= 1 and len(page.items) >= (page.total or 0)
            if not page.items or number >= page.last_page:
                return number

    def moment_of_completeness(self) -> int | None:
        """Return the last fetch at which as many items are known as the list then had."""
        change = Counter(sighting.first for sighting in self.sightings.values())
        change.subtract(Counter(sighting.last + 1 for sighting in self.sightings.values()))
        known, found = 0, None
        for moment, total in enumerate(self.totals):
            known += change[moment]
            if total is not None and known >= total:
                found = moment
        return found

    def items_since(self, moment: int) -> list[Item]:
        """Return the items that were returned by fetch *moment* or a later one."""
        return [sighting.item for sighting in self.sightings.values() if sighting.last >= moment]

    def _see(self, key: Hashable, item: Item) -> None:
        now = self.fetches
        sighting = self.sightings.setdefault(key, _Sighting(item, now, now))
        sighting.item, sighting.last = item, now


def _identity(item: Item, repeats: Counter[bytes]) -> Hashable:
    """Return the item's id; without one, its content and its number among equal ones in this pass."""
    identity = item.get("id")
    if identity is not None:
        return str(identity)
    content = msgspec.json.encode(item, order="sorted")
    repeats[content] += 1
    return content, repeats[content]

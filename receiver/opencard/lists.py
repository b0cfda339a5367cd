"""Reading lists that shift while they are read (contract, section 3: their order is open)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Item: TypeAlias = dict[str, Any]

PASSES: Final = 60
"""How often a list is read from its beginning before it counts as unreadable."""


class ListKeepsChanging(Exception):
    """In many passes there was no moment at which everything in the list is known."""


class _Envelope(msgspec.Struct):
    data: list[Any]
    last_page: int = 1
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its items, the number of the last page, and how many items the list has, where that is told."""

    items: list[Item]
    last_page: int
    total: int | None

    @classmethod
    def read(cls, content: bytes) -> Page:
        """Return the page in an answer; a bare list is a whole one. Raises ``msgspec.ValidationError``."""
        document = msgspec.json.decode(content)
        if isinstance(document, list):
            document = {"data": document}
        envelope = msgspec.convert(document, _Envelope, strict=False)
        return cls(msgspec.convert(envelope.data, list[Item]), envelope.last_page, envelope.total)


def read_whole(fetch: Callable[[int], Page]) -> list[Item]:
    """Return every item that is in a list all the while it is read, each once; *fetch* returns a page, from 1.

    What moves between pages while they are read is missed or seen twice. So a list of several pages is read again until
    there was a moment (a fetch) at which everything in it is known: as many items as it then had were seen by then, and
    again from then on. No id is given twice, so these were there at that moment, and nothing else was. Where no total
    is told, two passes that saw the same have to do. An item seen twice is returned as seen last; one that was gone at
    that moment is not. Raises ``ListKeepsChanging``.
    """
    reading = _Reading()
    before: set[Hashable] | None = None
    for _ in range(PASSES):
        pages = reading.one_pass(fetch)
        if reading.is_one_page:
            return reading.items_since(reading.fetches - 1)
        moment = reading.moment_of_completeness()
        if moment is not None:
            return reading.items_since(moment)
        start = reading.fetches - pages
        seen = {key for key, sight in reading.sights.items() if sight.last >= start}
        if seen == before and reading.totals[-1] is None:
            return reading.items_since(start)
        before = seen
    raise ListKeepsChanging


@dataclass(slots=True)
class _Sight:
    """An item as seen last, and by which fetches it was seen first and last."""

    item: Item
    first: int
    last: int


@dataclass(slots=True)
class _Reading:
    """What is known of a list so far. Fetches are counted from 0."""

    sights: dict[Hashable, _Sight] = field(default_factory=dict)
    totals: list[int | None] = field(default_factory=list)
    is_one_page: bool = False

    @property
    def fetches(self) -> int:
        return len(self.totals)

    def one_pass(self, fetch: Callable[[int], Page]) -> int:
        """Fetch the pages in their order; return how many there were."""
        alike: Counter[bytes] = Counter()
        number = 0
        while True:
            number += 1
            page = fetch(number)
            for item in page.items:
                self._see(_identity(item, alike), item)
            self.totals.append(page.total)
            self.is_one_page = number == 1 and page.last_page <= 1 and len(page.items) >= (page.total or 0)
            if not page.items or number >= page.last_page:
                return number

    def moment_of_completeness(self) -> int | None:
        """Return the last fetch at which as many items are known to have been there as the list then had."""
        change = Counter(sight.first for sight in self.sights.values())
        change.subtract(Counter(sight.last + 1 for sight in self.sights.values()))
        known, found = 0, None
        for moment, total in enumerate(self.totals):
            known += change[moment]
            if total is not None and known >= total:
                found = moment
        return found

    def items_since(self, moment: int) -> list[Item]:
        """Return the items that were seen at a fetch or later."""
        return [sight.item for sight in self.sights.values() if sight.last >= moment]

    def _see(self, key: Hashable, item: Item) -> None:
        now = self.fetches
        sight = self.sights.setdefault(key, _Sight(item, now, now))
        sight.item, sight.last = item, now


def _identity(item: Item, alike: Counter[bytes]) -> Hashable:
    """Return the item's id; of one without, the whole item, and its number among equal ones in this pass."""
    identity = item.get("id")
    if identity is not None:
        return str(identity)
    content = msgspec.json.encode(item, order="sorted")
    alike[content] += 1
    return content, alike[content]

"""Reading lists that shift while they are read (contract, section 3: their order is open)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

T = TypeVar("T")

PASSES: Final = 20
"""How often a list is read from its beginning before it counts as unreadable."""


class ListKeepsChanging(Exception):
    """After many passes there is still something new in the list, or something missing."""


class _Envelope(msgspec.Struct):
    data: list[Any]
    last_page: int = 1
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its items, the number of the last page, and how many items the whole list has, as told with it."""

    items: list[dict[str, Any]]
    last_page: int
    total: int

    @classmethod
    def read(cls, content: bytes) -> Page:
        """Return the page in an answer; a bare list is a whole one. Raises ``msgspec.ValidationError``."""
        document = msgspec.json.decode(content)
        if isinstance(document, list):
            document = {"data": document}
        envelope = msgspec.convert(document, _Envelope, strict=False)
        items = msgspec.convert(envelope.data, list[dict[str, Any]])
        return cls(items, envelope.last_page, len(items) if envelope.total is None else envelope.total)


def read_whole(fetch: Callable[[int], Page]) -> list[dict[str, Any]]:
    """Return every item of a list, each once, by its ``id``; *fetch* returns the page of a number, from 1.

    What moves between two pages while they are read is missed or seen twice, so a list of several pages is read again
    until a pass brings nothing new and as many are known as the list says it has. An item seen twice is kept as seen
    last. Raises ``ListKeepsChanging``.
    """
    known: dict[Hashable, dict[str, Any]] = {}
    for number_of_pass in range(PASSES):
        before = len(known)
        pages = _one_pass(fetch)
        for page in pages:
            known.update((_identity(item), item) for item in page.items)
        if len(pages) == 1 or (number_of_pass and len(known) == before and len(known) >= pages[-1].total):
            return list(known.values())
    raise ListKeepsChanging


def _one_pass(fetch: Callable[[int], Page]) -> Sequence[Page]:
    pages = [fetch(1)]
    while pages[-1].items and len(pages) < pages[-1].last_page:
        pages.append(fetch(len(pages) + 1))
    return pages


def _identity(item: dict[str, Any]) -> Hashable:
    """Return the item's id; of one without, the whole item."""
    identity = item.get("id")
    return str(identity) if identity is not None else msgspec.json.encode(item, order="sorted")

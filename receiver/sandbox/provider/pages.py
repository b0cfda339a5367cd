"""Lists are split into pages (contract, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from receiver.sandbox.provider.refusals import malformed

LARGEST: Final = 100

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeVar

    T = TypeVar("T")


def page_number(query: Mapping[str, str]) -> int:
    """Return the page that is asked for, from 1. Raises ``Refused`` (400) when it is no page."""
    text = query.get("page", "1")
    if not (text.isascii() and text.isdigit() and int(text)):
        raise malformed("The page must be a positive integer.")
    return int(text)


def page_size(query: Mapping[str, str], default: int) -> int:
    """Return how many items a page shall have: what is asked for, between 1 and ``LARGEST``; *default* otherwise."""
    text = query.get("per_page", "")
    return max(1, min(int(text), LARGEST)) if text.isascii() and text.isdigit() else default


def page_of(items: Sequence[T], number: int, per_page: int, shown: Callable[[T], object]) -> dict[str, object]:
    """Return a page of *items*, each as *shown*; one beyond the last is empty."""
    first = (number - 1) * per_page
    return {
        "current_page": number,
        "data": [shown(item) for item in items[first : first + per_page]],
        "per_page": per_page,
        "total": len(items),
        "last_page": max(1, -(-len(items) // per_page)),
    }

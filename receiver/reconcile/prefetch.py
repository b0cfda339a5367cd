"""Gets the next of some items while the caller works on one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")


@contextmanager
def prefetch(items: Iterator[T]) -> Iterator[Iterator[T]]:
    """Return an iterator over *items*, none of which is ``None``; a thread gets them, one more than were asked for.

    The thread has ended when the block ends. What getting an item raises is raised where the item is asked for.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:

        def each() -> Iterator[T]:
            following = thread.submit(next, items, None)
            while (item := following.result()) is not None:
                following = thread.submit(next, items, None)
                yield item

        yield each()

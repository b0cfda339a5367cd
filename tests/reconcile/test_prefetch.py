"""The next item is fetched while the caller works on one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from receiver.reconcile.prefetch import prefetch

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 30


def numbers(last: int, got: threading.Event | None = None) -> Iterator[int]:
    """Yield 1 to *last*, and say when that is about to be got; then fail."""
    for number in range(1, last + 1):
        if got is not None and number == last:
            got.set()
        yield number
    raise LookupError(last)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_next_item_is_got_during_the_work_on_one() -> None:
    got = threading.Event()
    with prefetch(numbers(2, got)) as items:
        assert next(items) == 1
        assert got.wait(SECONDS)


def test_failure_is_raised_after_the_items_before_it() -> None:
    with prefetch(numbers(3)) as items:
        assert [next(items), next(items), next(items)] == [1, 2, 3]
        with pytest.raises(LookupError):
            next(items)


@pytest.mark.parametrize("items", [[], [1], [1, 2, 3]])
def test_all_items_come_in_order(items: list[int]) -> None:
    with prefetch(iter(items)) as each:
        assert list(each) == items


def work_badly() -> None:
    with prefetch(numbers(3)) as items:
        assert next(items) == 1
        assert threads()
        raise KeyError


def test_no_thread_is_left_where_the_work_fails() -> None:
    with pytest.raises(KeyError):
        work_badly()
    assert threads() == []

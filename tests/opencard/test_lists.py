"""Lists that shift while they are read (contract, section 3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.opencard.lists import MAX_PASSES, ListKeepsChanging, ListPage, read_whole

PER_PAGE = 3


@dataclass
class ShiftingList:
    """A list that does one of *moves* before each page that is made of it, and keeps still when none is left."""

    ids: list[int]
    moves: list[tuple[str, int]] = field(default_factory=list)
    shows_total: bool = True
    fetches: int = 0

    def __post_init__(self) -> None:
        self.stayed = set(self.ids)
        self._next_id = len(self.ids)

    def fetch(self, number: int) -> ListPage:
        if self.moves:
            self._move(*self.moves.pop())
        self.fetches += 1
        first = (number - 1) * PER_PAGE
        items = [{"id": each, "fetch": self.fetches} for each in self.ids[first : first + PER_PAGE]]
        total = len(self.ids)
        return ListPage(items, max(1, -(-total // PER_PAGE)), total if self.shows_total else None)

    def _move(self, kind: str, number: int) -> None:
        rng = Random(number)  # noqa: S311 - an order, not a secret
        if kind == "shuffle":
            rng.shuffle(self.ids)
        elif kind == "swap" and self.ids:  # one is removed, and another takes its place: the total stays
            self.stayed.discard(self.ids.pop(rng.randrange(len(self.ids))))
            self._insert(rng)
        elif kind == "insert":
            self._insert(rng)
        elif kind == "remove" and self.ids:
            self.stayed.discard(self.ids.pop(rng.randrange(len(self.ids))))

    def _insert(self, rng: Random) -> None:
        self.ids.insert(rng.randint(0, len(self.ids)), self._next_id)
        self._next_id += 1


def ids(items: list[dict[str, Any]]) -> list[int]:
    return [item["id"] for item in items]


moves = st.lists(st.tuples(st.sampled_from(["keep", "shuffle", "swap", "insert", "remove"]), st.integers(0, 99)))


@given(length=st.integers(0, 14), moves=moves)
def test_items_of_a_shifting_list_are_returned_once(length: int, moves: list[tuple[str, int]]) -> None:
    shifting = ShiftingList(list(range(length)), moves)
    found = ids(read_whole(shifting.fetch))
    assert shifting.stayed <= set(found)
    assert len(found) == len(set(found))


@given(length=st.integers(1, 14), seed=st.integers())
def test_list_in_a_new_order_per_page_is_read_completely(length: int, seed: int) -> None:
    rng = Random(seed)  # noqa: S311 - an order, not a secret
    shifting = ShiftingList(list(range(length)), [("shuffle", rng.randrange(10**9)) for _ in range(40 * length)])
    assert sorted(ids(read_whole(shifting.fetch))) == list(range(length))


def test_item_that_replaces_another_does_not_hide_a_third() -> None:
    """Two pages with as many items as the total says, none of them twice, and yet one is missing: 5 fell between."""

    def pages() -> Any:
        yield [0, 1, 2]
        # 0 is removed, 6 is added in front, and 5 moves to the first page
        yield [2, 3, 4]
        while True:
            yield [6, 5, 1]
            yield [2, 3, 4]

    answers = pages()
    found = read_whole(lambda _number: ListPage([{"id": each} for each in next(answers)], last_page=2, total=6))
    assert sorted(ids(found)) == [1, 2, 3, 4, 5, 6]


def test_stable_list_is_read_twice_and_a_single_page_once() -> None:
    several = ShiftingList(list(range(7)))
    assert ids(read_whole(several.fetch)) == list(range(7))
    assert several.fetches == 6
    one = ShiftingList(list(range(3)))
    assert ids(read_whole(one.fetch)) == [0, 1, 2]
    assert one.fetches == 1


def test_log_that_grows_in_front_takes_two_passes() -> None:
    growing = ShiftingList(list(range(9)))

    def fetch(number: int) -> ListPage:
        if growing.fetches % 3 == 0:
            growing.ids.insert(0, 100 + growing.fetches)
        return growing.fetch(number)

    assert set(range(9)) <= set(ids(read_whole(fetch)))
    assert growing.fetches <= 8


def test_item_read_twice_is_returned_as_read_last() -> None:
    shifting = ShiftingList(list(range(5)))
    assert [item["fetch"] for item in read_whole(shifting.fetch)] == [3, 3, 3, 4, 4]


def test_item_removed_during_reading_is_not_returned() -> None:
    shifting = ShiftingList(list(range(6)), [("remove", 1), ("keep", 0)])  # the last move is done first
    found = ids(read_whole(shifting.fetch))
    assert len(found) == 5
    assert set(found) == shifting.stayed


def test_list_that_always_changes_is_an_error() -> None:
    fetches = 0

    def fetch(_number: int) -> ListPage:
        nonlocal fetches
        fetches += 1
        return ListPage([{"id": f"{fetches}"}], last_page=2, total=2)

    with pytest.raises(ListKeepsChanging):
        read_whole(fetch)
    assert fetches == 2 * MAX_PASSES


def test_list_with_fewer_items_than_its_total_is_an_error() -> None:
    with pytest.raises(ListKeepsChanging):
        read_whole(lambda _number: ListPage([{"id": 1}], last_page=1, total=2))


def test_list_without_total_needs_two_equal_passes() -> None:
    without_total = ShiftingList(list(range(8)), [("insert", 4)], shows_total=False)
    assert sorted(ids(read_whole(without_total.fetch))) == list(range(9))


def test_items_without_id_differ_by_content_and_number() -> None:
    log = [{"event": "card.transaction.authorized", "status": 200}] * 4 + [{"event": "tpa.signed", "status": None}]

    def fetch(number: int) -> ListPage:
        return ListPage(log[(number - 1) * 2 : number * 2], last_page=3, total=5)

    assert read_whole(fetch) == log


def test_page_may_be_a_bare_list_with_numbers_as_strings() -> None:
    content = b'{"current_page": "1", "data": [{"id": 1}], "per_page": "15", "total": "31", "last_page": "3"}'
    assert ListPage.read(content) == ListPage([{"id": 1}], last_page=3, total=31)
    assert ListPage.read(b'[{"id": 1}]') == ListPage([{"id": 1}], last_page=1, total=None)


@pytest.mark.parametrize(
    "content",
    [b'{"data": {"id": 1}}', b'{"items": []}', b'{"data": [1]}', b'{"data": [], "last_page": "many"}', b'"list"', b""],
)
def test_invalid_page_is_an_error(content: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        ListPage.read(content)

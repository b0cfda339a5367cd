"""OpenCard's log of the attempts to deliver to a webhook (contract, section 7): in any order, however long.

How an item is spelled is the business of ``delivery_log_item``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from receiver.opencard.delivery_log_item import LogEntry, read_item
from receiver.opencard.routes import LIST_DELIVERY_LOG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from receiver.opencard.client import OpenCard

MARGIN: Final = timedelta(minutes=5)
"""By how much entries may be out of order before the list counts as unordered."""
JITTER: Final = timedelta(seconds=5)
"""Entries that are closer to each other say nothing about the order: attempts are logged when they end."""
STEPS: Final = 8
"""How many steps in order it takes to believe that a list has one."""
PASSES: Final = 4
"""How often a log that changes in a way that may hide something is read from its beginning."""


@dataclass(frozen=True, slots=True)
class LogPage:
    """Some entries of the log, in one direction of its order through all pages."""

    entries: list[LogEntry]
    starts_over: bool = False
    """The log is read anew from here on: what came before counts no more."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """One page as it was answered: entries, the number of the last page, and how many entries the log has, if told."""

    entries: list[LogEntry]
    last_page: int = 1
    total: int | None = None

    @classmethod
    def read(cls, content: bytes, *, now: datetime) -> Fetched:
        """Return the page in an answer that came *now*; a bare list is a whole one. Raises msgspec's errors."""
        envelope = _Envelope(_LIST.decode(content)) if content.lstrip()[:1] == b"[" else _ENVELOPE.decode(content)
        return cls([read_item(bytes(item), now=now) for item in envelope.data], envelope.last_page, envelope.total)


class DeliveryLog:
    """The log of one webhook, to be read once; *fetch* returns a page by its number, from 1."""

    def __init__(self, fetch: Callable[[int], Fetched], *, since: datetime | None = None) -> None:
        self._fetch_page = fetch
        self._since = since
        self._total: int | None = None
        self._fetches = 0
        self._grew = self._shrank = False
        self._has_ids = True
        self.alike_are_one = False
        """After reading: whether entries without an id that are alike have to count as one seen twice."""

    @classmethod
    def of(cls, api: OpenCard, *, organization: int, webhook: int, since: datetime | None = None) -> DeliveryLog:
        """Return the log of a webhook, both ids OpenCard's; *since* is how far back it has to be read."""

        def read(content: bytes) -> Fetched:
            return Fetched.read(content, now=datetime.now(UTC))

        return cls(
            lambda number: api.page(LIST_DELIVERY_LOG, number, read, organization=organization, webhook=webhook),
            since=since,
        )

    def pages(self) -> Iterator[LogPage]:
        """Yield every entry that is there when reading begins and is not older than ``since``; older ones, too.

        Entries that appear meanwhile shift the pages: then some come twice. Those with an id can be told; without, the
        log is read again, a few times, until it stands still. Where it has an order (the times tell) only as much is
        read as is needed. Raises an ``OpenCardError``.
        """
        for number in range(PASSES):
            self._fetches = 0
            self._grew = self._shrank = False
            try:
                yield from _begin_anew(self._one_pass(), anew=number > 0)
            except _OutOfOrder:
                yield from _begin_anew(self._forward(self._fetch(1), None), anew=True)
            if not self._may_mislead():
                self.alike_are_one = self._total is None and self._fetches > 1
                return
        self.alike_are_one = True

    def _one_pass(self) -> Iterator[LogPage]:
        first = self._fetch(1)
        if first.last_page <= 1:
            yield LogPage(first.entries)
            return
        last = self._fetch(first.last_page)
        falling = _Trend.of(first.entries, last.entries)
        rising = _Trend.of(last.entries[::-1], first.entries[::-1])
        if rising and not falling:
            yield from self._backward(last, first.last_page, rising)
        else:
            yield from self._forward(first, None if rising else falling)

    def _forward(self, page: Fetched, trend: _Trend | None) -> Iterator[LogPage]:
        """Yield *page*, the first, and those after it: what is new comes before them or between, and shifts them on."""
        number = 1
        old = 0
        while True:
            yield LogPage(page.entries)
            old = old + 1 if self._is_old(page) else 0
            if number >= page.last_page or not page.entries or (old > 1 and trend and trend.is_sure):
                return
            number += 1
            page = self._fetch(number)
            if trend is not None:
                trend.see(page.entries)

    def _backward(self, page: Fetched, number: int, trend: _Trend) -> Iterator[LogPage]:
        """Yield *page*, the last, and those before it: what is new comes after them. Raises ``_OutOfOrder``."""
        old = 0
        while True:
            yield LogPage(page.entries[::-1])
            old = old + 1 if self._is_old(page) else 0
            if number == 1 or (old > 1 and trend.is_sure):
                return
            number -= 1
            page = self._fetch(number)
            trend.see(page.entries[::-1])
            if trend.broken:
                raise _OutOfOrder

    def _fetch(self, number: int) -> Fetched:
        page = self._fetch_page(number)
        if self._fetches and page.total is not None and self._total is not None:
            self._grew = self._grew or page.total > self._total
            self._shrank = self._shrank or page.total < self._total
        self._total = page.total
        self._fetches += 1
        self._has_ids = self._has_ids and all(entry.id is not None for entry in page.entries)
        return page

    def _is_old(self, page: Fetched) -> bool:
        """Return whether a whole page is older than what is asked for."""
        if self._since is None or not page.entries:
            return False
        limit = self._since - MARGIN
        return all(entry.attempted_at is not None and entry.attempted_at < limit for entry in page.entries)

    def _may_mislead(self) -> bool:
        """Return whether this pass may have missed an entry, or counted one twice that has no id to tell by."""
        return self._shrank or (self._grew and not self._has_ids)


class _OutOfOrder(Exception):
    """The log has no order after all."""


@dataclass(slots=True)
class _Trend:
    """Whether entries come newest first, as far as they were seen in the direction of reading."""

    lowest: datetime | None = None
    anchor: datetime | None = None
    steps: int = 0
    in_order: int = 0
    broken: bool = False

    @classmethod
    def of(cls, near: Iterable[LogEntry], far: Iterable[LogEntry]) -> _Trend | None:
        """Return the trend of a log that is read from *near* to *far*; ``None`` if it has another or none."""
        trend = cls()
        trend.see(near)
        reached = trend.lowest
        trend.see(far)
        trend.lowest = trend.anchor = reached
        return None if trend.broken or reached is None else trend

    @property
    def is_sure(self) -> bool:
        """Whether enough was seen to believe in it: a list without any order looks like one, too, for a while."""
        return not self.broken and self.steps >= STEPS and 4 * self.in_order >= 3 * self.steps

    def see(self, entries: Iterable[LogEntry]) -> None:
        """Look at the next entries."""
        for entry in entries:
            at = entry.attempted_at
            if at is None or (self.lowest is not None and at > self.lowest + MARGIN):
                self.broken = True
                return
            self.lowest = at if self.lowest is None else min(at, self.lowest)
            self.anchor = self.anchor or at
            if abs(at - self.anchor) > JITTER:
                self.steps += 1
                self.in_order += at < self.anchor
                self.anchor = at


def _begin_anew(pages: Iterator[LogPage], *, anew: bool) -> Iterator[LogPage]:
    for page in pages:
        yield LogPage(page.entries, starts_over=anew)
        anew = False


class _Envelope(msgspec.Struct):
    data: list[msgspec.Raw]
    last_page: int = 1
    total: int | None = None


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope, strict=False)
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])

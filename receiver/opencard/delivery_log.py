"""OpenCard's log of the attempts to deliver to a webhook (contract, section 7): in any order, of any length.

``delivery_log_item`` parses the items.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from receiver.opencard.delivery_log_item import LogItem, read_item
from receiver.opencard.routes import LIST_DELIVERY_LOG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from receiver.opencard.client import OpenCard

ORDER_TOLERANCE: Final = timedelta(minutes=5)
"""By how much entries may be out of order before the list counts as unordered."""
JITTER: Final = timedelta(seconds=5)
"""Entries that are closer do not show the order: attempts are logged when they end."""
MIN_STEPS: Final = 8
"""How many steps in order it takes to treat a list as ordered."""
MAX_PASSES: Final = 4
"""How often a log is read from its beginning while it changes in a way that may hide entries."""


@dataclass(frozen=True, slots=True)
class LogPage:
    """Some entries of the log, in one direction through all pages."""

    entries: list[LogItem]
    starts_over: bool = False
    """The log is read again from here on: discard the pages before."""


@dataclass(frozen=True, slots=True)
class FetchedLogPage:
    """One page of an answer: entries, the number of the last page, and the log's total, if known."""

    entries: list[LogItem]
    last_page: int = 1
    total: int | None = None

    @classmethod
    def read(cls, content: bytes, *, now: datetime) -> FetchedLogPage:
        """Parse an answer that arrived *now*; a bare list is the only page. Raises msgspec's errors."""
        envelope = _LogEnvelope(_LIST.decode(content)) if content.lstrip()[:1] == b"[" else _ENVELOPE.decode(content)
        return cls([read_item(bytes(item), now=now) for item in envelope.data], envelope.last_page, envelope.total)


class DeliveryLog:
    """The log of one webhook, for one reading; *fetch* returns a page by its number, from 1."""

    def __init__(self, fetch: Callable[[int], FetchedLogPage], *, since: datetime | None = None) -> None:
        self._fetch_page = fetch
        self._since = since
        self._total: int | None = None
        self._fetches = 0
        self._grew = self._shrank = False
        self._has_ids = True
        self.merge_equal = False
        """After reading: whether equal entries without an id may be one that was read twice."""

    @classmethod
    def of(cls, api: OpenCard, *, organization_id: int, webhook: int, since: datetime | None = None) -> DeliveryLog:
        """Make a reader for a webhook, by OpenCard's ids; *since* is how far back it has to be read."""

        def read(content: bytes) -> FetchedLogPage:
            return FetchedLogPage.read(content, now=datetime.now(UTC))

        return cls(
            lambda number: api.page(LIST_DELIVERY_LOG, number, read, organization=organization_id, webhook=webhook),
            since=since,
        )

    def pages(self) -> Iterator[LogPage]:
        """Yield every entry that exists when reading begins and is not older than ``since``; some older ones, too.

        New entries shift the pages, so that some are read twice. Ids identify them; without ids the log is read again,
        a few times, until it does not change. If the times show an order, only the needed part is read. Raises an
        ``OpenCardError``.
        """
        for number in range(MAX_PASSES):
            self._fetches = 0
            self._grew = self._shrank = False
            try:
                yield from _mark_restart(self._one_pass(), restarted=number > 0)
            except _OutOfOrder:
                yield from _mark_restart(self._forward(self._fetch(1), None), restarted=True)
            if not self._is_unreliable():
                self.merge_equal = self._total is None and self._fetches > 1
                return
        self.merge_equal = True

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

    def _forward(self, page: FetchedLogPage, trend: _Trend | None) -> Iterator[LogPage]:
        """Yield *page*, the first, and the following: new entries appear before or between them and shift the rest."""
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
                trend.observe(page.entries)

    def _backward(self, page: FetchedLogPage, number: int, trend: _Trend) -> Iterator[LogPage]:
        """Yield *page*, the last, and those before it: new entries appear after them. Raises ``_OutOfOrder``."""
        old = 0
        while True:
            yield LogPage(page.entries[::-1])
            old = old + 1 if self._is_old(page) else 0
            if number == 1 or (old > 1 and trend.is_sure):
                return
            number -= 1
            page = self._fetch(number)
            trend.observe(page.entries[::-1])
            if trend.broken:
                raise _OutOfOrder

    def _fetch(self, number: int) -> FetchedLogPage:
        page = self._fetch_page(number)
        if self._fetches and page.total is not None and self._total is not None:
            self._grew = self._grew or page.total > self._total
            self._shrank = self._shrank or page.total < self._total
        self._total = page.total
        self._fetches += 1
        self._has_ids = self._has_ids and all(entry.id is not None for entry in page.entries)
        return page

    def _is_old(self, page: FetchedLogPage) -> bool:
        """Whether every entry of a page is older than ``since``."""
        if self._since is None or not page.entries:
            return False
        limit = self._since - ORDER_TOLERANCE
        return all(entry.attempted_at is not None and entry.attempted_at < limit for entry in page.entries)

    def _is_unreliable(self) -> bool:
        """Whether this pass may have missed an entry, or read one without an id twice."""
        return self._shrank or (self._grew and not self._has_ids)


class _OutOfOrder(Exception):
    """A log that seemed ordered is not."""


@dataclass(slots=True)
class _Trend:
    """Whether the entries are newest first in the direction of reading, as far as they were read."""

    lowest: datetime | None = None
    anchor: datetime | None = None
    steps: int = 0
    in_order: int = 0
    broken: bool = False

    @classmethod
    def of(cls, near: Iterable[LogItem], far: Iterable[LogItem]) -> _Trend | None:
        """Return the trend of a log from *near* to *far*; ``None`` if it is not newest first."""
        trend = cls()
        trend.observe(near)
        lowest_near = trend.lowest
        trend.observe(far)
        trend.lowest = trend.anchor = lowest_near
        return None if trend.broken or lowest_near is None else trend

    @property
    def is_sure(self) -> bool:
        """Whether enough entries were read: an unordered list can look ordered at first."""
        return not self.broken and self.steps >= MIN_STEPS and 4 * self.in_order >= 3 * self.steps

    def observe(self, entries: Iterable[LogItem]) -> None:
        """Update the trend with the next entries."""
        for entry in entries:
            at = entry.attempted_at
            if at is None or (self.lowest is not None and at > self.lowest + ORDER_TOLERANCE):
                self.broken = True
                return
            self.lowest = at if self.lowest is None else min(at, self.lowest)
            self.anchor = self.anchor or at
            if abs(at - self.anchor) > JITTER:
                self.steps += 1
                self.in_order += at < self.anchor
                self.anchor = at


def _mark_restart(pages: Iterator[LogPage], *, restarted: bool) -> Iterator[LogPage]:
    for page in pages:
        yield LogPage(page.entries, starts_over=restarted)
        restarted = False


class _LogEnvelope(msgspec.Struct):
    data: list[msgspec.Raw]
    last_page: int = 1
    total: int | None = None


_ENVELOPE: Final = msgspec.json.Decoder(_LogEnvelope, strict=False)
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])

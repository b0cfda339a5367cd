"""What of the delivery log is missing here, what of ours the log confirms, what cannot be brought back. Pure.

By fingerprint, one at a time: the attempts that the log has are told apart into *occurrences*, each of which is to be
stored once. A request that was answered 2xx ends an occurrence, for OpenCard retries no more; what failed before it
were tries of the same. So there are as many as there are 2xx, and one if there is none.

What failed after the last 2xx is an occurrence of its own where the receiver would take it for a new event, had it
arrived (``events.deduplicate``): of a card holder, or more than a day later. Else it is a duplicate, sent in vain.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from receiver.events.deduplicate import WINDOW
from receiver.reconcile.clock import NOTICEABLE
from receiver.reconcile.identity import event_name
from receiver.records.folds.card_holders import TIME_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

TOLERANCE: Final = timedelta(minutes=5)
"""By how much an attempt without a payload and the delivery that it may have brought may be apart."""
_UNKNOWN: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt in the log."""

    number: int
    """By which it is found again."""
    at: datetime | None
    taken: bool
    """Answered 2xx."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored delivery."""

    id: int
    at: datetime
    """When it occurred, as far as is known: when it arrived, or its first attempt was."""
    from_log: bool = False
    confirmed: bool = False
    arrived: datetime | None = None
    """``None`` where it is the same as ``at``."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comes of comparing."""

    matched: int = 0
    """Occurrences that are stored."""
    missing: list[Attempt] = field(default_factory=list)
    """The first attempt of each occurrence that is not: to be recovered."""
    confirmed: list[int] = field(default_factory=list)
    """Deliveries that are proven to be in the log now, and were not before."""
    unrecoverable: list[Attempt] = field(default_factory=list)
    """An attempt of each occurrence that is missing and cannot be recovered."""
    earlier: list[tuple[int, datetime]] = field(default_factory=list)
    """Deliveries that arrived by a retry, and when their first attempt was, by our clock."""


def compare(event: str, attempts: Sequence[Attempt], stored: Sequence[Stored]) -> Verdict:
    """Compare the *attempts* and the *stored* deliveries of one fingerprint; the order of either does not matter."""
    in_time = all(attempt.at is not None for attempt in attempts)
    by_sequence = in_time and event_name(event) in TIME_COLUMNS
    occurrences = _occurrences(attempts, in_time=in_time, by_sequence=by_sequence)
    brought, elsewhere = _brought(occurrences, stored)
    missing = [each for each, deliveries in zip(occurrences, brought, strict=True) if not deliveries][elsewhere:]
    if not by_sequence:
        # Equal ones within a day are one event: it does not matter which are stored, but how many.
        unknown = [each for each in missing if all(abs(_time(each[0]) - one.at) > WINDOW for one in stored)]
        others = [each for each in missing if each not in unknown]
        others += [each for each in occurrences if each not in missing]
        missing = [*unknown, *others[: max(0, len(occurrences) - len(stored) - len(unknown))]]
    return Verdict(
        matched=len(occurrences) - len(missing),
        missing=[occurrence[0] for occurrence in missing],
        confirmed=_confirmed(len(attempts), stored),
        earlier=list(_earlier(occurrences, brought)) if in_time else [],
    )


def _occurrences(attempts: Iterable[Attempt], *, in_time: bool, by_sequence: bool) -> list[list[Attempt]]:
    """Return the attempts by occurrence, both in order of time."""
    # Of simultaneous ones (a log may tell whole seconds) the one that was taken is the last.
    in_order = sorted(attempts, key=lambda each: (_time(each), each.taken, each.number))
    if not in_time:
        in_order.sort(key=lambda each: each.taken)
    occurrences: list[list[Attempt]] = [[]]
    for attempt in in_order:
        occurrences[-1].append(attempt)
        if attempt.taken:
            occurrences.append([])
    after = occurrences.pop()
    if not after:
        return occurrences
    if not occurrences or by_sequence or _time(after[0]) - _time(occurrences[-1][-1]) > WINDOW:
        return [*occurrences, after]
    occurrences[-1] += after
    return occurrences


def _brought(occurrences: Sequence[list[Attempt]], stored: Iterable[Stored]) -> tuple[list[list[Stored]], int]:
    """Return the deliveries of each occurrence, and the number of those that fit none: they may be of any.

    A delivery belongs to the last occurrence that had begun when it arrived, as long as that had as many attempts (an
    answer may be lost, so that two tries of one occurrence arrive).
    """
    begun = [_time(occurrence[0]) for occurrence in occurrences]
    brought: list[list[Stored]] = [[] for _ in occurrences]
    elsewhere = 0
    for delivery in stored:
        place = max(0, bisect_right(begun, delivery.at) - 1)
        if len(brought[place]) < len(occurrences[place]):
            brought[place].append(delivery)
        else:
            elsewhere += 1
    return brought, elsewhere


def _earlier(
    occurrences: Iterable[Sequence[Attempt]], brought: Iterable[Sequence[Stored]]
) -> Iterator[tuple[int, datetime]]:
    """Yield the deliveries that a retry brought, with the time of the first attempt.

    What happened first was attempted first, though its retry arrived after something newer. How long before the
    arrival that was is measured by the log's own clock. A single delivery came by the attempt that was answered 2xx,
    unless it was here before that; of several, the first came by the attempt that is nearest. Attempts that are as
    close as clocks may differ tell nothing.
    """
    for attempts, deliveries in zip(occurrences, brought, strict=True):
        pushed = [(each.arrived or each.at, each) for each in deliveries if not each.from_log]
        if len(pushed) < len(deliveries) or not pushed:
            continue
        arrived, first = min(pushed, key=lambda each: (each[0], each[1].id))
        by = attempts[-1]
        if len(deliveries) > 1 or not by.taken or arrived < _time(by) - NOTICEABLE:
            by = min(attempts, key=lambda each: abs(_time(each) - arrived))
            if any(abs(_time(each) - _time(by)) <= 2 * NOTICEABLE for each in attempts if each is not by):
                continue  # they are so close that nothing tells which it was
        late = _time(by) - _time(attempts[0])
        if late > NOTICEABLE and arrived - late < first.at:
            yield first.id, arrived - late


def _confirmed(attempts: int, stored: Iterable[Stored]) -> list[int]:
    """Return the pushed deliveries that *attempts* prove, the oldest first; more of them may be replayed requests."""
    pushed = sorted((each for each in stored if not each.from_log), key=lambda each: (each.at, each.id))
    left = attempts - sum(each.confirmed for each in pushed)
    return [each.id for each in pushed if not each.confirmed][: max(0, left)]


def compare_without_payload(attempts: Sequence[Attempt], stored: Iterable[Stored]) -> Verdict:
    """Compare the *attempts* of one event of which the log tells no payload with deliveries that nothing else explains.

    Each is matched with the nearest such delivery, a few minutes away at most. A 2xx that is left over is
    unrecoverable. Of attempts that failed, those before a 2xx or a match may have been tries of the same; of all others
    nothing tells how many events they were, so that they count as one.
    """
    left = sorted(stored, key=lambda each: (each.at, each.id))
    matched: list[Attempt] = []
    unmatched: list[Attempt] = []
    confirmed: list[int] = []
    for attempt in sorted(attempts, key=lambda each: (not each.taken, _time(each), each.number)):
        place = _nearest(left, attempt.at)
        if place is None:
            unmatched.append(attempt)
            continue
        delivery = left.pop(place)
        matched.append(attempt)
        if not (delivery.from_log or delivery.confirmed):
            confirmed.append(delivery.id)
    ends = [_time(attempt) for attempt in attempts if attempt.taken] + [_time(attempt) for attempt in matched]
    closed = max(ends, default=None)
    open_ones = [each for each in unmatched if not each.taken and (closed is None or _time(each) > closed)]
    return Verdict(
        matched=len(matched),
        confirmed=confirmed,
        unrecoverable=[*(each for each in unmatched if each.taken), *open_ones[:1]],
    )


def _nearest(stored: Sequence[Stored], at: datetime | None) -> int | None:
    """Return the place of the delivery that arrived nearest to *at*; where the log tells no time, the oldest."""
    if at is None:
        return 0 if stored else None
    after = bisect_right(stored, at, key=lambda each: each.at)
    near = [place for place in (after - 1, after) if 0 <= place < len(stored)]
    place = min(near, key=lambda place: abs(stored[place].at - at), default=None)
    return place if place is not None and abs(stored[place].at - at) <= TOLERANCE else None


def _time(attempt: Attempt) -> datetime:
    return attempt.at or _UNKNOWN

"""Compare the delivery log with the stored deliveries: what is missing, confirmed, unrecoverable. Pure.

By fingerprint, one at a time: the attempts in the log are grouped into *occurrences*, each of which has to be stored
once. A 2xx ends an occurrence, because OpenCard does not retry after it; the failures before it are tries of the same
occurrence. So there are as many occurrences as 2xx answers, or one if there is none.

Failures after the last 2xx are an occurrence of their own where the receiver would have treated the delivery as a new
event (``events.deduplicate``): a card-holder event, or more than a day later. Otherwise they are a duplicate.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from receiver.events.deduplicate import WINDOW
from receiver.reconcile.clock import CLOCK_TOLERANCE
from receiver.reconcile.identity import event_name
from receiver.records.folds.card_holders import TIME_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MATCH_TOLERANCE: Final = timedelta(minutes=5)
"""The longest time between an attempt without a payload and the delivery that is matched with it."""
_UNKNOWN: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class LogAttempt:
    """An entry of the delivery log, reduced to what is compared."""

    number: int
    """Its key in the workspace."""
    at: datetime | None
    accepted: bool
    """Answered 2xx."""


@dataclass(frozen=True, slots=True)
class ComparedDelivery:
    """A stored delivery, reduced to what is compared."""

    id: int
    at: datetime
    """When it occurred, as far as is known: its first attempt, or else its arrival."""
    from_log: bool = False
    confirmed: bool = False
    arrived: datetime | None = None
    """``None`` where it is the same as ``at``."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result for one fingerprint, or for one event name without payloads."""

    matched: int = 0
    """Occurrences that are stored."""
    missing: list[LogAttempt] = field(default_factory=list)
    """The first attempt of each occurrence to recover."""
    confirmed: list[int] = field(default_factory=list)
    """Deliveries that the log confirms for the first time."""
    unrecoverable: list[LogAttempt] = field(default_factory=list)
    """An attempt of each occurrence that is missing and cannot be recovered."""
    backdated: list[tuple[int, datetime]] = field(default_factory=list)
    """Deliveries that arrived by a retry, with the time of their first attempt by our clock."""


def compare(event: str, attempts: Sequence[LogAttempt], stored: Sequence[ComparedDelivery]) -> Comparison:
    """Compare the *attempts* and the *stored* deliveries of one fingerprint; the order of either does not matter."""
    timed = all(attempt.at is not None for attempt in attempts)
    order_matters = timed and event_name(event) in TIME_COLUMNS
    occurrences = _occurrences(attempts, timed=timed, order_matters=order_matters)
    delivered, unplaced = _assign_deliveries(occurrences, stored)
    backdated = dict(_backdated(occurrences, delivered)) if timed else {}
    missing = [each for each, deliveries in zip(occurrences, delivered, strict=True) if not deliveries][unplaced:]
    if not order_matters:
        # Equal ones within a day are one event: it does not matter which are stored, but how many, and the first.
        needed = _needed(missing, [backdated.get(one.id, one.at) for one in stored])
        others = [each for each in missing if each not in needed]
        others += [each for each in occurrences if each not in missing]
        missing = [*needed, *others[: max(0, len(occurrences) - len(stored) - len(needed))]]
    return Comparison(
        matched=len(occurrences) - len(missing),
        missing=[occurrence[0] for occurrence in missing],
        confirmed=_confirmed(len(attempts), stored),
        backdated=list(backdated.items()),
    )


def _needed(missing: Iterable[list[LogAttempt]], known: list[datetime]) -> list[list[LogAttempt]]:
    """Return which *missing* occurrences add an event to those of the *known* times, or begin one earlier."""
    needed = []
    for occurrence in missing:
        first = _time(occurrence[0])
        begins = _beginnings([*known, first])
        if begins != _beginnings(known):
            needed.append(occurrence)
            known = begins
    return needed


def _beginnings(times: Iterable[datetime]) -> list[datetime]:
    """Return when each event began, if equal deliveries have these *times* (see ``events.deduplicate``)."""
    found: list[datetime] = []
    for at in sorted(times):
        if not found or at - found[-1] > WINDOW:
            found.append(at)
    return found


def _occurrences(attempts: Iterable[LogAttempt], *, timed: bool, order_matters: bool) -> list[list[LogAttempt]]:
    """Return the attempts by occurrence, both in order of time."""
    # Of simultaneous ones (a log may have whole seconds) the one that was accepted is the last.
    in_order = sorted(attempts, key=lambda each: (_time(each), each.accepted, each.number))
    if not timed:
        in_order.sort(key=lambda each: each.accepted)
    occurrences: list[list[LogAttempt]] = [[]]
    for attempt in in_order:
        occurrences[-1].append(attempt)
        if attempt.accepted:
            occurrences.append([])
    after = occurrences.pop()
    if not after:
        return occurrences
    begun = [_time(occurrence[0]) for occurrence in occurrences]
    if order_matters or _time(after[0]) in _beginnings([*begun, _time(after[0])]):
        return [*occurrences, after]
    occurrences[-1] += after
    return occurrences


def _assign_deliveries(
    occurrences: Sequence[list[LogAttempt]], stored: Iterable[ComparedDelivery]
) -> tuple[list[list[ComparedDelivery]], int]:
    """Return the deliveries of each occurrence, and the number of those that belong to none in particular.

    What was recovered belongs to the occurrence of its time, one each, in order. What arrived belongs to the last
    occurrence that had begun by then, as far as clocks show, as long as that had as many attempts (an answer may be
    lost, so that two tries of one occurrence arrive).
    """
    begins = [_time(occurrence[0]) for occurrence in occurrences]
    delivered: list[list[ComparedDelivery]] = [[] for _ in occurrences]
    unplaced = 0
    free = 0
    for delivery in sorted(stored, key=lambda each: (not each.from_log, each.at, each.id)):
        if delivery.from_log:
            place = _nearest_place(begins, delivery.at, free)
            free = place + 1
        else:
            place = max(0, bisect_right(begins, delivery.at + CLOCK_TOLERANCE) - 1)
        if place < len(occurrences) and len(delivered[place]) < len(occurrences[place]):
            delivered[place].append(delivery)
        else:
            unplaced += 1
    return delivered, unplaced


def _nearest_place(times: Sequence[datetime], at: datetime, beginning: int) -> int:
    """Return the index, from *beginning* on, of the time nearest to *at*; of equal ones the first."""
    after = bisect_left(times, at, lo=min(beginning, len(times)))
    if after == len(times) or (after > beginning and at - times[after - 1] < times[after] - at):
        return max(after - 1, beginning)
    return after


def _backdated(
    occurrences: Iterable[Sequence[LogAttempt]], delivered: Iterable[Sequence[ComparedDelivery]]
) -> Iterator[tuple[int, datetime]]:
    """Yield the deliveries that arrived by a retry, with the time of the first attempt.

    What happened first was attempted first, though its retry arrived after something newer. All deliveries of an
    occurrence have one time, the earliest that is known of it.
    """
    for attempts, deliveries in zip(occurrences, delivered, strict=True):
        if deliveries:
            first = _first_attempt(attempts, deliveries)
            yield from ((each.id, first) for each in deliveries if not each.from_log and first < each.at)


def _first_attempt(attempts: Sequence[LogAttempt], deliveries: Sequence[ComparedDelivery]) -> datetime:
    """Return when an occurrence was first attempted, by our clock.

    It is the first arrival, less the time that the log shows from the first attempt to the one that arrived. A single
    delivery came by the attempt that was answered 2xx, unless it was here before that; of several, the first came by
    the nearest attempt.
    Attempts that are as close as clocks may differ decide nothing. What was recovered has the time that the log has.
    """
    known = min(each.at for each in deliveries)
    arrivals = [each.arrived or each.at for each in deliveries if not each.from_log]
    if len(arrivals) < len(deliveries):
        return known
    arrived = min(arrivals)
    by = attempts[-1]
    if len(deliveries) > 1 or not by.accepted or arrived < _time(by) - CLOCK_TOLERANCE:
        by = min(attempts, key=lambda each: abs(_time(each) - arrived))
        if any(abs(_time(each) - _time(by)) <= 2 * CLOCK_TOLERANCE for each in attempts if each is not by):
            return known  # they are too close to know which it was
    late = _time(by) - _time(attempts[0])
    return min(known, arrived - late) if late > CLOCK_TOLERANCE else known


def _confirmed(attempts: int, stored: Iterable[ComparedDelivery]) -> list[int]:
    """Return the pushed deliveries that *attempts* confirm, the oldest first; any beyond may be forged replays."""
    pushed = sorted((each for each in stored if not each.from_log), key=lambda each: (each.at, each.id))
    left = attempts - sum(each.confirmed for each in pushed)
    return [each.id for each in pushed if not each.confirmed][: max(0, left)]


def compare_without_payload(attempts: Sequence[LogAttempt], stored: Iterable[ComparedDelivery]) -> Comparison:
    """Compare the *attempts* without payload of one event name with the deliveries that no other attempt explains.

    Each is matched with the nearest such delivery, at most ``MATCH_TOLERANCE`` away. An unmatched 2xx is unrecoverable.
    Failed attempts before a 2xx or a match may have been tries of the same event; all later ones count as one event,
    because their number is unknown.
    """
    left = sorted(stored, key=lambda each: (each.at, each.id))
    matched: list[LogAttempt] = []
    unmatched: list[LogAttempt] = []
    confirmed: list[int] = []
    for attempt in sorted(attempts, key=lambda each: (not each.accepted, _time(each), each.number)):
        place = _nearest(left, attempt.at)
        if place is None:
            unmatched.append(attempt)
            continue
        delivery = left.pop(place)
        matched.append(attempt)
        if not (delivery.from_log or delivery.confirmed):
            confirmed.append(delivery.id)
    ends = [_time(attempt) for attempt in attempts if attempt.accepted] + [_time(attempt) for attempt in matched]
    closed_at = max(ends, default=None)
    open_ones = [each for each in unmatched if not each.accepted and (closed_at is None or _time(each) > closed_at)]
    return Comparison(
        matched=len(matched),
        confirmed=confirmed,
        unrecoverable=[*(each for each in unmatched if each.accepted), *open_ones[:1]],
    )


def _nearest(stored: Sequence[ComparedDelivery], at: datetime | None) -> int | None:
    """Return the index of the delivery that arrived nearest to *at*; without a time, of the oldest."""
    if at is None:
        return 0 if stored else None
    after = bisect_right(stored, at, key=lambda each: each.at)
    near = [place for place in (after - 1, after) if 0 <= place < len(stored)]
    place = min(near, key=lambda place: abs(stored[place].at - at), default=None)
    return place if place is not None and abs(stored[place].at - at) <= MATCH_TOLERANCE else None


def _time(attempt: LogAttempt) -> datetime:
    return attempt.at or _UNKNOWN

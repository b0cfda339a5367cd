"""Comparing: what is missing, what is proven, what cannot be brought back."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.reconcile.compare import Attempt, Stored, Verdict, compare, compare_without_payload
from receiver.reconcile.identity import identify

NOON = datetime(2026, 1, 12, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
CLEARED = "card.transaction.cleared"
CREATED = "card_holder.created"
EITHER = pytest.mark.parametrize("event", [CLEARED, CREATED, "an.unknown.event"])


def log(*told: tuple[float, int | None]) -> list[Attempt]:
    """Return attempts, each of an hour and with the status it was answered."""
    return [
        Attempt(n, NOON + hour * HOUR, status is not None and 200 <= status <= 299)
        for n, (hour, status) in enumerate(told)
    ]


def stored(*hours: float, from_log: bool = False, confirmed: bool = False) -> list[Stored]:
    """Return deliveries that arrived a second after an hour; of the log, at that hour."""
    later = timedelta() if from_log else SECOND
    return [Stored(n, NOON + hour * HOUR + later, from_log, confirmed) for n, hour in enumerate(hours, start=100)]


def missing(verdict: Verdict) -> list[float]:
    """Return the hours of the first attempts of what is missing."""
    return [((attempt.at or NOON) - NOON) / HOUR for attempt in verdict.missing]


@EITHER
def test_what_is_stored_and_in_the_log_is_confirmed(event: str) -> None:
    verdict = compare(event, log((0, 200)), stored(0))
    assert (verdict.matched, verdict.missing, verdict.confirmed) == (1, [], [100])


@EITHER
@pytest.mark.parametrize("statuses", [[503], [503, None, 500], [200], [503, 200], [302, 404]])
def test_what_is_not_stored_is_missing_once_as_of_its_first_attempt(event: str, statuses: list[int | None]) -> None:
    verdict = compare(event, log(*enumerate(statuses)), [])
    assert (verdict.matched, missing(verdict)) == (0, [0])


@EITHER
def test_what_was_answered_2xx_more_often_than_it_is_stored_is_missing_as_often(event: str) -> None:
    verdict = compare(event, log((0, 200), (1, 503), (2, 200), (3, 204)), stored(0))
    assert (verdict.matched, missing(verdict)) == (1, [1, 3])


@EITHER
def test_tries_of_which_the_answer_was_lost_are_all_confirmed_and_none_is_missing(event: str) -> None:
    verdict = compare(event, log((0, None), (1, None), (2, 200)), stored(0, 1, 2))
    assert (verdict.matched, verdict.missing, verdict.confirmed) == (1, [], [100, 101, 102])


@EITHER
def test_a_push_beyond_the_number_of_attempts_is_not_confirmed(event: str) -> None:
    assert compare(event, log((0, 200)), stored(0, 1, 2)).confirmed == [100]
    assert compare(event, log((0, 200)), [*stored(0, confirmed=True), Stored(7, NOON + HOUR)]).confirmed == []


def test_what_came_from_the_log_takes_nothing_of_what_confirms_a_push() -> None:
    both = [*stored(0, from_log=True, confirmed=True), Stored(7, NOON + HOUR)]
    assert compare(CLEARED, log((0, 503), (1, 200)), both).confirmed == [7]


def test_a_card_holders_event_that_fails_after_it_was_taken_is_another_one() -> None:
    verdict = compare(CREATED, log((0, 200), (2, 503), (3, None)), stored(0))
    assert (verdict.matched, missing(verdict)) == (1, [2])
    assert missing(compare(CREATED, log((0, 200), (2, None)), stored(0, 2))) == []


def test_an_answer_that_was_lost_does_not_hide_a_card_holders_event_that_never_came() -> None:
    assert missing(compare(CREATED, log((0, None), (1, 200), (3, 503)), stored(0, 1))) == [3]


def test_any_other_event_that_fails_after_it_was_taken_is_a_duplicate_for_a_day() -> None:
    assert missing(compare(CLEARED, log((0, 200), (2, 503)), stored(0))) == []
    assert missing(compare(CLEARED, log((0, 200), (23, 503), (26, 503)), stored(0))) == []
    assert missing(compare(CLEARED, log((0, 200), (25, 503), (26, 503)), stored(0))) == [25]
    assert missing(compare(CLEARED, log((0, None), (1, 200), (30, 503)), stored(0, 1))) == [30]


def test_tries_of_several_days_are_one_event() -> None:
    assert missing(compare(CLEARED, log((0, 503), (30, 503), (60, 503)), [])) == [0]
    assert missing(compare(CLEARED, log((0, 503), (30, 503), (60, 200)), stored(60))) == []


def test_of_simultaneous_attempts_the_one_that_was_taken_is_the_last() -> None:
    assert missing(compare(CREATED, log((0, 200), (0, 503), (0, None)), stored(0))) == []


def test_without_times_it_is_the_number_that_counts() -> None:
    attempts = [Attempt(1, None, taken=True), Attempt(2, None, taken=False), Attempt(3, None, taken=True)]
    assert len(compare(CREATED, attempts, []).missing) == 2
    assert len(compare(CREATED, attempts, stored(0)).missing) == 1
    assert len(compare(CREATED, attempts, stored(0, 1)).missing) == 0


def test_clocks_that_differ_make_nothing_missing_that_is_stored_as_often_as_it_was_taken() -> None:
    for skew in (-10 * SECOND, 10 * SECOND):
        attempts = log((0, 200), (0.001, 200))
        there = [Stored(n, (attempt.at or NOON) + skew) for n, attempt in enumerate(attempts)]
        assert compare(CLEARED, attempts, there).missing == []
        assert compare(CREATED, attempts, there).missing == []


events = st.sampled_from([CLEARED, CREATED])
attempts_of_one_event = st.lists(
    st.tuples(st.integers(0, 200), st.sampled_from([200, 503, None]), st.booleans()), min_size=1, max_size=12
)


@given(event=events, told=attempts_of_one_event, order=st.randoms(use_true_random=False), timeless=st.booleans())
def test_what_is_recovered_and_what_is_stored_are_the_log_and_a_second_look_finds_nothing(
    event: str,
    told: list[tuple[int, int | None, bool]],
    order: st.DataObject,
    timeless: bool,  # noqa: FBT001
) -> None:
    attempts = [
        Attempt(n, None if timeless else NOON + hour / 4 * HOUR, status == 200)
        for n, (hour, status, _) in enumerate(told)
    ]
    there = [
        Stored(n, NOON + hour / 4 * HOUR + SECOND)
        for n, (hour, status, kept) in enumerate(told)
        if kept and status != 503
    ]
    verdict = compare(event, attempts, there)
    taken = sum(attempt.taken for attempt in attempts)
    assert verdict.matched >= 0
    assert len({attempt.number for attempt in verdict.missing}) == len(verdict.missing)
    assert verdict.matched + len(verdict.missing) >= max(1, taken)
    assert len(there) + len(verdict.missing) >= max(1, taken)
    assert set(verdict.confirmed) <= {each.id for each in there}
    assert len(verdict.confirmed) == min(len(there), len(attempts))

    shuffled = list(attempts)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    other = compare(event, shuffled, there[::-1])
    assert Counter(each.at for each in other.missing) == Counter(each.at for each in verdict.missing)
    assert (other.matched, sorted(other.confirmed)) == (verdict.matched, sorted(verdict.confirmed))

    recovered = [
        Stored(1000 + n, attempt.at or NOON + 1000 * HOUR, from_log=True, confirmed=True)
        for n, attempt in enumerate(verdict.missing)
    ]
    proven = [Stored(each.id, each.at, confirmed=each.id in verdict.confirmed) for each in there]
    again = compare(event, attempts, [*proven, *recovered])
    assert (again.missing, again.confirmed) == ([], [])
    assert again.matched == verdict.matched + len(verdict.missing)


@given(event=events, told=st.lists(st.tuples(st.integers(0, 90), st.booleans()), min_size=1, max_size=8))
def test_whatever_was_deleted_comes_back(event: str, told: list[tuple[int, bool]]) -> None:
    """Each sending was taken at once; of the deliveries some are gone."""
    attempts = log(*((hour, 200) for hour, _ in told))
    left = stored(*(hour for hour, kept in told if kept))
    assert len(compare(event, attempts, left).missing) == len(told) - len(left)


def test_without_a_payload_the_nearest_delivery_of_the_event_is_taken_for_it() -> None:
    verdict = compare_without_payload(log((0, 200), (2, 200)), stored(0, 2, 2.01))
    assert (verdict.matched, verdict.confirmed, verdict.unrecoverable) == (2, [100, 101], [])


def test_without_a_payload_what_was_taken_and_is_not_stored_is_unrecoverable_each_by_itself() -> None:
    attempts = log((0, 200), (2, 200), (3, 200))
    assert compare_without_payload(attempts, stored(0)).unrecoverable == attempts[1:]
    assert compare_without_payload(attempts, stored(0.5)).unrecoverable == attempts


def test_without_a_payload_what_failed_is_closed_by_a_later_2xx_or_a_match_else_it_is_one() -> None:
    assert compare_without_payload(log((0, 503), (1, None), (2, 200)), stored(2)).unrecoverable == []
    assert compare_without_payload(log((0, 503), (1, None)), stored(1)).unrecoverable == []
    failed = log((0, 503), (1, None), (2, 500))
    assert compare_without_payload(failed, []).unrecoverable == failed[:1]
    after = log((0, 200), (1, 503), (2, 503))
    assert compare_without_payload(after, stored(0)).unrecoverable == after[1:2]


def test_without_payload_and_time_it_is_the_number_that_counts() -> None:
    attempts = [Attempt(n, None, taken=True) for n in range(3)]
    verdict = compare_without_payload(attempts, stored(0, 5))
    assert (verdict.matched, len(verdict.unrecoverable)) == (2, 1)


@given(
    told=st.lists(st.tuples(st.integers(0, 40), st.sampled_from([200, 503, None])), max_size=10),
    hours=st.lists(st.integers(0, 40), max_size=10),
)
def test_without_payloads_nothing_is_counted_twice_and_a_second_look_says_the_same(
    told: list[tuple[int, int | None]], hours: list[int]
) -> None:
    attempts = log(*told)
    there = stored(*hours)
    verdict = compare_without_payload(attempts, there)
    assert verdict.missing == []
    assert verdict.matched == len(set(verdict.confirmed)) <= min(len(attempts), len(there))
    assert verdict.matched + len(verdict.unrecoverable) <= len(attempts)
    proven = [Stored(each.id, each.at, confirmed=each.id in verdict.confirmed) for each in there]
    again = compare_without_payload(attempts[::-1], proven)
    assert (again.matched, again.unrecoverable, again.confirmed) == (verdict.matched, verdict.unrecoverable, [])


def test_an_event_is_the_same_in_every_spelling_and_another_under_another_name() -> None:
    one = identify("environmental.impact.deedster", b'{"a": 45, "b": [1.50, null]}', "acme")
    assert identify("environmental_impact.deedster", b'{"b":[1.5,null],"a":45.0}', "acme") == one
    assert identify("environmental.impact.aland_index", b'{"a": 45, "b": [1.50, null]}', "acme") != one


def test_the_organization_counts_where_the_payload_does_not_name_it() -> None:
    for event, differ in (("invoice.created", True), ("card_holder.created", False)):
        assert (identify(event, b"{}", "acme") != identify(event, b"{}", "globex")) == differ


def test_what_is_no_json_is_known_by_its_bytes() -> None:
    assert identify("e", b"{broken", "acme") == identify("e", b"{broken", "acme")
    others = [("e", b"{broken"), ("f", b"{broken"), ("e", b"{broken ")]
    assert len({identify(*other, "acme") for other in others}) == 3


def test_a_delivery_that_a_retry_brought_is_dated_by_the_first_attempt() -> None:
    verdict = compare(CLEARED, log((0, 503), (1, None), (2, 200)), stored(2))
    assert verdict.earlier == [(100, NOON + SECOND)]


@pytest.mark.parametrize(
    "deliveries",
    [stored(0), stored(0, 2), stored(2, from_log=True), [Stored(100, NOON, arrived=NOON + 2 * HOUR)], []],
    ids=["it came by the first", "by the first and the last", "recovered", "dated before", "none"],
)
def test_every_other_delivery_keeps_its_time(deliveries: list[Stored]) -> None:
    assert compare(CLEARED, log((0, None), (1, 503), (2, 200)), deliveries).earlier == []


def test_without_times_nothing_is_dated() -> None:
    attempts = [Attempt(0, None, taken=False), Attempt(1, None, taken=True)]
    assert compare(CLEARED, attempts, stored(1)).earlier == []


@pytest.mark.parametrize("arrivals", [1, 2])
def test_attempts_that_are_close_date_nothing(arrivals: int) -> None:
    close = [Attempt(number, NOON + number * SECOND / 20, taken=number == 2) for number in range(3)]
    arrived = [Stored(100 + number, NOON + (number + 1) * SECOND / 20) for number in range(arrivals)]
    assert compare(CLEARED, close, arrived).earlier == []

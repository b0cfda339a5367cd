"""Comparing: what is missing, what is proven, what cannot be brought back."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.reconcile.compare import ComparedDelivery, Comparison, LogAttempt, compare, compare_without_payload
from receiver.reconcile.identity import event_fingerprint

NOON = datetime(2026, 1, 12, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
CLEARED = "card.transaction.cleared"
CREATED = "card_holder.created"
EITHER = pytest.mark.parametrize("event", [CLEARED, CREATED, "an.unknown.event"])


def log(*attempts: tuple[float, int | None]) -> list[LogAttempt]:
    """Return attempts, each of an hour and with the status it was answered."""
    return [
        LogAttempt(n, NOON + hour * HOUR, status is not None and 200 <= status <= 299)
        for n, (hour, status) in enumerate(attempts)
    ]


def stored(*hours: float, from_log: bool = False, confirmed: bool = False) -> list[ComparedDelivery]:
    """Return deliveries that arrived a second after an hour; of the log, at that hour."""
    later = timedelta() if from_log else SECOND
    return [
        ComparedDelivery(n, NOON + hour * HOUR + later, from_log, confirmed) for n, hour in enumerate(hours, start=100)
    ]


def missing(comparison: Comparison) -> list[float]:
    """Return the hours of the first attempts of what is missing."""
    return [((attempt.at or NOON) - NOON) / HOUR for attempt in comparison.missing]


@EITHER
def test_delivery_in_the_log_is_confirmed(event: str) -> None:
    comparison = compare(event, log((0, 200)), stored(0))
    assert (comparison.matched, comparison.missing, comparison.confirmed) == (1, [], [100])


@EITHER
@pytest.mark.parametrize("statuses", [[503], [503, None, 500], [200], [503, 200], [302, 404]])
def test_missing_event_counts_once_with_its_first_attempt(event: str, statuses: list[int | None]) -> None:
    comparison = compare(event, log(*enumerate(statuses)), [])
    assert (comparison.matched, missing(comparison)) == (0, [0])


@EITHER
def test_each_2xx_without_a_stored_delivery_is_missing(event: str) -> None:
    comparison = compare(event, log((0, 200), (1, 503), (2, 200), (3, 204)), stored(0))
    assert (comparison.matched, missing(comparison)) == (1, [1, 3])


@EITHER
def test_lost_answers_confirm_all_tries_and_miss_none(event: str) -> None:
    comparison = compare(event, log((0, None), (1, None), (2, 200)), stored(0, 1, 2))
    assert (comparison.matched, comparison.missing, comparison.confirmed) == (1, [], [100, 101, 102])


@EITHER
def test_pushes_beyond_the_number_of_attempts_are_unconfirmed(event: str) -> None:
    assert compare(event, log((0, 200)), stored(0, 1, 2)).confirmed == [100]
    assert compare(event, log((0, 200)), [*stored(0, confirmed=True), ComparedDelivery(7, NOON + HOUR)]).confirmed == []


def test_recovered_delivery_does_not_use_up_confirmations() -> None:
    both = [*stored(0, from_log=True, confirmed=True), ComparedDelivery(7, NOON + HOUR)]
    assert compare(CLEARED, log((0, 503), (1, 200)), both).confirmed == [7]


def test_card_holder_failure_after_a_2xx_is_another_event() -> None:
    comparison = compare(CREATED, log((0, 200), (2, 503), (3, None)), stored(0))
    assert (comparison.matched, missing(comparison)) == (1, [2])
    assert missing(compare(CREATED, log((0, 200), (2, None)), stored(0, 2))) == []


def test_lost_answer_does_not_hide_a_missing_card_holder_event() -> None:
    assert missing(compare(CREATED, log((0, None), (1, 200), (3, 503)), stored(0, 1))) == [3]


def test_recovered_events_are_not_missing_after_a_failure() -> None:
    moment = SECOND / HOUR / 25
    attempts = log((0, 200), (moment, 503), (moment, 503))
    arrived = [ComparedDelivery(1, NOON + SECOND / 40)]
    (first,) = compare(CREATED, attempts, arrived).missing
    recovered = ComparedDelivery(2, first.at or NOON, from_log=True)
    assert compare(CREATED, attempts, [*arrived, recovered]).missing == []


def test_other_failures_within_a_day_of_a_2xx_are_duplicates() -> None:
    assert missing(compare(CLEARED, log((0, 200), (2, 503)), stored(0))) == []
    assert missing(compare(CLEARED, log((0, 200), (23, 503), (26, 503)), stored(0))) == []
    assert missing(compare(CLEARED, log((0, 200), (25, 503), (26, 503)), stored(0))) == [25]
    assert missing(compare(CLEARED, log((0, None), (1, 200), (30, 503)), stored(0, 1))) == [30]


def test_tries_over_several_days_are_one_event() -> None:
    assert missing(compare(CLEARED, log((0, 503), (30, 503), (60, 503)), [])) == [0]
    assert missing(compare(CLEARED, log((0, 503), (30, 503), (60, 200)), stored(60))) == []


def test_accepted_attempt_is_last_of_simultaneous_ones() -> None:
    assert missing(compare(CREATED, log((0, 200), (0, 503), (0, None)), stored(0))) == []


def test_attempts_without_times_are_compared_by_number() -> None:
    attempts = [
        LogAttempt(1, None, accepted=True),
        LogAttempt(2, None, accepted=False),
        LogAttempt(3, None, accepted=True),
    ]
    assert len(compare(CREATED, attempts, []).missing) == 2
    assert len(compare(CREATED, attempts, stored(0)).missing) == 1
    assert len(compare(CREATED, attempts, stored(0, 1)).missing) == 0


def test_clock_offset_makes_no_stored_event_missing() -> None:
    for skew in (-10 * SECOND, 10 * SECOND):
        attempts = log((0, 200), (0.001, 200))
        there = [ComparedDelivery(n, (attempt.at or NOON) + skew) for n, attempt in enumerate(attempts)]
        assert compare(CLEARED, attempts, there).missing == []
        assert compare(CREATED, attempts, there).missing == []


events = st.sampled_from([CLEARED, CREATED])
attempts_of_one_event = st.lists(
    st.tuples(st.integers(0, 200), st.sampled_from([200, 503, None]), st.booleans()), min_size=1, max_size=12
)


@given(
    event=events,
    entries=attempts_of_one_event,
    order=st.randoms(use_true_random=False),
    timeless=st.booleans(),
    unit=st.sampled_from([HOUR / 4, SECOND, SECOND / 100]),
    latency=st.sampled_from([SECOND, SECOND / 50]),
)
def test_second_comparison_after_recovery_finds_nothing(
    event: str,
    entries: list[tuple[int, int | None, bool]],
    order: st.DataObject,
    timeless: bool,  # noqa: FBT001
    unit: timedelta,
    latency: timedelta,
) -> None:
    attempts = [
        LogAttempt(n, None if timeless else NOON + place * unit, status == 200)
        for n, (place, status, _) in enumerate(entries)
    ]
    there = [
        ComparedDelivery(n, NOON + place * unit + latency)
        for n, (place, status, kept) in enumerate(entries)
        if kept and status != 503
    ]
    comparison = compare(event, attempts, there)
    accepted = sum(attempt.accepted for attempt in attempts)
    assert comparison.matched >= 0
    assert len({attempt.number for attempt in comparison.missing}) == len(comparison.missing)
    assert comparison.matched + len(comparison.missing) >= max(1, accepted)
    assert len(there) + len(comparison.missing) >= max(1, accepted)
    assert set(comparison.confirmed) <= {each.id for each in there}
    assert len(comparison.confirmed) == min(len(there), len(attempts))

    shuffled = list(attempts)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    other = compare(event, shuffled, there[::-1])
    assert Counter(each.at for each in other.missing) == Counter(each.at for each in comparison.missing)
    assert (other.matched, sorted(other.confirmed)) == (comparison.matched, sorted(comparison.confirmed))

    recovered = [
        ComparedDelivery(1000 + n, attempt.at or NOON + 1000 * HOUR, from_log=True, confirmed=True)
        for n, attempt in enumerate(comparison.missing)
    ]
    backdated = dict(comparison.backdated)
    proven = [
        ComparedDelivery(
            each.id, backdated.get(each.id, each.at), confirmed=each.id in comparison.confirmed, arrived=each.at
        )
        for each in there
    ]
    again = compare(event, attempts, [*proven, *recovered])
    assert (again.missing, again.confirmed) == ([], [])
    assert again.matched == comparison.matched + len(comparison.missing)


deliveries = st.builds(
    ComparedDelivery,
    st.just(100),
    st.datetimes(timezones=st.just(UTC)),
    st.booleans(),
    st.booleans(),
    st.none() | st.datetimes(timezones=st.just(UTC)),
)


@given(
    event=events,
    attempt=st.builds(LogAttempt, st.just(1), st.none() | st.datetimes(timezones=st.just(UTC)), st.booleans()),
    there=st.lists(deliveries, max_size=1),
)
def test_times_decide_nothing_where_each_is_there_once(
    event: str, attempt: LogAttempt, there: list[ComparedDelivery]
) -> None:
    """So reconciling compares these in one statement, without these rules."""
    confirmed = [each.id for each in there if not (each.from_log or each.confirmed)]
    expected = Comparison(1, confirmed=confirmed) if there else Comparison(missing=[attempt])
    assert compare(event, [attempt], there) == expected


@given(event=events, entries=st.lists(st.tuples(st.integers(0, 90), st.booleans()), min_size=1, max_size=8))
def test_deleted_deliveries_are_missing(event: str, entries: list[tuple[int, bool]]) -> None:
    """Every attempt was accepted; some of the deliveries were deleted."""
    attempts = log(*((hour, 200) for hour, _ in entries))
    left = stored(*(hour for hour, kept in entries if kept))
    assert len(compare(event, attempts, left).missing) == len(attempts) - len(left)


def test_attempt_without_payload_matches_nearest_delivery() -> None:
    comparison = compare_without_payload(log((0, 200), (2, 200)), stored(0, 2, 2.01))
    assert (comparison.matched, comparison.confirmed, comparison.unrecoverable) == (2, [100, 101], [])


def test_each_unmatched_2xx_without_payload_is_unrecoverable() -> None:
    attempts = log((0, 200), (2, 200), (3, 200))
    assert compare_without_payload(attempts, stored(0)).unrecoverable == attempts[1:]
    assert compare_without_payload(attempts, stored(0.5)).unrecoverable == attempts


def test_failures_without_payload_count_once_unless_closed_later() -> None:
    assert compare_without_payload(log((0, 503), (1, None), (2, 200)), stored(2)).unrecoverable == []
    assert compare_without_payload(log((0, 503), (1, None)), stored(1)).unrecoverable == []
    failed = log((0, 503), (1, None), (2, 500))
    assert compare_without_payload(failed, []).unrecoverable == failed[:1]
    after = log((0, 200), (1, 503), (2, 503))
    assert compare_without_payload(after, stored(0)).unrecoverable == after[1:2]


def test_attempts_without_payload_and_time_match_by_number() -> None:
    attempts = [LogAttempt(n, None, accepted=True) for n in range(3)]
    comparison = compare_without_payload(attempts, stored(0, 5))
    assert (comparison.matched, len(comparison.unrecoverable)) == (2, 1)


@given(
    entries=st.lists(st.tuples(st.integers(0, 40), st.sampled_from([200, 503, None])), max_size=10),
    hours=st.lists(st.integers(0, 40), max_size=10),
)
def test_comparison_without_payloads_is_repeatable(entries: list[tuple[int, int | None]], hours: list[int]) -> None:
    attempts = log(*entries)
    there = stored(*hours)
    comparison = compare_without_payload(attempts, there)
    assert comparison.missing == []
    assert comparison.matched == len(set(comparison.confirmed)) <= min(len(attempts), len(there))
    assert comparison.matched + len(comparison.unrecoverable) <= len(attempts)
    backdated = dict(comparison.backdated)
    proven = [
        ComparedDelivery(
            each.id, backdated.get(each.id, each.at), confirmed=each.id in comparison.confirmed, arrived=each.at
        )
        for each in there
    ]
    again = compare_without_payload(attempts[::-1], proven)
    assert (again.matched, again.unrecoverable, again.confirmed) == (comparison.matched, comparison.unrecoverable, [])


def test_fingerprint_ignores_spelling_but_not_the_name() -> None:
    one = event_fingerprint("environmental.impact.deedster", b'{"a": 45, "b": [1.50, null]}', "acme")
    assert event_fingerprint("environmental_impact.deedster", b'{"b":[1.5,null],"a":45.0}', "acme") == one
    assert event_fingerprint("environmental.impact.aland_index", b'{"a": 45, "b": [1.50, null]}', "acme") != one


def test_fingerprint_has_the_organization_if_payload_lacks_it() -> None:
    for event, differ in (("invoice.created", True), ("card_holder.created", False)):
        assert (event_fingerprint(event, b"{}", "acme") != event_fingerprint(event, b"{}", "globex")) == differ


def test_fingerprint_of_invalid_json_is_of_its_bytes() -> None:
    assert event_fingerprint("e", b"{broken", "acme") == event_fingerprint("e", b"{broken", "acme")
    others = [("e", b"{broken"), ("f", b"{broken"), ("e", b"{broken ")]
    assert len({event_fingerprint(*other, "acme") for other in others}) == 3


def test_retried_delivery_gets_the_time_of_its_first_attempt() -> None:
    comparison = compare(CLEARED, log((0, 503), (1, None), (2, 200)), stored(2))
    assert comparison.backdated == [(100, NOON + SECOND)]


@pytest.mark.parametrize(
    "deliveries",
    [stored(0), stored(2, from_log=True), [ComparedDelivery(100, NOON, arrived=NOON + 2 * HOUR)], []],
    ids=["it came by the first", "recovered", "dated before", "none"],
)
def test_delivery_without_retries_keeps_its_time(deliveries: list[ComparedDelivery]) -> None:
    assert compare(CLEARED, log((0, None), (1, 503), (2, 200)), deliveries).backdated == []


def test_all_deliveries_of_an_occurrence_have_its_first_time() -> None:
    assert compare(CLEARED, log((0, None), (1, 503), (2, 200)), stored(0, 2)).backdated == [(101, stored(0)[0].at)]
    recovered = [ComparedDelivery(100, NOON, from_log=True), ComparedDelivery(101, NOON + 120 * SECOND)]
    assert compare(CLEARED, log((0, 503), (120, 200)), recovered).backdated == [(101, NOON)]


def test_without_times_nothing_is_dated() -> None:
    attempts = [LogAttempt(0, None, accepted=False), LogAttempt(1, None, accepted=True)]
    assert compare(CLEARED, attempts, stored(1)).backdated == []


def test_attempts_that_are_close_do_not_date_the_first_delivery() -> None:
    close = [LogAttempt(number, NOON + number * SECOND / 20, accepted=number == 2) for number in range(3)]
    arrived = [ComparedDelivery(100 + number, NOON + (number + 1) * SECOND / 20) for number in range(2)]
    assert compare(CLEARED, close, arrived[:1]).backdated == []
    assert compare(CLEARED, close, arrived).backdated == [(101, arrived[0].at)]

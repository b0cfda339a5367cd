"""When webhooks are due for reconcile: once in each interval, spread over it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.reconcile.due import DAY, LOOK_BACK, is_due, latest_slot, read_since

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
TICK = timedelta(seconds=5)

ids = st.integers(min_value=1, max_value=2**63 - 1)
intervals = st.integers(min_value=5, max_value=2 * 86400).map(lambda seconds: timedelta(seconds=seconds))
moments = st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@dataclass
class DueWebhook:
    """A webhook whose runs take no time and succeed."""

    id: int
    interval: timedelta
    runs: list[datetime] = field(default_factory=list)
    looks_back: list[datetime] = field(default_factory=list)

    def tick(self, now: datetime) -> None:
        last = self.runs[-1] if self.runs else None
        if not is_due(self.id, now=now, last_start=last, interval=self.interval):
            return
        looked_back = self.looks_back[-1] if self.looks_back else None
        since = read_since(self.id, now=now, checked_until=last, last_look_back=looked_back)
        self.runs.append(now)
        if last is None or since is not None:
            assert since in {None, now - LOOK_BACK}
            self.looks_back.append(now)

    def live(self, start: datetime, end: datetime, tick: timedelta = TICK) -> None:
        now = start
        while now <= end:
            self.tick(now)
            now += tick


@given(ids, moments, st.integers(5, 600), st.integers(2, 30))
@settings(deadline=None)
def test_each_webhook_runs_once_in_every_interval(webhook_id: int, start: datetime, seconds: int, tick: int) -> None:
    interval, every = timedelta(seconds=seconds), timedelta(seconds=tick)
    end = start + 6 * max(interval, every)
    webhook = DueWebhook(webhook_id, interval)
    webhook.live(start, end, every)
    starts = [*webhook.runs, end]
    assert all(later - earlier <= interval + every for earlier, later in pairwise(starts))
    assert len(webhook.runs) <= (end - start) / interval + 2, "and hardly more often"


@given(ids, moments, st.integers(5, 60))
@settings(deadline=None, max_examples=20)
def test_each_webhook_looks_back_once_a_day(webhook_id: int, start: datetime, minutes: int) -> None:
    days, hour, tick = 8, timedelta(hours=1), timedelta(minutes=minutes)
    webhook = DueWebhook(webhook_id, hour)
    webhook.live(start, start + days * DAY, tick)
    assert days <= len(webhook.looks_back) <= days + 2
    assert all(later - earlier <= DAY + hour + tick for earlier, later in pairwise(webhook.looks_back))


@given(st.integers(1, 2**62), moments, st.integers(60, 600))
@settings(deadline=None, max_examples=10)
def test_runs_are_spread_over_the_interval(first: int, start: datetime, seconds: int) -> None:
    interval, number = timedelta(seconds=seconds), 200
    webhooks = [DueWebhook(first + place, interval) for place in range(number)]
    for webhook in webhooks:
        webhook.live(start, start + 3 * interval)
    steady = Counter(at for webhook in webhooks for at in webhook.runs if at > start + interval + TICK)
    even = number * TICK / interval
    assert max(steady.values()) <= 2 * even + 4, "about as many as would lie on it if they lay evenly"


@given(st.integers(1, 2**62), moments)
@settings(deadline=None, max_examples=20)
def test_look_backs_are_spread_over_the_day(first: int, now: datetime) -> None:
    parts = Counter((now - latest_slot(first + place, DAY, now)) // timedelta(minutes=15) for place in range(200))
    assert max(parts.values()) <= 2 * 200 / 96 + 4


@given(ids, moments, intervals, st.integers(0, 10**7))
def test_webhook_missed_in_an_outage_is_due_at_once(
    webhook_id: int, now: datetime, interval: timedelta, seconds: int
) -> None:
    before = now - interval - timedelta(seconds=seconds, microseconds=1)
    assert is_due(webhook_id, now=now, last_start=before, interval=interval)


@given(ids, moments, intervals)
def test_webhook_without_runs_is_due_at_once(webhook_id: int, now: datetime, interval: timedelta) -> None:
    assert is_due(webhook_id, now=now, last_start=None, interval=interval)


@given(ids, moments, intervals)
def test_webhook_that_has_just_run_is_not_due(webhook_id: int, now: datetime, interval: timedelta) -> None:
    assert not is_due(webhook_id, now=now, last_start=now, interval=interval)


@given(ids, moments, st.none() | st.timedeltas(timedelta(), timedelta(days=30)), st.none() | st.timedeltas(timedelta()))
def test_run_reads_from_the_checked_time_or_earlier(
    webhook_id: int, now: datetime, unchecked: timedelta | None, since_look_back: timedelta | None
) -> None:
    checked_until = None if unchecked is None else now - unchecked
    last = None if since_look_back is None or since_look_back > 20 * 365 * DAY else now - since_look_back
    since = read_since(webhook_id, now=now, checked_until=checked_until, last_look_back=last)
    assert since is None or (checked_until is not None and since == now - LOOK_BACK < checked_until)


@given(ids, moments, intervals, st.integers(0, 2**40))
def test_each_period_has_one_slot_for_a_webhook(
    webhook_id: int, now: datetime, period: timedelta, microseconds: int
) -> None:
    moment = latest_slot(webhook_id, period, now)
    assert timedelta() <= now - moment < period
    assert (
        latest_slot(webhook_id, period, now + timedelta(microseconds=microseconds)) - moment
    ) % period == timedelta()


def test_runs_are_spread_again_after_an_outage() -> None:
    interval = timedelta(minutes=5)
    webhooks = [DueWebhook(number, interval) for number in range(1, 201)]
    for webhook in webhooks:
        webhook.live(START, START + timedelta(minutes=20))
        webhook.live(START + timedelta(hours=3), START + timedelta(hours=3, minutes=20))
    back = START + timedelta(hours=3)
    at = Counter(start for webhook in webhooks for start in webhook.runs if start >= back)
    assert at[back] == 200
    assert max(number for start, number in at.items() if start > back + interval) <= 10

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from receiver.files.retry_schedule import BEFORE_THE_END, JITTER, MAX_WITHOUT_EXPIRY, PAUSES, next_attempt

NOW = datetime(2026, 2, 20, 8, 15, tzinfo=UTC)
CHANCES = st.floats(0, 1)
SPANS = st.timedeltas(min_value=timedelta(days=-2), max_value=timedelta(days=30))


def test_pauses_grow_and_the_last_is_repeated() -> None:
    pauses = []
    for failed in range(1, len(PAUSES) + 3):
        at = next_attempt(failed, now=NOW, expires_at=None, chance=0)
        assert at is not None
        pauses.append(at - NOW)
    assert pauses == [*PAUSES, PAUSES[-1], PAUSES[-1]]


@given(st.integers(1, 1000), SPANS, CHANCES)
def test_tries_continue_until_just_after_expiry(failed: int, left: timedelta, chance: float) -> None:
    at = next_attempt(failed, now=NOW, expires_at=NOW + left, chance=chance)
    if left <= timedelta():
        assert at is None
    else:
        assert at is not None
        assert NOW < at <= NOW + PAUSES[-1] * (1 + JITTER)
        if left > BEFORE_THE_END:
            assert at <= NOW + left - BEFORE_THE_END


@given(SPANS.filter(lambda left: left > timedelta()), CHANCES)
def test_downloads_are_abandoned_after_a_limited_number_of_tries(left: timedelta, chance: float) -> None:
    expires_at, now, failed = NOW + left, NOW, 0
    while True:
        failed += 1
        at = next_attempt(failed, now=now, expires_at=expires_at, chance=chance)
        if at is None:
            break
        assert at > now
        now = at
    assert now >= expires_at
    assert failed < 10 + 2 * (left / PAUSES[-1])


def test_url_without_expiry_is_given_up_as_well() -> None:
    assert next_attempt(MAX_WITHOUT_EXPIRY, now=NOW, expires_at=None, chance=0) is None
    assert next_attempt(MAX_WITHOUT_EXPIRY - 1, now=NOW, expires_at=None, chance=0) is not None


def test_a_wish_to_be_asked_later_is_granted_within_reason() -> None:
    def pause(retry_after: float, **options: datetime) -> timedelta:
        at = next_attempt(1, now=NOW, expires_at=options.get("expires_at"), chance=0, retry_after=retry_after)
        assert at is not None
        return at - NOW

    assert pause(600) == timedelta(minutes=10)
    assert pause(1) == PAUSES[0]
    assert pause(10**9) == PAUSES[-1]
    assert pause(3600, expires_at=NOW + timedelta(minutes=30)) == timedelta(minutes=29)

from __future__ import annotations

import dataclasses
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.sandbox.faults import Faults, Sending, schedule
from receiver.sandbox.story import Story, StoryEvent, make_story

STORY = make_story(seed=7, organizations=["org-1", "org-2"], purchases=60)

shares = st.floats(min_value=0, max_value=1)
hours = st.floats(min_value=0, max_value=2000)
any_faults = st.builds(
    Faults, duplicates=shares, disorder=shares, lost_answers=shares, bursts=shares, lost=shares, outage=hours
)


def events_of_card_holders(sendings: list[Sending]) -> dict[tuple[str, str], list[str]]:
    """Return what each card holder's events look like to a receiver that takes a repetition for a retry."""
    lives: dict[tuple[str, str], list[str]] = {}
    for sending in sendings:
        if sending.sent.card_holder:
            life = lives.setdefault(sending.sent.card_holder, [])
            if life[-1:] != [sending.sent.event]:
                life.append(sending.sent.event)
    return lives


@given(any_faults, st.integers())
@settings(deadline=None)
def test_schedule_has_exactly_the_events_of_the_story(faults: Faults, seed: int) -> None:
    sendings = schedule(STORY.events, faults, seed)
    first = Counter(sending.sent for sending in sendings if not sending.duplicate)
    assert first == Counter(STORY.events)
    assert {sending.sent for sending in sendings} == set(STORY.events)


@given(any_faults, st.integers())
@settings(deadline=None)
def test_card_holder_events_and_duplicates_keep_their_order(faults: Faults, seed: int) -> None:
    assert events_of_card_holders(schedule(STORY.events, faults, seed)) == events_of_card_holders(
        schedule(STORY.events, Faults(), 0)
    )


@given(any_faults, st.integers())
@settings(deadline=None)
def test_a_sending_is_never_due_before_the_one_in_front_of_it(faults: Faults, seed: int) -> None:
    due = [sending.at for sending in schedule(STORY.events, faults, seed)]
    assert due == sorted(due)


@given(any_faults, st.integers())
@settings(deadline=None)
def test_faults_do_not_change_what_must_come_of_a_story(faults: Faults, seed: int) -> None:
    taken: dict[StoryEvent, None] = dict.fromkeys(sending.sent for sending in schedule(STORY.events, faults, seed))
    assert Story(tuple(taken)).expected_transactions() == STORY.expected_transactions()
    assert Story(tuple(taken)).expected_rows() == STORY.expected_rows()


def test_the_same_seed_gives_the_same_schedule() -> None:
    faults = Faults(duplicates=0.2, disorder=0.3, lost_answers=0.1, bursts=0.4)
    assert schedule(STORY.events, faults, 3) == schedule(STORY.events, faults, 3)
    assert schedule(STORY.events, faults, 3) != schedule(STORY.events, faults, 4)


def test_without_faults_the_story_is_sent_in_order() -> None:
    assert schedule(STORY.events, Faults(), 5) == [Sending(sent, sent.at) for sent in STORY.events]
    assert schedule([], Faults(1, 1, 1, 1), 5) == []


def test_disorder_brings_later_states_before_earlier_ones() -> None:
    def backward(faults: Faults) -> int:
        order = {sent: index for index, sent in enumerate(STORY.events)}
        places = [order[sending.sent] for sending in schedule(STORY.events, faults, 1)]
        return sum(later < earlier for earlier, later in pairwise(places))

    assert backward(Faults()) == 0
    assert backward(Faults(disorder=0.3)) > len(STORY.events) / 20


@pytest.mark.parametrize("fault", ["duplicates", "lost_answers", "bursts"])
@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_is_about_what_was_asked_for(fault: str, share: float) -> None:
    sendings = [sending for seed in range(40) for sending in schedule(STORY.events, Faults(**{fault: share}), seed)]
    flag = {"duplicates": "duplicate", "lost_answers": "lose_answer", "bursts": "burst"}[fault]
    flagged = sum(getattr(sending, flag) for sending in sendings)
    of = 40 * len(STORY.events) if fault == "duplicates" else len(sendings)
    assert flagged / of == pytest.approx(share, abs=0.05)


def test_a_burst_is_due_at_one_moment() -> None:
    sendings = schedule(STORY.events, Faults(bursts=1), 1)
    assert all(sending.burst for sending in sendings)
    assert len({sending.at for sending in sendings}) <= len(sendings) / 5 + 1


@given(any_faults, st.integers())
@settings(deadline=None)
def test_losses_and_an_outage_change_nothing_but_fates(faults: Faults, seed: int) -> None:
    without = dataclasses.replace(faults, lost=0, outage=0)
    fates_left_out = [dataclasses.replace(one, loss=None) for one in schedule(STORY.events, faults, seed)]
    assert fates_left_out == schedule(STORY.events, without, seed)


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_lost_share_includes_duplicates(share: float) -> None:
    lost = 0
    for seed in range(20):
        sendings = schedule(STORY.events, Faults(lost=share, duplicates=0.5), seed)
        lost_events = {sending.sent for sending in sendings if sending.loss == "lost"}
        assert not lost_events & {sending.sent for sending in sendings if sending.loss is None}
        lost += len(lost_events)
    assert lost / (20 * len(STORY.events)) == pytest.approx(share, abs=0.03)


@given(any_faults, st.integers())
@settings(deadline=None)
def test_outage_affects_one_continuous_period(faults: Faults, seed: int) -> None:
    sendings = schedule(STORY.events, faults, seed)
    due = [sending.at for sending in sendings if sending.loss == "outage"]
    if not due:
        assert faults.outage < 1 / 3600
        return
    assert faults.outage > 0
    assert max(due) - min(due) < timedelta(hours=faults.outage)
    assert all(sending.loss == "outage" for sending in sendings if min(due) <= sending.at <= max(due))


def test_another_seed_has_its_outage_at_another_time() -> None:
    def first_due(seed: int) -> timedelta:
        return min(sending.at for sending in schedule(STORY.events, Faults(outage=6), seed) if sending.loss == "outage")

    assert len({first_due(seed) for seed in range(10)}) > 5


@pytest.mark.parametrize("hours", [-1, float("nan"), float("inf"), 10_001])
def test_an_impossible_outage_is_refused_by_name(hours: float) -> None:
    with pytest.raises(ValueError, match="outage"):
        Faults(outage=hours)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Faults) if field.name != "outage"])
@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_zero_to_one_is_refused_by_name(name: str, share: float) -> None:
    wrong: dict[str, Any] = {name: share}
    with pytest.raises(ValueError, match=name):
        Faults(**wrong)

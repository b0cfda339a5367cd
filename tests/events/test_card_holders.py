"""Card-holder events carry no time and no content: they are valued by what stands beside them in time."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from receiver.events.card_holder_history import Mention, card_holder_times, newly_events, runs
from receiver.events.claim import Backlog
from receiver.events.registry import load_handlers
from receiver.events.retries import new_by_sequence
from receiver.events.parse import parse
from tests.events.steps import NOON, feed, occurred
from tests.factories import card_holder

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tests.conftest import Acme, Organizations


def test_created_deleted_created_is_three_events_and_the_deletion_is_taken_back(acme: Acme) -> None:
    for event in ("created", "deleted", "created"):
        acme.tell(f"card_holder.{event}", card_holder())
    assert feed(acme) == ["card_holder.created", "card_holder.deleted", "card_holder.created"]
    row = acme.row("SELECT created_at, deleted_at FROM ems.card_holders")
    assert row["deleted_at"] is None
    assert row["created_at"] == acme.value("SELECT max(occurred_at) FROM receiver.deliveries")


def test_the_latest_card_holder_event_again_is_a_retry(acme: Acme) -> None:
    for event in ("created", "created", "deleted", "deleted"):
        acme.tell(f"card_holder.{event}", card_holder())
    assert acme.statuses() == ["processed", "duplicate", "processed", "duplicate"]
    assert acme.value("SELECT deleted_at IS NOT NULL FROM ems.card_holders")


def test_in_one_batch_card_holder_events_count_as_one_after_the_other(acme: Acme) -> None:
    for event in ("created", "created", "deleted", "created"):
        acme.take(f"card_holder.{event}", card_holder())
    acme.process()
    assert acme.statuses() == ["processed", "duplicate", "processed", "processed"]
    assert acme.value("SELECT deleted_at FROM ems.card_holders") is None


def test_an_event_found_late_between_two_equal_ones_makes_the_second_an_event(acme: Acme) -> None:
    acme.take("card_holder.created", card_holder())
    acme.take("card_holder.created", card_holder())
    occurred(acme, 1, NOON)
    occurred(acme, 2, NOON + timedelta(hours=2))
    acme.process()
    assert acme.statuses() == ["processed", "duplicate"]
    acme.take("card_holder.deleted", card_holder())
    occurred(acme, 3, NOON + timedelta(hours=1))
    acme.process()
    assert acme.statuses() == ["processed"] * 3
    assert sorted(feed(acme)) == ["card_holder.created", "card_holder.created", "card_holder.deleted"]
    row = acme.row("SELECT created_at, deleted_at FROM ems.card_holders")
    assert row == {"created_at": NOON + timedelta(hours=2), "deleted_at": None}


def test_card_holders_of_two_organizations_with_one_reference_are_two_people(organizations: Organizations) -> None:
    acme, other = organizations.adopt("acme"), organizations.adopt("globex")
    acme.tell("card_holder.created", card_holder())
    other.tell("card_holder.created", card_holder(organization="globex"))
    assert acme.statuses() == ["processed", "processed"]
    assert acme.value("SELECT count(*) FROM ems.card_holders") == 2


def test_a_card_holders_history_grows_one_event_at_a_time(acme: Acme, engine: Engine) -> None:
    for name in ("card_holder.created", "card_holder.deleted"):
        acme.take(name, card_holder())
    with engine.begin() as one, engine.begin() as other:
        created, deleted = (understand(delivery, load_handlers()) for delivery in Backlog().claim(one, 2))
        assert new_by_sequence(one, [created]) == ({created.delivery_id}, [])
        other.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")
        with pytest.raises(OperationalError):
            new_by_sequence(other, [deleted])
        other.rollback()
        one.rollback()


mentions = st.lists(
    st.builds(
        Mention,
        delivery_id=st.integers(1, 10**6),
        name=st.sampled_from(["card_holder.created", "card_holder.deleted", "card_holder.identified"]),
        occurred_at=st.integers(0, 30).map(lambda minutes: NOON + timedelta(minutes=minutes)),
        counted=st.just(value=False),
    ),
    unique_by=lambda mention: mention.delivery_id,
    min_size=1,
)


@given(mentions, st.randoms())
def test_a_history_does_not_depend_on_the_order_in_which_it_is_read(told: list[Mention], rng: object) -> None:
    shuffled = list(told)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert runs(shuffled) == runs(told)
    assert card_holder_times(shuffled) == card_holder_times(told)


@given(mentions)
def test_each_run_of_equal_mentions_is_one_event_and_neighbours_differ(told: list[Mention]) -> None:
    names = [run[0].name for run in runs(told)]
    assert len(newly_events(told)) == len(names)
    assert all(one != other for one, other in itertools.pairwise(names))


@given(mentions, st.data())
def test_counting_the_mentions_as_they_arrive_counts_each_run_once(told: list[Mention], data: st.DataObject) -> None:
    arrived: list[Mention] = []
    for mention in data.draw(st.permutations(told)):
        arrived.append(mention)
        chosen = newly_events(arrived)
        arrived = [
            Mention(one.delivery_id, one.name, one.occurred_at, counted=one.counted or one.delivery_id in chosen)
            for one in arrived
        ]
    for run in runs(arrived):
        assert any(mention.counted for mention in run)

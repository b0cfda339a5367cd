"""The verdict finds whatever differs between the tables and what OpenCard sent, and names it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.sandbox.provider.rewrite_json import rewrite_json
from receiver.sandbox.story import Story, make_story
from receiver.sandbox.story_events import StoryEvent, comparable, read, write
from receiver.sandbox.verdict import SHOWN, differences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.conftest import Acme

STORY = make_story(seed=4, organizations=["acme"], purchases=12)


def take_in(acme: Acme, sent: Sequence[StoryEvent]) -> None:
    for one in sent:
        acme.deliver_ok(one.event, one.payload)
    acme.process()


def verdict(acme: Acme, story: Story = STORY) -> list[str]:
    with acme.engine.connect() as connection:
        return differences(connection, story)


def first_of(event: str) -> StoryEvent:
    return next(sent for sent in STORY.events if sent.event == event)


def about(lines: list[str], words: str) -> list[str]:
    return [line for line in lines if words in line]


def test_nothing_differs_when_everything_was_taken_in(acme: Acme) -> None:
    take_in(acme, STORY.events)
    assert verdict(acme) == []


def test_an_event_is_the_same_in_another_hand(acme: Acme) -> None:
    take_in(acme, STORY.events)
    rng = Random(1)  # noqa: S311 - to be the same again
    for row in acme.rows("SELECT position, payload::text AS payload FROM ems.events"):
        rewritten = rewrite_json(read(row["payload"].encode()), rng)
        acme.execute(
            "UPDATE ems.events SET payload = CAST(:rewritten AS jsonb) WHERE position = :position",
            rewritten=rewritten,
            position=row["position"],
        )
    assert verdict(acme) == []


@pytest.mark.parametrize("event", ["receipt.fetched", "card.transaction.authorized", "card_holder.email.delivered"])
def test_an_event_that_never_came_is_named(acme: Acme, event: str) -> None:
    left_out = first_of(event)
    take_in(acme, [sent for sent in STORY.events if sent is not left_out])
    wrong = verdict(acme)
    [line] = about(wrong, "missing")
    assert f"{event} of organization acme" in line
    fields = read(left_out.payload)
    subject = fields.get("id") or fields.get("transaction", {}).get("id") or fields["card_holder"]["reference_id"]
    assert subject in line
    assert about(wrong, "too many") == []
    assert f"ems.events: {len(STORY.events) - 1} rows, {len(STORY.events)} expected" in wrong


def test_replaced_event_is_a_difference_despite_equal_counts(acme: Acme) -> None:
    original = first_of("receipt.fetched")
    fields = read(original.payload)
    other = replace(original, payload=write({**fields, "original_amount": fields["original_amount"] + Decimal("0.01")}))
    take_in(acme, [other if sent is original else sent for sent in STORY.events])
    missing, excess = verdict(acme)
    assert missing.startswith("ems.events: missing receipt.fetched of organization acme, transaction ")
    assert excess.startswith("ems.events: too many of receipt.fetched of organization acme, transaction ")
    assert ", processed, received " in excess, "every delivery about it is named"


def test_an_event_that_is_in_the_feed_twice_is_named(acme: Acme) -> None:
    take_in(acme, STORY.events)
    acme.execute(
        "INSERT INTO ems.events"
        " (type, organization_reference_id, subject_id, occurred_at, source, delivery_id, payload) "
        "SELECT type, organization_reference_id, subject_id, occurred_at, source, -1, payload FROM ems.events "
        "WHERE type = 'tpa.signed'"
    )
    [count, excess] = verdict(acme)
    assert count == f"ems.events: {len(STORY.events) + 1} rows, {len(STORY.events)} expected"
    assert excess.startswith("ems.events: too many of tpa.signed of organization acme, id ")


def test_amounts_are_compared_exactly(acme: Acme) -> None:
    take_in(acme, STORY.events)
    acme.execute(
        "UPDATE ems.events SET payload = jsonb_set(payload, '{original_amount}', "
        "to_jsonb((payload->>'original_amount')::numeric + 0.00000000000000000001)) "
        "WHERE position = (SELECT min(position) FROM ems.events WHERE type = 'card.transaction.authorized')"
    )
    assert len(verdict(acme)) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("created_at = NULL WHERE created_at IS NOT NULL", "created_at is None, a time expected"),
        ("deleted_at = NULL WHERE deleted_at IS NOT NULL", "deleted_at is None, a time expected"),
        ("deleted_at = now() WHERE deleted_at IS NULL", "null expected"),
        ("reference_id = 'nobody' WHERE deleted_at IS NOT NULL", "nobody'): never reported"),
    ],
)
def test_card_holder_in_an_unexpected_state_is_named(acme: Acme, change: str, words: str) -> None:
    take_in(acme, STORY.events)
    acme.execute(f"UPDATE ems.card_holders SET {change}")  # noqa: S608 - the words above
    wrong = verdict(acme)
    assert about(wrong, words)
    assert all(line.startswith("card holder ('acme', ") for line in wrong)


def test_transaction_in_an_unexpected_state_is_named(acme: Acme) -> None:
    take_in(acme, STORY.events)
    acme.execute("UPDATE ems.transactions SET state = 'authorized' WHERE state = 'invoiced'")
    assert "state is 'authorized', 'invoiced' expected" in verdict(acme)[0]


def test_first_differences_are_listed_and_the_rest_counted(acme: Acme) -> None:
    missing = about(verdict(acme), "ems.events: missing")
    assert len(missing) == SHOWN
    assert f"... and {len(STORY.events) - SHOWN} more like these" in verdict(acme)


def test_creating_a_card_holder_again_undoes_the_deletion(acme: Acme) -> None:
    payload = write({"card_holder": {"reference_id": "e-1"}, "organization": {"reference_id": "acme"}})
    events = ("created", "identified", "deleted", "created")
    sent = [StoryEvent("acme", f"card_holder.{what}", payload, timedelta(hours=at)) for at, what in enumerate(events)]
    story = Story(tuple(sent))
    assert story.expected_card_holders()["acme", "e-1"] == {
        "created_at": True,
        "identified_at": True,
        "signed_pdpc_at": False,
        "email_delivered_at": False,
        "email_failed_at": False,
        "deleted_at": False,
    }
    take_in(acme, sent)
    assert verdict(acme, story) == []


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("45", "45.0", True),
        ('{"a":1,"b":2.50}', '{"b":2.5,"a":1.0}', True),
        ("0.1", "0.10000000000000000001", False),
        ("true", "1", False),
        ("false", "0", False),
        ('"45"', "45", False),
        ("[1,2]", "[2,1]", False),
        ("null", "{}", False),
        ("[]", "{}", False),
        ('{"a":null}', "{}", False),
    ],
)
def test_values_are_equal_when_json_says_the_same(one: str, other: str, equal: bool) -> None:  # noqa: FBT001
    assert (comparable(value(one)) == comparable(value(other))) is equal


def value(written: str) -> Any:
    return json.loads(written, parse_float=Decimal)


@given(st.sampled_from(STORY.events), st.integers())
def test_every_payload_of_a_story_equals_itself_in_any_hand(sent: StoryEvent, seed: int) -> None:
    fields = read(sent.payload)
    rewritten = rewrite_json(fields, Random(seed))  # noqa: S311 - likewise
    assert comparable(read(rewritten.encode())) == comparable(fields)

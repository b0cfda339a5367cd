"""What was lost on the way is brought in from OpenCard's log: over real HTTP, whatever goes wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.migrate import target_metadata
from receiver.processing.drain import drain
from receiver.sandbox.faults import Faults
from receiver.sandbox.provider import LogStyle
from receiver.sandbox.provider.state import State
from receiver.sandbox.story import Story, tell
from tests.support.factories import body, card_holder, enrichment, snapshot
from tests.support.log_styles import log_styles
from tests.support.reconcile_steps import (
    DAY,
    DELIVERIES,
    HOUR,
    MINUTE,
    THREE_TIMES,
    ago,
    deliver,
    differing,
    execute,
    feed,
    log,
    mend,
    reconcile,
    rows,
    store,
    tried,
    value,
)

if TYPE_CHECKING:
    from tests.support.world import World

EVERYTHING = Faults(duplicates=0.2, disorder=0.3, lost_answers=0.2, bursts=0.2, lost=0.2, outage=48)
STORY = tell(seed=5, organizations=["acme"], purchases=12)
TABLES = target_metadata().sorted_tables
CREATED = "card_holder.created"
DELETED = "card_holder.deleted"
CLEARED = "card.transaction.cleared"


def anew(world: World) -> None:
    """Empty the receiver and OpenCard, and register again."""
    execute(world, f"TRUNCATE {', '.join(table.fullname for table in TABLES)} CASCADE")
    world.provider.state = State()
    world.add_organizations("acme")
    assert world.bootstrap().failures == []


@pytest.mark.long
@given(style=log_styles, seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_after_one_reconcile_ems_holds_what_opencard_meant_to_say_in_every_spelling_of_its_log(
    acme: World, style: LogStyle, seed: int
) -> None:
    anew(acme)
    # within a second, whole seconds do not tell what came first, of a card holder's events
    acme.provider.behaviour.log_style = replace(style, microseconds=True)
    delivered = deliver(acme, STORY, EVERYTHING, seed=seed)
    (missed,) = delivered.missed.values()
    first = mend(acme)
    assert first.recovered >= len(missed)
    assert (differing(acme, STORY), first.unrecoverable, first.unconfirmed) == ([], 0, 0)
    second = mend(acme)
    assert (second.recovered, second.log_entries) == (0, first.log_entries)
    assert second.matched == first.matched + first.recovered
    assert differing(acme, STORY) == []
    # and once more though the log is spelled otherwise now
    acme.provider.behaviour.log_style = LogStyle(id_name="uuid" if style.id_name == "id" else "id", microseconds=True)
    assert mend(acme).recovered == 0
    assert value(acme, "SELECT count(*) FROM receiver.delivery_log") == first.log_entries


@pytest.mark.parametrize("seed", [1, 2])
def test_after_one_reconcile_nothing_is_missing_whatever_the_seed(acme: World, seed: int) -> None:
    delivered = deliver(acme, STORY, EVERYTHING, seed=seed)
    assert differing(acme, STORY)
    (missed,) = delivered.missed.values()
    outcome = mend(acme)
    assert (differing(acme, STORY), outcome.recovered >= len(missed) > 0) == ([], True)
    assert outcome.log_entries == delivered.tally.sent
    assert mend(acme).recovered == 0
    assert (
        rows(acme, "SELECT * FROM receiver.completeness WHERE hour > now() - interval '2 hours' AND NOT complete") == []
    )


def test_a_recovered_delivery_says_that_it_came_from_the_log(acme: World) -> None:
    at = ago(HOUR)
    log(acme, tried(CLEARED, snapshot("cleared"), None, 503, 503, at=at))
    outcome = mend(acme)
    assert (outcome.log_entries, outcome.matched, outcome.recovered) == (3, 0, 1)
    (delivery,) = rows(acme, "SELECT * FROM receiver.deliveries")
    assert (delivery["source"], delivery["verification"], delivery["version"]) == ("log", "delivery-log", None)
    assert (delivery["headers"], delivery["status"], delivery["occurred_at"]) == ({}, "processed", at)
    assert delivery["confirmed_at"] is not None
    assert delivery["received_at"] > at
    assert value(acme, "SELECT source FROM ems.events") == "log"


def test_the_oldest_of_what_is_missing_is_processed_first(acme: World) -> None:
    for minutes in (3, 9, 1, 6, 2, 8, 5, 4, 7):
        log(acme, tried(CREATED, card_holder(f"employee-{minutes}"), 503, at=ago(minutes * MINUTE)))
    reconcile(acme)
    times = [row["occurred_at"] for row in rows(acme, "SELECT occurred_at FROM receiver.deliveries ORDER BY id")]
    assert times == sorted(times)  # which is the order in which they are claimed, batch after batch
    assert drain(acme.engine)
    told = rows(acme, "SELECT card_holder_reference_id AS who FROM ems.events ORDER BY position")
    assert [row["who"] for row in told] == [f"employee-{minutes}" for minutes in range(9, 0, -1)]


def test_bytes_that_postgresql_refuses_as_text_come_back_as_they_are(acme: World) -> None:
    content = body(card_holder("employee\0seventeen"))
    assert b"\\u0000" in content
    log(acme, tried(CREATED, content, 503, at=ago(HOUR)))
    mend(acme)
    assert bytes(value(acme, "SELECT body FROM receiver.deliveries")) == content
    assert value(acme, "SELECT reference_id FROM ems.card_holders") == "employee\N{REPLACEMENT CHARACTER}seventeen"


def test_a_state_that_is_recovered_late_downgrades_nothing(acme: World) -> None:
    deliver_one(acme, "card.transaction.invoiced", snapshot("invoiced"))
    log(acme, tried(CLEARED, snapshot("cleared", card_issuer_reference="of-the-clearing"), 503, at=ago(HOUR)))
    mend(acme)
    (row,) = rows(acme, "SELECT state, cleared_card_issuer_reference, cleared_at FROM ems.transactions")
    assert (row["state"], row["cleared_card_issuer_reference"]) == ("invoiced", "of-the-clearing")
    assert row["cleared_at"] < ago(30 * MINUTE)
    assert feed(acme) == ["card.transaction.invoiced", CLEARED]


def test_an_older_set_of_lines_that_is_recovered_late_replaces_no_newer_one(acme: World) -> None:
    event = "transaction.line.items"
    newer = enrichment(event, line_items=[{"description": "new", "amount": 1}])
    older = enrichment(event, line_items=[{"description": "old", "amount": 2}, {"description": "older", "amount": 3}])
    deliver_one(acme, event, newer)
    log(acme, tried(event, older, 503, at=ago(HOUR)))
    mend(acme)
    assert [row["description"] for row in rows(acme, "SELECT description FROM ems.line_items")] == ["new"]


def test_an_event_that_was_lost_between_two_equal_ones_makes_the_later_one_an_event(acme: World) -> None:
    for minutes in (9, 3):
        store(acme, CREATED, card_holder(), at=ago(minutes * MINUTE))
        log(acme, tried(CREATED, card_holder(), 200, at=ago(minutes * MINUTE)))
    assert drain(acme.engine)
    assert feed(acme) == [CREATED]
    log(acme, tried(DELETED, card_holder(), 503, 503, at=ago(6 * MINUTE)))
    assert mend(acme).recovered == 1
    assert sorted(feed(acme)) == [CREATED, CREATED, DELETED]
    assert value(acme, "SELECT deleted_at FROM ems.card_holders") is None


def test_a_card_holder_who_is_created_again_in_vain_is_there_after_reconciling(acme: World) -> None:
    for event, minutes in ((CREATED, 9), (DELETED, 6)):
        store(acme, event, card_holder(), at=ago(minutes * MINUTE))
        log(acme, tried(event, card_holder(), 200, at=ago(minutes * MINUTE)))
    log(acme, tried(CREATED, card_holder(), 503, None, at=ago(3 * MINUTE)))
    assert drain(acme.engine)
    assert value(acme, "SELECT deleted_at FROM ems.card_holders") is not None
    assert mend(acme).recovered == 1
    assert value(acme, "SELECT deleted_at FROM ems.card_holders") is None
    assert feed(acme) == [CREATED, DELETED, CREATED]
    assert mend(acme).recovered == 0


def test_what_a_restored_backup_lacks_comes_back(acme: World) -> None:
    half = len(STORY.told) // 2
    deliver(acme, Story(STORY.told[:half]), Faults(duplicates=0.2))
    assert mend(acme).recovered == 0
    execute(acme, "CREATE SCHEMA backup")
    for table in TABLES:
        execute(acme, f"CREATE TABLE backup.{table.name} AS TABLE {table.fullname}")
    deliver(acme, Story(STORY.told[half:]), Faults(duplicates=0.2))
    everything = value(acme, "SELECT count(*) FROM receiver.deliveries")
    assert (differing(acme, STORY), mend(acme).recovered) == ([], 0)
    restore = [f"TRUNCATE {', '.join(table.fullname for table in TABLES)} CASCADE"]
    for table in TABLES:
        columns = ", ".join(column.name for column in table.columns if column.computed is None)
        kept = f"SELECT {columns} FROM backup.{table.name}"  # noqa: S608 - names come from the models
        restore.append(f"INSERT INTO {table.fullname} ({columns}) OVERRIDING SYSTEM VALUE {kept}")
    execute(acme, "; ".join([*restore, "DROP SCHEMA backup CASCADE"]))  # the web process is counting beside it
    lost = everything - value(acme, "SELECT count(*) FROM receiver.deliveries")
    assert differing(acme, STORY)
    assert mend(acme).recovered == lost > 0
    assert (differing(acme, STORY), mend(acme).recovered) == ([], 0)


def test_deliveries_that_somebody_deleted_come_back(acme: World) -> None:
    deliver(acme, STORY, Faults(duplicates=0.2))
    before = value(acme, "SELECT count(*) FROM receiver.deliveries")
    assert mend(acme).recovered == 0
    for table in DELIVERIES:
        key = "id" if table == "stored_deliveries" else "delivery_id"
        execute(acme, f"DELETE FROM receiver.{table} WHERE {key} % 3 = 0")  # noqa: S608 - names of ours
    lost = before - value(acme, "SELECT count(*) FROM receiver.deliveries")
    assert mend(acme).recovered == lost > 0
    assert (value(acme, "SELECT count(*) FROM receiver.deliveries"), mend(acme).recovered) == (before, 0)


def test_refused_deliveries_come_back_when_the_cause_is_mended(acme: World) -> None:
    webhook = acme.registered()
    acme.provider.state.change_webhook(webhook.id, secret="a-wrong-one", basic_password="and-a-wrong-password")
    deliver(acme, STORY, Faults(), patience=THREE_TIMES)
    assert rows(acme, "SELECT id FROM receiver.deliveries") == []
    acme.provider.state.change_webhook(webhook.id, secret=webhook.secret, basic_password=webhook.basic_password)
    outcome = mend(acme)
    assert outcome.recovered == value(acme, "SELECT count(*) FROM receiver.deliveries") > 0
    statuses = {row["response_status"] for row in rows(acme, "SELECT response_status FROM receiver.delivery_log")}
    assert statuses == {401}
    told = {told.event for told in STORY.told if not told.card_holder}
    assert told <= set(feed(acme))


def test_what_arrives_while_it_is_recovered_is_one_event_and_a_duplicate(acme: World) -> None:
    payload = snapshot("cleared")
    log(acme, tried(CLEARED, payload, 503, at=ago(MINUTE)))
    assert reconcile(acme).recovered == 1
    deliver_one(acme, CLEARED, payload)  # OpenCard tries once more, before a worker came
    assert sorted(row["status"] for row in rows(acme, "SELECT status FROM receiver.deliveries")) == [
        "duplicate",
        "processed",
    ]
    assert feed(acme) == [CLEARED]
    second = mend(acme)
    assert (second.recovered, second.unconfirmed) == (0, 0)


@pytest.mark.parametrize(
    ("event", "payload", "status"),
    [
        ("an.unknown.event", {"organization": {"reference_id": "acme"}}, "ignored"),
        (CREATED, card_holder(organization="globex"), "quarantined"),
        (CREATED, {"organization": {"reference_id": "acme"}}, "dead"),
    ],
)
def test_what_cannot_be_applied_is_recovered_once_all_the_same(
    acme: World, event: str, payload: object, status: str
) -> None:
    log(acme, tried(event, payload, 503, 503, at=ago(HOUR)))
    assert mend(acme).recovered == 1
    assert value(acme, "SELECT status FROM receiver.deliveries") == status
    second = mend(acme)
    assert (second.matched, second.recovered) == (1, 0)


def test_what_waits_or_is_no_json_is_stored_whatever_became_of_it(acme: World) -> None:
    acme.provider.behaviour.log_style = LogStyle(payload_form="text")
    at = ago(HOUR)
    waiting, broken = body(card_holder()), b"{broken"
    for content in (waiting, broken):
        store(acme, CREATED, content, at=at)
    acme.provider.behaviour.log_style = LogStyle(payload_form="text")
    log(acme, tried(CREATED, waiting, 200, at=at), tried(CREATED, broken, 200, at=at + MINUTE))
    outcome = reconcile(acme)
    assert (outcome.matched, outcome.recovered, outcome.unconfirmed) == (2, 0, 0)


def test_the_same_event_under_its_other_name_is_the_same(acme: World) -> None:
    payload = enrichment("environmental.impact.deedster")
    store(acme, "environmental_impact.deedster", payload, at=ago(HOUR))
    log(acme, tried("environmental.impact.deedster", payload, 200, at=ago(HOUR)))
    assert reconcile(acme).recovered == 0
    assert drain(acme.engine)
    assert reconcile(acme).recovered == 0


def test_a_duplicate_that_is_sent_in_vain_hours_later_is_no_event(acme: World) -> None:
    payload = snapshot("cleared")
    store(acme, CLEARED, payload, at=ago(5 * HOUR))
    log(acme, tried(CLEARED, payload, 200, at=ago(5 * HOUR)))
    log(acme, *(tried("challenge", {}, 200, at=ago(3 * HOUR - number * MINUTE)) for number in range(20)))
    log(acme, tried(CLEARED, payload, 503, at=ago(HOUR)))
    assert drain(acme.engine)
    assert reconcile(acme, since=ago(2 * HOUR)).recovered == 0, "it is known since before what is read"
    log(acme, tried(CLEARED, snapshot("cleared", transaction="other"), 503, at=ago(HOUR)))
    assert reconcile(acme, since=ago(2 * HOUR)).recovered == 1


def test_the_same_again_after_a_day_is_an_event_that_is_recovered(acme: World) -> None:
    event, payload = "receipt.fetched", enrichment("receipt.fetched")
    store(acme, event, payload, at=ago(3 * DAY))
    log(acme, tried(event, payload, 200, at=ago(3 * DAY)), tried(event, payload, 503, at=ago(HOUR)))
    assert drain(acme.engine)
    assert (mend(acme).recovered, feed(acme)) == (1, [event, event])
    assert mend(acme).recovered == 0


def test_a_challenge_in_the_log_is_no_delivery(acme: World) -> None:
    log(acme, tried("challenge", {}, 200, 503, at=ago(HOUR)))
    outcome = mend(acme)
    assert (outcome.log_entries, outcome.recovered, outcome.unrecoverable) == (2, 0, 0)


def deliver_one(world: World, event: str, payload: object) -> None:
    """Let OpenCard deliver something that is taken, and process it."""
    at = ago(0 * MINUTE)
    store(world, event, payload, at=at)
    log(world, tried(event, payload, 200, at=at))
    assert drain(world.engine)

"""Lost events are recovered from OpenCard's delivery log, over real HTTP and with faults."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.migrate import target_metadata
from receiver.processing.drain import drain
from receiver.sandbox.faults import Faults
from receiver.sandbox.provider import LogStyle
from receiver.sandbox.provider.state import ProviderState
from receiver.sandbox.story import Story, make_story
from tests.support.factories import body, card_holder, enrichment, snapshot
from tests.support.log_styles import log_styles
from tests.support.reconcile_steps import (
    DAY,
    DELIVERIES,
    HOUR,
    MINUTE,
    THREE_ATTEMPTS,
    ago,
    append_log,
    attempts,
    deliver,
    execute,
    feed_types,
    ledger_differences,
    reconcile,
    reconcile_and_process,
    rows,
    store_delivery,
    value,
)

if TYPE_CHECKING:
    from tests.support.world import World

EVERYTHING = Faults(duplicates=0.2, disorder=0.3, lost_answers=0.2, bursts=0.2, lost=0.2, outage=48)
STORY = make_story(seed=5, organizations=["acme"], purchases=12)
TABLES = target_metadata().sorted_tables
CREATED = "card_holder.created"
DELETED = "card_holder.deleted"
CLEARED = "card.transaction.cleared"


def reset(world: World) -> None:
    """Empty the receiver and OpenCard, and register again."""
    execute(world, f"TRUNCATE {', '.join(table.fullname for table in TABLES)} CASCADE")
    world.provider.state = ProviderState()
    world.add_organizations("acme")
    assert world.bootstrap().failures == []


@pytest.mark.long
@given(style=log_styles, seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_reconcile_completes_ems_in_every_log_format(acme: World, style: LogStyle, seed: int) -> None:
    reset(acme)
    # within a second, whole seconds do not show what happened first, of a card holder's events
    acme.provider.behaviour.log_style = replace(style, microseconds=True)
    delivered = deliver(acme, STORY, EVERYTHING, seed=seed)
    (missed,) = delivered.missed.values()
    first = reconcile_and_process(acme)
    assert first.recovered >= len(missed)
    assert (ledger_differences(acme, STORY), first.unrecoverable, first.unconfirmed) == ([], 0, 0)
    second = reconcile_and_process(acme)
    assert (second.recovered, second.log_entries) == (0, first.log_entries)
    assert second.matched == first.matched + first.recovered
    assert ledger_differences(acme, STORY) == []
    # and once more though the log is spelled otherwise now
    acme.provider.behaviour.log_style = LogStyle(id_name="uuid" if style.id_name == "id" else "id", microseconds=True)
    assert reconcile_and_process(acme).recovered == 0
    assert value(acme, "SELECT count(*) FROM receiver.delivery_log") == first.log_entries


@pytest.mark.parametrize("seed", [1, 2])
def test_one_reconcile_leaves_nothing_missing_for_any_seed(acme: World, seed: int) -> None:
    delivered = deliver(acme, STORY, EVERYTHING, seed=seed)
    assert ledger_differences(acme, STORY)
    (missed,) = delivered.missed.values()
    outcome = reconcile_and_process(acme)
    assert (ledger_differences(acme, STORY), outcome.recovered >= len(missed) > 0) == ([], True)
    assert outcome.log_entries == delivered.tally.sent
    assert reconcile_and_process(acme).recovered == 0
    assert (
        rows(
            acme,
            "SELECT * FROM receiver.delivery_gaps_by_hour WHERE hour > now() - interval '2 hours' AND NOT complete",
        )
        == []
    )


def test_recovered_delivery_has_the_log_as_its_source(acme: World) -> None:
    at = ago(HOUR)
    append_log(acme, attempts(CLEARED, snapshot("cleared"), None, 503, 503, at=at))
    outcome = reconcile_and_process(acme)
    assert (outcome.log_entries, outcome.matched, outcome.recovered) == (3, 0, 1)
    (delivery,) = rows(acme, "SELECT * FROM receiver.deliveries")
    assert (delivery["source"], delivery["verification"], delivery["version"]) == ("log", "delivery-log", None)
    assert (delivery["headers"], delivery["status"], delivery["occurred_at"]) == ({}, "processed", at)
    assert delivery["confirmed_at"] is not None
    assert delivery["received_at"] > at
    assert value(acme, "SELECT source FROM ems.events") == "log"


def test_oldest_missing_delivery_is_processed_first(acme: World) -> None:
    for minutes in (3, 9, 1, 6, 2, 8, 5, 4, 7):
        append_log(acme, attempts(CREATED, card_holder(f"employee-{minutes}"), 503, at=ago(minutes * MINUTE)))
    reconcile(acme)
    times = [row["occurred_at"] for row in rows(acme, "SELECT occurred_at FROM receiver.deliveries ORDER BY id")]
    assert times == sorted(times)  # which is the order in which they are claimed, batch after batch
    assert drain(acme.engine)
    sent = rows(acme, "SELECT card_holder_reference_id AS who FROM ems.events ORDER BY position")
    assert [row["who"] for row in sent] == [f"employee-{minutes}" for minutes in range(9, 0, -1)]


def test_bytes_invalid_as_text_are_recovered_unchanged(acme: World) -> None:
    content = body(card_holder("employee\0seventeen"))
    assert b"\\u0000" in content
    append_log(acme, attempts(CREATED, content, 503, at=ago(HOUR)))
    reconcile_and_process(acme)
    assert bytes(value(acme, "SELECT body FROM receiver.deliveries")) == content
    assert value(acme, "SELECT reference_id FROM ems.card_holders") == "employee\N{REPLACEMENT CHARACTER}seventeen"


@pytest.mark.parametrize("form", ["object", "text"])
def test_payload_is_recovered_unchanged_from_an_object_or_a_text(acme: World, form: Any) -> None:
    acme.provider.behaviour.log_style = LogStyle(payload_form=form)
    content = body(card_holder("zo\u00eb"))
    append_log(acme, attempts(CREATED, content, 503, at=ago(HOUR)))
    assert reconcile(acme).recovered == 1
    assert bytes(value(acme, "SELECT body FROM receiver.deliveries")) == content


def test_late_recovered_state_does_not_downgrade(acme: World) -> None:
    deliver_one(acme, "card.transaction.invoiced", snapshot("invoiced"))
    append_log(acme, attempts(CLEARED, snapshot("cleared", card_issuer_reference="of-the-clearing"), 503, at=ago(HOUR)))
    reconcile_and_process(acme)
    (row,) = rows(acme, "SELECT state, cleared_card_issuer_reference, cleared_at FROM ems.transactions")
    assert (row["state"], row["cleared_card_issuer_reference"]) == ("invoiced", "of-the-clearing")
    assert row["cleared_at"] < ago(30 * MINUTE)
    assert feed_types(acme) == ["card.transaction.invoiced", CLEARED]


def test_late_recovered_lines_do_not_replace_newer_ones(acme: World) -> None:
    event = "transaction.line.items"
    newer = enrichment(event, line_items=[{"description": "new", "amount": 1}])
    older = enrichment(event, line_items=[{"description": "old", "amount": 2}, {"description": "older", "amount": 3}])
    deliver_one(acme, event, newer)
    append_log(acme, attempts(event, older, 503, at=ago(HOUR)))
    reconcile_and_process(acme)
    assert [row["description"] for row in rows(acme, "SELECT description FROM ems.line_items")] == ["new"]


def test_event_lost_between_equal_ones_makes_the_later_one_count(acme: World) -> None:
    for minutes in (9, 3):
        store_delivery(acme, CREATED, card_holder(), at=ago(minutes * MINUTE))
        append_log(acme, attempts(CREATED, card_holder(), 200, at=ago(minutes * MINUTE)))
    assert drain(acme.engine)
    assert feed_types(acme) == [CREATED]
    append_log(acme, attempts(DELETED, card_holder(), 503, 503, at=ago(6 * MINUTE)))
    assert reconcile_and_process(acme).recovered == 1
    assert sorted(feed_types(acme)) == [CREATED, CREATED, DELETED]
    assert value(acme, "SELECT deleted_at FROM ems.card_holders") is None


def test_lost_recreation_of_a_card_holder_is_recovered(acme: World) -> None:
    for event, minutes in ((CREATED, 9), (DELETED, 6)):
        store_delivery(acme, event, card_holder(), at=ago(minutes * MINUTE))
        append_log(acme, attempts(event, card_holder(), 200, at=ago(minutes * MINUTE)))
    append_log(acme, attempts(CREATED, card_holder(), 503, None, at=ago(3 * MINUTE)))
    assert drain(acme.engine)
    assert value(acme, "SELECT deleted_at FROM ems.card_holders") is not None
    assert reconcile_and_process(acme).recovered == 1
    assert value(acme, "SELECT deleted_at FROM ems.card_holders") is None
    assert feed_types(acme) == [CREATED, DELETED, CREATED]
    assert reconcile_and_process(acme).recovered == 0


def test_deliveries_missing_from_a_restored_backup_are_recovered(acme: World) -> None:
    half = len(STORY.events) // 2
    deliver(acme, Story(STORY.events[:half]), Faults(duplicates=0.2))
    assert reconcile_and_process(acme).recovered == 0
    execute(acme, "CREATE SCHEMA backup")
    for table in TABLES:
        execute(acme, f"CREATE TABLE backup.{table.schema}_{table.name} AS TABLE {table.fullname}")
    deliver(acme, Story(STORY.events[half:]), Faults(duplicates=0.2))
    everything = value(acme, "SELECT count(*) FROM receiver.deliveries")
    assert (ledger_differences(acme, STORY), reconcile_and_process(acme).recovered) == ([], 0)
    restore = [f"TRUNCATE {', '.join(table.fullname for table in TABLES)} CASCADE"]
    for table in TABLES:
        columns = ", ".join(column.name for column in table.columns if column.computed is None)
        kept = f"SELECT {columns} FROM backup.{table.schema}_{table.name}"  # noqa: S608 - names come from the models
        restore.append(f"INSERT INTO {table.fullname} ({columns}) OVERRIDING SYSTEM VALUE {kept}")
    execute(acme, "; ".join([*restore, "DROP SCHEMA backup CASCADE"]))  # the web process is counting at the same time
    lost = everything - value(acme, "SELECT count(*) FROM receiver.deliveries")
    assert ledger_differences(acme, STORY)
    assert reconcile_and_process(acme).recovered == lost > 0
    assert (ledger_differences(acme, STORY), reconcile_and_process(acme).recovered) == ([], 0)


def test_deleted_deliveries_are_recovered(acme: World) -> None:
    deliver(acme, STORY, Faults(duplicates=0.2))
    before = value(acme, "SELECT count(*) FROM receiver.deliveries")
    assert reconcile_and_process(acme).recovered == 0
    for table in DELIVERIES:
        key = "id" if table == "stored_deliveries" else "delivery_id"
        execute(acme, f"DELETE FROM receiver.{table} WHERE {key} % 3 = 0")  # noqa: S608 - names of ours
    lost = before - value(acme, "SELECT count(*) FROM receiver.deliveries")
    assert reconcile_and_process(acme).recovered == lost > 0
    assert (value(acme, "SELECT count(*) FROM receiver.deliveries"), reconcile_and_process(acme).recovered) == (
        before,
        0,
    )


def test_refused_deliveries_are_recovered_after_the_fix(acme: World) -> None:
    webhook = acme.registered()
    acme.provider.state.change_webhook(webhook.id, secret="a-wrong-one", basic_password="and-a-wrong-password")
    deliver(acme, STORY, Faults(), limits=THREE_ATTEMPTS)
    assert rows(acme, "SELECT id FROM receiver.deliveries") == []
    acme.provider.state.change_webhook(webhook.id, secret=webhook.secret, basic_password=webhook.basic_password)
    outcome = reconcile_and_process(acme)
    assert outcome.recovered == value(acme, "SELECT count(*) FROM receiver.deliveries") > 0
    statuses = {row["response_status"] for row in rows(acme, "SELECT response_status FROM receiver.delivery_log")}
    assert statuses == {401}
    expected = {sent.event for sent in STORY.events if not sent.card_holder}
    assert expected <= set(feed_types(acme))


def test_delivery_that_arrives_during_recovery_counts_once(acme: World) -> None:
    payload = snapshot("cleared")
    append_log(acme, attempts(CLEARED, payload, 503, at=ago(MINUTE)))
    assert reconcile(acme).recovered == 1
    deliver_one(acme, CLEARED, payload)  # OpenCard tries once more, before a worker came
    assert sorted(row["status"] for row in rows(acme, "SELECT status FROM receiver.deliveries")) == [
        "duplicate",
        "processed",
    ]
    assert feed_types(acme) == [CLEARED]
    second = reconcile_and_process(acme)
    assert (second.recovered, second.unconfirmed) == (0, 0)


@pytest.mark.parametrize(
    ("event", "payload", "status"),
    [
        ("an.unknown.event", {"organization": {"reference_id": "acme"}}, "ignored"),
        (CREATED, card_holder(organization="globex"), "quarantined"),
        (CREATED, {"organization": {"reference_id": "acme"}}, "dead"),
    ],
)
def test_delivery_that_cannot_be_applied_is_recovered_once(
    acme: World, event: str, payload: object, status: str
) -> None:
    append_log(acme, attempts(event, payload, 503, 503, at=ago(HOUR)))
    assert reconcile_and_process(acme).recovered == 1
    assert value(acme, "SELECT status FROM receiver.deliveries") == status
    second = reconcile_and_process(acme)
    assert (second.matched, second.recovered) == (1, 0)


def test_pending_and_unreadable_deliveries_count_as_stored(acme: World) -> None:
    acme.provider.behaviour.log_style = LogStyle(payload_form="text")
    at = ago(HOUR)
    waiting, broken = body(card_holder()), b"{broken"
    for content in (waiting, broken):
        store_delivery(acme, CREATED, content, at=at)
    acme.provider.behaviour.log_style = LogStyle(payload_form="text")
    append_log(acme, attempts(CREATED, waiting, 200, at=at), attempts(CREATED, broken, 200, at=at + MINUTE))
    outcome = reconcile(acme)
    assert (outcome.matched, outcome.recovered, outcome.unconfirmed) == (2, 0, 0)


def test_alias_of_an_event_name_is_the_same_event(acme: World) -> None:
    payload = enrichment("environmental.impact.deedster")
    store_delivery(acme, "environmental_impact.deedster", payload, at=ago(HOUR))
    append_log(acme, attempts("environmental.impact.deedster", payload, 200, at=ago(HOUR)))
    assert reconcile(acme).recovered == 0
    assert drain(acme.engine)
    assert reconcile(acme).recovered == 0


def test_failed_duplicate_hours_later_is_not_an_event(acme: World) -> None:
    payload = snapshot("cleared")
    store_delivery(acme, CLEARED, payload, at=ago(5 * HOUR))
    append_log(acme, attempts(CLEARED, payload, 200, at=ago(5 * HOUR)))
    append_log(acme, *(attempts("challenge", {}, 200, at=ago(3 * HOUR - number * MINUTE)) for number in range(20)))
    append_log(acme, attempts(CLEARED, payload, 503, at=ago(HOUR)))
    assert drain(acme.engine)
    assert reconcile(acme, since=ago(2 * HOUR)).recovered == 0, "it is known since before what is read"
    append_log(acme, attempts(CLEARED, snapshot("cleared", transaction="other"), 503, at=ago(HOUR)))
    assert reconcile(acme, since=ago(2 * HOUR)).recovered == 1


def test_equal_event_after_a_day_is_recovered(acme: World) -> None:
    event, payload = "receipt.fetched", enrichment("receipt.fetched")
    store_delivery(acme, event, payload, at=ago(3 * DAY))
    append_log(acme, attempts(event, payload, 200, at=ago(3 * DAY)), attempts(event, payload, 503, at=ago(HOUR)))
    assert drain(acme.engine)
    assert (reconcile_and_process(acme).recovered, feed_types(acme)) == (1, [event, event])
    assert reconcile_and_process(acme).recovered == 0


def test_challenge_in_the_log_is_not_a_delivery(acme: World) -> None:
    append_log(acme, attempts("challenge", {}, 200, 503, at=ago(HOUR)))
    outcome = reconcile_and_process(acme)
    assert (outcome.log_entries, outcome.recovered, outcome.unrecoverable) == (2, 0, 0)


def deliver_one(world: World, event: str, payload: object) -> None:
    """Let OpenCard deliver something that is taken, and process it."""
    at = ago(0 * MINUTE)
    store_delivery(world, event, payload, at=at)
    append_log(world, attempts(event, payload, 200, at=at))
    assert drain(world.engine)

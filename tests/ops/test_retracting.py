"""Forged deliveries are retracted: the tables of ems become as if they had not arrived, and it can be undone."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.cli import main
from receiver.cli.operator import operator
from receiver.db import engine_for
from receiver.errors import OperationRefused
from receiver.ops.decisions import accept_deliveries
from receiver.ops.deliveries import Filter
from receiver.ops.replay_selection import preview
from receiver.ops.retracting import retract_deliveries, undo_retraction
from receiver.records.write import writing_connection
from receiver.testing.emptying import empty_database
from tests.ops.test_decisions import by_hour, listed
from tests.ops.test_decisions import found as findings
from tests.support.factories import card_holder, enrichment, sample, snapshot
from tests.support.processing_steps import delete_bodies, occurred, process_again
from tests.support.replay_steps import ids, replay
from tests.support.service_states import miss_all_in_the_log
from tests.support.stories import SENT, Attempt, DeliveryStory, Happened, differing, rows_of
from tests.support.verifying import contents, found

if TYPE_CHECKING:
    from collections.abc import Sequence

    from receiver.settings import Settings
    from tests.conftest import Acme

REASON = "OpenCard: not sent by them"
CLEARED, RECEIPT, VAT = "card.transaction.cleared", "receipt.fetched", "transaction.true.vat"
LINE_ITEMS, IMPACT = "transaction.line.items", "environmental.impact.deedster"
GENUINE: list[tuple[str, Any]] = [
    ("card.transaction.authorized", snapshot("authorized")),
    (CLEARED, snapshot("cleared")),
    (RECEIPT, enrichment(RECEIPT)),
    (VAT, enrichment(VAT)),
    (LINE_ITEMS, enrichment(LINE_ITEMS)),
    (IMPACT, enrichment(IMPACT)),
    ("card_holder.created", card_holder()),
    ("tpa.signed", sample("tpa.signed")),
    ("invoice.created", sample("invoice.created")),
]
FORGED: dict[str, list[tuple[str, Any]]] = {
    "another amount": [(CLEARED, snapshot("cleared", accounting_amount=Decimal(99)))],
    "another state": [("card.transaction.invoiced", snapshot("invoiced"))],
    "a deletion": [("card.transaction.deleted", snapshot("deleted"))],
    "a purchase": [(CLEARED, snapshot("cleared", transaction="forged"))],
    "a whole purchase": [
        (CLEARED, snapshot("cleared", transaction="forged")),
        (RECEIPT, enrichment(RECEIPT, transaction="forged")),
        (VAT, enrichment(VAT, transaction="forged")),
    ],
    "a receipt": [(RECEIPT, enrichment(RECEIPT, url="https://forged.invalid/1"))],
    "VAT": [(VAT, enrichment(VAT, vat_rates=[], totals=[]))],
    "line items": [(LINE_ITEMS, enrichment(LINE_ITEMS, line_items=[]))],
    "an impact": [(IMPACT, enrichment(IMPACT, carbon_emission_in_grams=1))],
    "a deleted card holder": [("card_holder.deleted", card_holder())],
    "a card holder": [("card_holder.created", card_holder("forged"))],
    "a TPA": [("tpa.signed", sample("tpa.signed", id="forged"))],
    "another TPA": [("tpa.signed", sample("tpa.signed", name="forged"))],
    "an invoice": [("invoice.created", sample("invoice.created", id=66))],
    "another invoice": [("invoice.created", sample("invoice.created", invoice_amount=Decimal(1)))],
}


def retract(acme: Acme, *deliveries: int) -> None:
    assert retract_deliveries(acme.engine, deliveries, by="kim@ops", reason=REASON) == len(deliveries)


def undo(acme: Acme, *deliveries: int) -> None:
    assert undo_retraction(acme.engine, deliveries, reason="it was theirs") == len(deliveries)


def applied(acme: Acme, *events: tuple[str, Any]) -> list[int]:
    """Apply events; return their deliveries, which OpenCard's log does not have."""
    before = ids(acme) if acme.statuses() else []
    for event, payload in events:
        acme.deliver_ok(event, payload)
    acme.process()
    miss_all_in_the_log(acme.engine, "acme")
    return ids(acme)[len(before) :]


def changes(acme: Acme) -> list[str]:
    query = "SELECT payload ->> 'reason' AS reason FROM ems.events WHERE type = 'receiver.changed' ORDER BY position"
    return [row["reason"] for row in acme.rows(query)]


def booked(acme: Acme) -> Decimal:
    return Decimal(acme.value("SELECT coalesce(sum(accounting_amount), 0) FROM ems.ledger_journal"))


@pytest.mark.parametrize("forged", FORGED)
def test_ems_is_as_if_it_had_not_arrived_and_back_again(acme: Acme, forged: str) -> None:
    applied(acme, *GENUINE)
    before, sum_before = contents(acme), booked(acme)
    deliveries = applied(acme, *FORGED[forged])
    with_it, sum_with = contents(acme), booked(acme)
    assert with_it != before
    retract(acme, *deliveries)
    assert (contents(acme), booked(acme)) == (before, sum_before)
    assert (found(acme), set(changes(acme))) == ([], {"event_retracted"})
    assert acme.value("SELECT count(*) FROM ems.events WHERE retracted_at IS NOT NULL") == len(deliveries)
    undo(acme, *deliveries)
    assert (contents(acme), booked(acme)) == (with_it, sum_with)
    assert (found(acme), set(changes(acme))) == ([], {"event_retracted", "retraction_undone"})
    assert acme.value("SELECT count(*) FROM ems.events WHERE retracted_at IS NOT NULL") == 0


def test_history_leaves_out_what_is_retracted(acme: Acme) -> None:
    _, forged = applied(acme, GENUINE[1], (CLEARED, snapshot("cleared", accounting_amount=Decimal(99))))
    states = "SELECT delivery_id FROM ems.transaction_states"
    assert len(acme.rows(states)) == 2
    retract(acme, forged)
    assert acme.value(states) != forged
    undo(acme, forged)
    assert len(acme.rows(states)) == 2


def test_genuine_delivery_of_a_retracted_event_is_applied(acme: Acme) -> None:
    (forged,) = applied(acme, GENUINE[1])
    retract(acme, forged)
    assert acme.rows("SELECT FROM ems.ledger") == []
    (genuine,) = applied(acme, GENUINE[1])
    assert acme.value("SELECT delivery_id FROM ems.transactions") == genuine
    assert acme.statuses() == ["processed", "processed"]
    applied(acme, GENUINE[1])
    assert acme.statuses() == ["processed", "processed", "duplicate"]
    with_both = contents(acme)
    undo(acme, forged)
    assert len(contents(acme)["ems.transactions"]) == len(with_both["ems.transactions"]) == 1
    assert found(acme) == []


@pytest.mark.parametrize("bodies", [True, False])
def test_event_stays_if_another_delivery_repeats_it(acme: Acme, *, bodies: bool) -> None:
    first, second, third = applied(acme, *[GENUINE[1]] * 3)
    if not bodies:
        delete_bodies(acme)
    retract(acme, first)
    acme.process()
    assert acme.value("SELECT delivery_id FROM ems.transactions") == second
    assert acme.statuses() == ["processed", "processed", "duplicate"]
    assert found(acme) == []
    retract(acme, second, third)
    acme.process()
    assert acme.rows("SELECT FROM ems.transactions") == []
    undo(acme, third)  # what it repeated is retracted still
    acme.process()
    assert acme.value("SELECT delivery_id FROM ems.transactions") == third
    undo(acme, first, second)
    acme.process()
    assert acme.value("SELECT delivery_id FROM ems.transactions") == first
    assert found(acme) == []


def test_retracted_repeat_never_becomes_an_event(acme: Acme) -> None:
    created, deleted = ("card_holder.created", card_holder()), ("card_holder.deleted", card_holder())
    _, forged = applied(acme, created, created)
    before = contents(acme)
    retract(acme, forged)
    assert contents(acme) == before
    acme.deliver_ok(*deleted)
    moment = acme.value("SELECT min(received_at) FROM receiver.stored_deliveries") + timedelta(microseconds=1)
    occurred(acme, 3, moment)  # between the two
    acme.process()
    assert acme.value("SELECT deleted_at FROM ems.card_holders") == moment
    undo(acme, forged)
    assert acme.value("SELECT deleted_at FROM ems.card_holders") is None
    assert acme.statuses() == ["processed", "processed", "processed"]
    assert found(acme) == []


def test_event_loses_the_time_of_a_retracted_repeat(acme: Acme) -> None:
    applied(acme, GENUINE[1])
    when = "SELECT occurred_at FROM ems.events WHERE type <> 'receiver.changed'"
    first = acme.value(when)
    earlier = first - timedelta(hours=1)
    acme.deliver_ok(*GENUINE[1])
    occurred(acme, 2, earlier)
    acme.process()
    miss_all_in_the_log(acme.engine, "acme")
    assert (acme.statuses(), acme.value(when)) == (["processed", "duplicate"], earlier)
    retract(acme, ids(acme)[1])
    assert acme.value(when) == first
    undo(acme, ids(acme)[1])
    assert acme.value(when) == earlier
    retract(acme, *ids(acme))
    undo(acme, ids(acme)[0])
    assert acme.value(when) == first, "the repeat is retracted still"
    assert found(acme) == []


def test_processed_again_a_retracted_delivery_changes_nothing(acme: Acme) -> None:
    (forged, repeat) = applied(acme, GENUINE[1], GENUINE[1])
    retract(acme, forged, repeat)
    process_again(acme)
    assert acme.rows("SELECT FROM ems.transactions") == []
    assert acme.statuses() == ["processed", "duplicate"]
    assert found(acme) == []


def test_no_replay_selects_a_retracted_delivery(acme: Acme) -> None:
    forged, _ = applied(acme, GENUINE[1], GENUINE[6])
    retract(acme, forged)
    with acme.engine.connect() as connection:
        seen = preview(connection, (forged,))
    assert (seen.selected, seen.retracted) == (0, 1)
    assert replay(acme, Filter(statuses=("processed",))).selected == 1
    undo(acme, forged)
    assert replay(acme, Filter(statuses=("processed",))).selected == 2


def test_a_forged_receipt_is_downloaded_no_more(acme: Acme) -> None:
    _, forged = applied(acme, GENUINE[2], *FORGED["a receipt"])
    urls = "SELECT url FROM receiver.receipt_downloads ORDER BY id"
    genuine_url, forged_url = (row["url"] for row in acme.rows(urls))
    retract(acme, forged)
    assert acme.value(urls) == genuine_url
    undo(acme, forged)
    assert [row["url"] for row in acme.rows(urls)] == [genuine_url, forged_url]


def test_retracted_deliveries_are_unconfirmed_no_more(acme: Acme) -> None:
    first, second, third = applied(acme, GENUINE[0], GENUINE[1], GENUINE[6])
    accept_deliveries(acme.engine, (third,), by="kim@ops", reason="a gap")
    retract(acme, first, third)
    assert (listed(acme), findings(acme), by_hour(acme)) == ([second], [1], 1)
    undo(acme, first, third)
    assert (listed(acme), findings(acme), by_hour(acme)) == ([first, second, third], [3], 3)


def test_delivery_that_was_never_applied_can_be_retracted(acme: Acme) -> None:
    (dead,) = applied(acme, (CLEARED, b"{}"))
    retract(acme, dead)
    assert (acme.statuses(), listed(acme)) == (["dead"], [])
    undo(acme, dead)
    assert listed(acme) == [dead]


def test_only_what_the_log_does_not_have_is_retracted(acme: Acme) -> None:
    logged, retracted, other = applied(acme, GENUINE[0], GENUINE[1], GENUINE[6])
    acme.execute("INSERT INTO receiver.confirmations (delivery_id, confirmed_at) VALUES (:id, now())", id=logged)
    retract(acme, retracted)
    acme.execute("INSERT INTO receiver.queue (delivery_id) VALUES (:id)", id=other)
    before = contents(acme)
    acme.apply("card_holder.created", card_holder("employee-new"))
    new = ids(acme)[-1]
    assert contents(acme) != before
    acme.execute("INSERT INTO receiver.queue (delivery_id) VALUES (:id)", id=other)
    before = contents(acme)
    for given_id, why in (
        (logged, f"delivery {logged} cannot be retracted: OpenCard's log has it"),
        (retracted, f"delivery {retracted} cannot be retracted: it is retracted already"),
        (other, f"delivery {other} cannot be retracted: it is still to be processed"),
        (new, f"delivery {new} cannot be retracted: it was not compared with OpenCard's log yet"),
        (new + 1, f"there is no delivery {new + 1}"),
    ):
        with pytest.raises(OperationRefused, match=why):
            retract_deliveries(acme.engine, (given_id,), by="kim@ops", reason=REASON)
    with pytest.raises(OperationRefused, match=f"delivery {logged} is not retracted"):
        undo_retraction(acme.engine, (logged, retracted), reason=REASON)
    with pytest.raises(OperationRefused, match=r"decided about it already: retracted \(undo that first\)"):
        accept_deliveries(acme.engine, (retracted,), by="kim@ops", reason=REASON)
    with pytest.raises(OperationRefused, match="needs a reason"):
        retract_deliveries(acme.engine, (retracted,), by="kim@ops", reason=" ")
    assert contents(acme) == before


def test_several_at_once_end_without_a_deadlock(acme: Acme, settings: Settings) -> None:
    number = 24
    deliveries = applied(
        acme,
        *(
            (CLEARED, snapshot("cleared", accounting_amount=Decimal(each), transaction=f"t{each % 3}"))
            for each in range(number)
        ),
    )
    engine = engine_for(settings.database_url, application="tests")
    try:
        with ThreadPoolExecutor(4) as pool:
            for act in ("retract", "undo"):
                done = [
                    pool.submit(retract_deliveries, engine, (each,), by="kim@ops", reason=REASON)
                    if act == "retract"
                    else pool.submit(undo_retraction, engine, (each,), reason=REASON)
                    for each in deliveries[1:]
                ]
                assert [each.result(timeout=60) for each in done] == [1] * (number - 1)
                assert found(acme) == []
                assert len(acme.rows("SELECT FROM ems.transactions")) == (1 if act == "retract" else 3)
    finally:
        engine.dispose()


def test_an_operator_retracts_with_a_reason(acme: Acme, environment: dict[str, str]) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner(env=environment).invoke(main, ["deliveries", *arguments])
        return result.exit_code, result.stdout

    first, second = map(str, applied(acme, GENUINE[0], GENUINE[1]))
    assert run("retract", first)[0] == run("retract", first, "--reason", " ")[0] == 2
    code, output = run("retract", first, second, "--reason", REASON, "--json")
    assert (code, json.loads(output)) == (0, {"retracted": 2})
    shown = json.loads(run("show", first, "--json")[1])
    assert (shown["decision"]["decision"], shown["decision"]["decided_by"]) == ("retracted", operator())
    assert run("retract", first, "--reason", REASON)[0] == 1
    assert run("retract", "--undo", first, "--reason", "it is theirs") == (0, "1 delivery restored\n")
    recorded = acme.rows("SELECT object, reason, outcome FROM receiver.audit WHERE action LIKE '%retract' ORDER BY id")
    assert [tuple(row.values()) for row in recorded] == [
        (f"{first} {second}", REASON, "done"),
        (first, REASON, "refused"),
        (f"{first} --undo", "it is theirs", "done"),
    ]


BEGAN = datetime(2026, 2, 13, 12, tzinfo=UTC)


def assert_rows(acme: Acme, happened: Sequence[Happened]) -> None:
    with closing(writing_connection(acme.engine)) as connection:
        assert differing(connection, rows_of(DeliveryStory(tuple(happened)), BEGAN)) == []
    assert found(acme) == []


@pytest.mark.parametrize("kind", SENT)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_rows_follow_from_what_is_not_retracted_in_any_story(acme: Acme, kind: str, data: st.DataObject) -> None:
    empty_database(acme.engine)
    each = st.tuples(SENT[kind], st.integers(0, 60), st.booleans())
    events, hours, forged = zip(*data.draw(st.lists(each, min_size=1, max_size=6), label="story"), strict=True)
    moments = [timedelta(hours=hour, microseconds=number) for number, hour in enumerate(hours)]
    happened = [Happened(sent, (Attempt(at, 200, arrives=True),)) for sent, at in zip(events, moments, strict=True)]
    for number, (sent, at) in enumerate(zip(events, moments, strict=True), start=1):
        acme.deliver_ok(*sent)
        occurred(acme, number, BEGAN + at)
        acme.process()
    miss_all_in_the_log(acme.engine, "acme")
    deliveries = [delivery for delivery, is_forged in zip(ids(acme), forged, strict=True) if is_forged]
    genuine = [number for number, is_forged in enumerate(forged) if not is_forged]
    for one in data.draw(st.permutations(deliveries), label="retracted") if deliveries else []:
        retract(acme, one)
        acme.process()  # other deliveries of its event, which are not retracted yet
    assert_rows(acme, [happened[number] for number in genuine])
    for one in data.draw(st.permutations(deliveries), label="restored") if deliveries else []:
        undo(acme, one)
        acme.process()
    assert_rows(acme, happened)

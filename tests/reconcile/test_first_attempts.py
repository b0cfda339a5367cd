"""A first attempt fails, a newer event arrives, then the retry of the first: the newer event decides the row."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from receiver.processing.drain import drain
from receiver.records.folds.transactions import RANKS
from receiver.records.write import CHANGED
from tests.support.factories import card_holder, enrichment, sample, snapshot
from tests.support.reconcile_steps import (
    MINUTE,
    ago,
    append_log,
    attempts,
    execute,
    feed_types,
    reconcile,
    reconcile_and_process,
    rows,
    store_delivery,
    value,
)

if TYPE_CHECKING:
    from tests.support.world import World

SECOND = timedelta(seconds=1)
STATES = [f"card.transaction.{state}" for state in RANKS]
CREATED, DELETED = "card_holder.created", "card_holder.deleted"


def late_retry(
    world: World,
    event: str,
    older: object,
    newer: object,
    *,
    fails: int = 1,
    late: timedelta = 40 * SECOND,
    before: timedelta = 2 * MINUTE,
) -> None:
    """Let *older* fail so many times, *newer* arrive, and a retry of *older* arrive; all of it is processed."""
    at = ago(before + late)
    store_delivery(world, event, newer, at=at + late / 2)
    store_delivery(world, event, older, at=at + late)
    append_log(world, attempts(event, older, *[503] * fails, at=at))
    append_log(world, attempts(event, newer, 200, at=at + late / 2))
    append_log(world, attempts(event, older, 200, at=at + late))
    assert drain(world.engine)


def lines(amount: int) -> dict[str, Any]:
    return enrichment("transaction.line.items", line_items=[{"description": "all", "total_amount": amount}])


def vat(amount: int) -> dict[str, Any]:
    totals = [{"vat_amount": amount, "taxable_amount": 1, "total_amount": 2, "currency": "SEK"}]
    return enrichment("transaction.true.vat", vat_rates=[], totals=totals)


KINDS: dict[str, tuple[str, Any, Any, str]] = {
    **{
        state: (
            state,
            snapshot(state.rpartition(".")[2], accounting_amount=Decimal(1)),
            snapshot(state.rpartition(".")[2], accounting_amount=Decimal(2)),
            "SELECT accounting_amount FROM ems.transactions",
        )
        for state in STATES
    },
    "line items": ("transaction.line.items", lines(1), lines(2), "SELECT total_amount FROM ems.line_items"),
    "VAT": ("transaction.true.vat", vat(1), vat(2), "SELECT vat_amount FROM ems.vat_totals"),
    "receipt": (
        "receipt.fetched",
        enrichment("receipt.fetched", original_amount=Decimal(1)),
        enrichment("receipt.fetched", original_amount=Decimal(2)),
        "SELECT original_amount FROM ems.receipts",
    ),
    "CO2": (
        "environmental.impact.deedster",
        enrichment("environmental.impact.deedster", carbon_emission_in_grams=1),
        enrichment("environmental.impact.deedster", carbon_emission_in_grams=2),
        "SELECT carbon_emission_in_grams FROM ems.environmental_impacts",
    ),
    "TPA": (
        "tpa.signed",
        sample("tpa.signed", name="1"),
        sample("tpa.signed", name="2"),
        "SELECT name::integer FROM ems.tpas",
    ),
    "invoice": (
        "invoice.created",
        sample("invoice.created", invoice_amount=1),
        sample("invoice.created", invoice_amount=2),
        "SELECT invoice_amount FROM ems.invoices",
    ),
}


@pytest.mark.parametrize(("kind", "fails"), [*((kind, 1) for kind in KINDS), ("card.transaction.cleared", 3)])
def test_late_retry_overwrites_nothing_newer(acme: World, kind: str, fails: int) -> None:
    event, older, newer, query = KINDS[kind]
    late_retry(acme, event, older, newer, fails=fails)
    assert value(acme, query) == 1, "by arrival, the retry is the newer one"
    before = feed_types(acme)
    assert reconcile_and_process(acme).recovered == 0
    assert value(acme, query) == 2
    assert feed_types(acme) == [*before, CHANGED], "no event of OpenCard announces it"
    assert reconcile_and_process(acme).recovered == 0
    assert value(acme, query) == 2
    assert feed_types(acme) == [*before, CHANGED]


@pytest.mark.parametrize("kind", ["card.transaction.cleared", "line items"])
def test_retry_more_than_a_day_late_overwrites_nothing(acme: World, kind: str) -> None:
    event, older, newer, query = KINDS[kind]
    late_retry(acme, event, older, newer, late=timedelta(hours=30))
    reconciled(acme)
    assert value(acme, query) == 2
    assert feed_types(acme) == [event, event, CHANGED]


def test_each_of_two_equal_events_gets_its_first_attempts_time(acme: World) -> None:
    """Both are retried late, two days apart, with something newer in between."""
    event, older, newer, query = KINDS["card.transaction.cleared"]
    other = snapshot("cleared", accounting_amount=Decimal(3))
    late_retry(acme, event, older, other, late=timedelta(hours=2), before=timedelta(days=2))
    late_retry(acme, event, older, newer, late=timedelta(hours=2))
    reconciled(acme)
    assert value(acme, query) == 2


def test_later_run_does_not_recover_a_corrected_delivery(acme: World) -> None:
    """Its first attempt is far behind what a later run reads of the log."""
    at = ago(90 * MINUTE)
    store_delivery(acme, CREATED, card_holder(), at=at)
    append_log(
        acme, attempts(CREATED, card_holder(), 200, at=at), attempts(DELETED, card_holder(), 503, at=at + MINUTE)
    )
    store_delivery(acme, CREATED, card_holder(), at=at + 20 * MINUTE)
    append_log(acme, attempts(CREATED, card_holder(), 200, at=at + 20 * MINUTE))
    for number in range(60):
        other = snapshot("authorized", transaction=f"other-{number}")
        append_log(acme, attempts(STATES[0], other, 503, at=at + 30 * MINUTE + number * SECOND))
    store_delivery(acme, DELETED, card_holder(), at=at + 88 * MINUTE)
    append_log(acme, attempts(DELETED, card_holder(), 200, at=at + 88 * MINUTE))
    assert drain(acme.engine)
    reconcile_and_process(acme)
    before = feed_types(acme)
    for _ in range(2):
        assert reconcile_and_process(acme).recovered == 0
    assert feed_types(acme) == before
    assert value(acme, "SELECT deleted_at IS NULL FROM ems.card_holders WHERE reference_id = 'employee-17'")


@pytest.mark.parametrize(("first", "recovered"), [(200, 1), (503, 0)], ids=["answered", "answer lost"])
def test_second_creation_of_a_card_holder_is_recovered(acme: World, first: int, recovered: int) -> None:
    """If OpenCard never saw the 200 for the first, what fails later is a retry of it, from before the deletion."""
    at = ago(300 * MINUTE)
    store_delivery(acme, CREATED, card_holder(), at=at)
    append_log(acme, attempts(CREATED, card_holder(), first, at=at))
    store_delivery(acme, DELETED, card_holder(), at=at + 20 * MINUTE)
    append_log(acme, attempts(DELETED, card_holder(), 200, at=at + 20 * MINUTE))
    assert drain(acme.engine)
    reconcile_and_process(acme)
    for number in range(60):
        other = snapshot("authorized", transaction=f"other-{number}")
        append_log(acme, attempts(STATES[0], other, 503, at=at + 100 * MINUTE + number * SECOND))
    append_log(acme, attempts(CREATED, card_holder(), 503, at=at + 110 * MINUTE))
    reconcile_and_process(acme)
    created_again = "SELECT deleted_at IS NULL FROM ems.card_holders WHERE reference_id = 'employee-17'"
    assert value(acme, created_again) is bool(recovered)
    assert reconcile_and_process(acme).recovered == 0


def test_a_corrected_time_does_not_make_the_clocks_differ(acme: World) -> None:
    """A later run reads the retry that arrived, and not the first attempt that its time is corrected to."""
    at = ago(90 * MINUTE)
    store_delivery(acme, CREATED, card_holder(), at=at + 88 * MINUTE)
    append_log(acme, attempts(CREATED, card_holder(), 503, at=at))
    for number in range(60):
        other = snapshot("authorized", transaction=f"other-{number}")
        append_log(acme, attempts(STATES[0], other, 503, at=at + 30 * MINUTE + number * SECOND))
    append_log(acme, attempts(CREATED, card_holder(), 200, at=at + 88 * MINUTE))
    assert drain(acme.engine)
    reconcile_and_process(acme)
    assert value(acme, "SELECT count(*) FROM receiver.confirmations WHERE occurred_at IS NOT NULL") == 1
    lost = snapshot("authorized", transaction="lost")
    append_log(acme, attempts(STATES[0], lost, 503, at=at + 89 * MINUTE))
    assert reconcile_and_process(acme).recovered == 1
    recovered = "SELECT occurred_at FROM ems.events WHERE subject_id = 'lost'"
    assert abs(value(acme, recovered) - (at + 89 * MINUTE)) < MINUTE


def test_reading_more_of_the_log_corrects_the_time_again(acme: World) -> None:
    event, older, newer, query = KINDS["card.transaction.cleared"]
    late_retry(acme, event, older, newer)
    execute(
        acme,
        "INSERT INTO receiver.confirmations (delivery_id, occurred_at)"
        " SELECT id, occurred_at - interval '1 second' FROM receiver.stored_deliveries ORDER BY id DESC LIMIT 1",
    )
    reconcile_and_process(acme)
    assert value(acme, query) == 2


def reconciled(world: World) -> None:
    """Reconcile back to the beginning, and process until nothing waits."""
    reconcile(world, since=ago(timedelta(days=20)))
    for _ in range(3):
        assert drain(world.engine)


def test_late_retry_does_not_delete_a_recreated_card_holder(acme: World) -> None:
    at = ago(3 * MINUTE)
    first = attempts(CREATED, card_holder(), 200, at=at)
    store_delivery(acme, CREATED, card_holder(), at=at)
    append_log(acme, first, attempts(DELETED, card_holder(), 503, at=at + 10 * SECOND))
    store_delivery(acme, CREATED, card_holder(), at=at + 20 * SECOND)
    append_log(acme, attempts(CREATED, card_holder(), 200, at=at + 20 * SECOND))
    store_delivery(acme, DELETED, card_holder(), at=at + 40 * SECOND)
    append_log(acme, attempts(DELETED, card_holder(), 200, at=at + 40 * SECOND))
    assert drain(acme.engine)
    assert value(acme, "SELECT deleted_at IS NOT NULL FROM ems.card_holders")
    reconcile_and_process(acme)
    assert value(acme, "SELECT deleted_at IS NULL FROM ems.card_holders")
    assert sorted(feed_types(acme)) == [CREATED, CREATED, DELETED, CHANGED], "created again after all"


def test_delay_of_a_retry_is_measured_by_the_logs_clock(acme: World) -> None:
    at = ago(2 * MINUTE)
    store_delivery(acme, STATES[0], snapshot("authorized"), at=at)
    append_log(acme, attempts(STATES[0], snapshot("authorized"), 503, at=at + 7 * SECOND / 10 - 30 * SECOND))
    append_log(acme, attempts(STATES[0], snapshot("authorized"), 200, at=at + 7 * SECOND / 10))
    reconcile_and_process(acme)
    assert value(acme, "SELECT occurred_at FROM receiver.deliveries") == at - 30 * SECOND
    assert value(acme, "SELECT authorized_at FROM ems.transactions") == at - 30 * SECOND
    assert value(acme, "SELECT received_at FROM receiver.deliveries") == at


def test_pending_delivery_is_corrected_before_processing(acme: World) -> None:
    at = ago(2 * MINUTE)
    for kind in range(2):
        store_delivery(
            acme, STATES[0], snapshot("authorized", accounting_amount=Decimal(2 - kind)), at=at + kind * 20 * SECOND
        )
    append_log(
        acme, attempts(STATES[0], snapshot("authorized", accounting_amount=Decimal(1)), 503, at=at - 20 * SECOND)
    )
    append_log(acme, attempts(STATES[0], snapshot("authorized", accounting_amount=Decimal(2)), 200, at=at))
    append_log(
        acme, attempts(STATES[0], snapshot("authorized", accounting_amount=Decimal(1)), 200, at=at + 20 * SECOND)
    )
    reconcile_and_process(acme)
    assert value(acme, "SELECT accounting_amount FROM ems.transactions") == 2


def test_a_repeat_is_dated_by_the_delivery_before_it(acme: World) -> None:
    """The answer to the first was lost, something newer arrived, and then the retry."""
    at = ago(2 * MINUTE)
    for number, event in enumerate((DELETED, CREATED, DELETED)):
        store_delivery(acme, event, card_holder(), at=at + number * 20 * SECOND)
    append_log(acme, attempts(DELETED, card_holder(), None, at=at))
    append_log(acme, attempts(CREATED, card_holder(), 200, at=at + 20 * SECOND))
    append_log(acme, attempts(DELETED, card_holder(), 200, at=at + 40 * SECOND))
    assert drain(acme.engine)
    assert value(acme, "SELECT deleted_at IS NOT NULL FROM ems.card_holders"), "by arrival"
    reconcile_and_process(acme)
    assert value(acme, "SELECT deleted_at IS NULL FROM ems.card_holders")
    assert rows(acme, "SELECT received_at - occurred_at AS late FROM receiver.deliveries ORDER BY id") == [
        {"late": timedelta()},
        {"late": timedelta()},
        {"late": 40 * SECOND},
    ]


@pytest.mark.parametrize("kind", ["card.transaction.cleared", "receipt"])
def test_late_retry_with_deleted_body_overwrites_nothing(acme: World, kind: str) -> None:
    event, older, newer, query = KINDS[kind]
    late_retry(acme, event, older, newer)
    execute(acme, "DELETE FROM receiver.bodies")
    reconcile_and_process(acme)
    assert value(acme, query) == 2
    assert rows(acme, "SELECT DISTINCT status FROM receiver.deliveries") == [{"status": "processed"}]
    assert value(acme, "SELECT count(*) FROM receiver.deliveries WHERE occurred_at < received_at") == 1


def test_claimed_delivery_is_corrected_after_the_claim_ends(acme: World) -> None:
    at = ago(2 * MINUTE)
    store_delivery(acme, STATES[0], snapshot("authorized"), at=at)
    append_log(acme, attempts(STATES[0], snapshot("authorized"), 503, at=at - 30 * SECOND))
    append_log(acme, attempts(STATES[0], snapshot("authorized"), 200, at=at))
    dated = "SELECT occurred_at FROM receiver.deliveries"
    execute(acme, "UPDATE receiver.queue SET leased_until = now() + interval '1 minute'")
    reconcile(acme)
    assert value(acme, dated) == at
    execute(acme, "UPDATE receiver.queue SET leased_until = NULL")
    reconcile(acme)
    assert value(acme, dated) == at - 30 * SECOND

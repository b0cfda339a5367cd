"""Replaying what is applied already changes nothing that the EMS can see, whatever happened before."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.records.folds.transactions import RANKS
from tests.support.factories import card_holder, enrichment, sample, snapshot
from tests.support.processing_steps import NOON, occurred, process_in_order
from tests.support.replay_steps import EVERYTHING, ids, product, replay

if TYPE_CHECKING:
    from tests.conftest import Acme

snapshots = st.builds(
    lambda state, amount, number: (
        f"card.transaction.{state}",
        snapshot(state, transaction=f"t{number}", original_amount=amount),
    ),
    st.sampled_from(RANKS),
    st.sampled_from([100, 110]),
    st.integers(1, 2),
)
enrichments = st.builds(
    lambda event, words: (event, enrichment(event, transaction="t1", **words)),
    st.sampled_from(["transaction.line.items", "transaction.true.vat", "receipt.fetched"]),
    st.sampled_from([{}, {"unknown": 1}]),
)
people = st.builds(
    lambda event: (f"card_holder.{event}", card_holder()), st.sampled_from(["created", "deleted", "identified"])
)
others = st.sampled_from(["tpa.signed", "invoice.created", "environmental.impact.deedster"]).map(
    lambda event: (event, sample(event))
)
nonsense = st.sampled_from(
    [("card.frozen", {}), ("card_holder.created", card_holder(organization="globex")), ("tpa.signed", b"{}")]
)
stories = st.lists(snapshots | enrichments | people | others | nonsense, min_size=1, max_size=8)


def applied(acme: Acme, story: list[tuple[str, Any]], order: list[int]) -> None:
    tables = acme.rows(
        "SELECT schemaname || '.' || tablename AS name FROM pg_tables WHERE schemaname = 'ems' AND tablename"
        " IN (SELECT table_name FROM information_schema.columns WHERE table_schema = 'ems'"
        " AND column_name = 'organization_reference_id')"
    )
    names = ", ".join(table["name"] for table in tables)
    acme.execute(
        "TRUNCATE receiver.stored_deliveries, receiver.bodies, receiver.queue, receiver.outcomes,"
        " receiver.confirmations, receiver.replay_deliveries,"
        f" receiver.receipt_downloads, receiver.replays, {names} CASCADE"
    )
    for number, (event, payload) in enumerate(story, start=1):
        acme.deliver_ok(event, payload)
        occurred(acme, number, NOON + timedelta(minutes=number))
    process_in_order(acme, order)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stories, st.data())
def test_replaying_everything_twice_changes_nothing(
    acme: Acme, story: list[tuple[str, Any]], data: st.DataObject
) -> None:
    applied(acme, story, data.draw(st.permutations(range(1, len(story) + 1)), label="order"))
    before, statuses = product(acme), acme.statuses()
    for _ in range(2):
        replayed = replay(acme, EVERYTHING)
        assert replayed.selected == len(story)
        assert replayed.processed == sum(status in {"processed", "duplicate"} for status in statuses)
        assert replayed.processed + replayed.failed == len(story)
        assert (product(acme), acme.statuses()) == (before, statuses)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stories, st.data())
def test_replay_among_new_deliveries_changes_nothing(
    acme: Acme, story: list[tuple[str, Any]], data: st.DataObject
) -> None:
    half = len(story) // 2
    order = list(range(1, len(story) + 1))

    applied(acme, story, order)
    undisturbed = as_values(product(acme))

    applied(acme, story[:half], order[:half])
    again = data.draw(st.lists(st.sampled_from(ids(acme)), unique=True) if half else st.just([]), label="replayed")
    for number, (event, payload) in enumerate(story[half:], start=half + 1):
        acme.deliver_ok(event, payload)
        occurred(acme, number, NOON + timedelta(minutes=number))
    if again:
        replay(acme, tuple(again))
    acme.process()
    assert as_values(product(acme)) == undisturbed


def as_values(answers: dict[str, list[dict[str, Any]]]) -> dict[str, list[Any]]:
    """Leave out what follows arrival: surrogate ids, when rows were written, and in which order within a batch.

    Changes of a purchase that were applied together are one in the journal, so only the sums of its lines are compared.
    """
    arrival = {"position", "recorded_at", "updated_at", "delivery_id"}
    values = {
        table: sorted(({name: row[name] for name in row.keys() - arrival} for row in rows), key=repr)
        for table, rows in answers.items()
    }
    journal = values.pop("ledger_journal")
    return values | {"booked": [added_up(journal, amount) for amount in ("accounting_amount", "vat_amount")]}


def added_up(journal: list[dict[str, Any]], amount: str) -> list[tuple[str, Decimal]]:
    """Return the sum of each transaction's lines."""
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    for line in journal:
        sums[line["transaction_id"]] += line[amount] or 0
    return sorted(sums.items())


def test_replay_keeps_a_corrected_earlier_time(acme: Acme) -> None:
    authorized = [snapshot("authorized", original_amount=amount) for amount in (100, 110, 100)]
    applied(acme, [("card.transaction.authorized", payload) for payload in authorized], [3, 2, 1])
    before = product(acme)
    assert acme.statuses() == ["duplicate", "processed", "processed"]
    replay(acme, tuple(ids(acme)[2:]))
    assert acme.value("SELECT original_amount FROM ems.transactions") == 110
    assert product(acme) == before


def test_card_holder_created_at_is_the_earliest_in_any_order(acme: Acme) -> None:
    applied(acme, [("card_holder.created", card_holder()), ("card_holder.created", card_holder())], [2, 1])
    assert acme.statuses() == ["duplicate", "processed"]
    assert acme.value("SELECT created_at FROM ems.card_holders") == NOON + timedelta(minutes=1)

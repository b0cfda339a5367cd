"""Each layer is derived from the one above it again: what differs is found and rebuilt, and nothing else is."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.cli import main
from receiver.records.folds.transactions import RANKS
from receiver.records.tables import FOLDED
from tests.support.factories import card_holder, enrichment, sample, snapshot
from tests.support.processing_steps import delete_bodies, feed
from tests.support.stories import SENT
from tests.support.verifying import TABLES, contents, found, rebuilt

if TYPE_CHECKING:
    from tests.conftest import Acme

CORRUPTIONS = {
    "ems.transactions": "SET original_amount = original_amount + 1, purchase_merchant = 'somebody else'",
    "ems.card_holders": "SET created_at = created_at - interval '1 day'",
    "ems.tpas": "SET name = 'somebody else'",
    "ems.receipts": "SET original_amount = 1",
    "ems.vat_rates": "SET vat_amount = -1",
    "ems.vat_totals": "SET currency = 'XXX'",
    "ems.line_items": "SET description = 'something else'",
    "ems.environmental_impacts": "SET carbon_emission_in_grams = 7",
    "ems.invoices": "SET invoice_amount = 0",
}


def events_of(number: int) -> list[tuple[str, Any]]:
    purchase = f"t{number:03}"
    return [
        *((f"card.transaction.{state}", snapshot(state, transaction=purchase)) for state in RANKS[: 1 + number % 4]),
        ("transaction.line.items", enrichment("transaction.line.items", transaction=purchase)),
        ("transaction.true.vat", enrichment("transaction.true.vat", transaction=purchase)),
        ("receipt.fetched", enrichment("receipt.fetched", transaction=purchase)),
        ("environmental.impact.deedster", enrichment("environmental.impact.deedster", transaction=purchase)),
        ("card_holder.created", card_holder(f"employee-{number}")),
        ("tpa.signed", sample("tpa.signed", id=f"tpa-{number}")),
        ("invoice.created", sample("invoice.created", id=number)),
    ]


@pytest.fixture
def stocked(acme: Acme) -> Acme:
    """An organization with twelve of everything."""
    for number in range(12):
        for event, payload in events_of(number):
            acme.deliver_ok(event, payload)
    acme.process()
    return acme


def test_nothing_differs_of_what_was_processed(stocked: Acme) -> None:
    assert found(stocked) == []
    assert rebuilt(stocked) == []
    assert stocked.rows("SELECT * FROM ems.events WHERE type = 'receiver.changed'") == []


@pytest.mark.parametrize("table", TABLES)
def test_corrupted_rows_are_all_found_and_rebuilt(stocked: Acme, table: str) -> None:
    before = contents(stocked)
    stocked.execute(f"UPDATE {table} {CORRUPTIONS[table]}")
    number = stocked.value(f"SELECT count(*) FROM {table}")  # noqa: S608 - a constant
    differences = found(stocked)
    assert [(each.table, each.problem) for each in differences] == [(table, "differs")] * number
    assert len(rebuilt(stocked)) == number
    assert contents(stocked) == before
    assert found(stocked) == []
    announced = stocked.rows("SELECT payload FROM ems.events WHERE type = 'receiver.changed'")
    assert {row["payload"]["reason"] for row in announced} == {"rows_rebuilt"}


@pytest.mark.parametrize("table", TABLES)
def test_deleted_rows_are_found_and_rebuilt(stocked: Acme, table: str) -> None:
    before = contents(stocked)
    number = stocked.value(f"SELECT count(*) FROM {table}")  # noqa: S608 - a constant
    stocked.execute(f"DELETE FROM {table}")  # noqa: S608 - a constant
    assert [(each.table, each.problem) for each in found(stocked)] == [(table, "missing")] * number
    rebuilt(stocked)
    assert contents(stocked) == before


@pytest.mark.parametrize("table", TABLES)
def test_rows_that_follow_from_nothing_are_found_and_deleted(stocked: Acme, table: str) -> None:
    before = contents(stocked)
    column = next(each.subject for each in FOLDED.values() if each.name == table)
    columns = [
        row["attname"]
        for row in stocked.rows(
            "SELECT attname FROM pg_attribute WHERE attrelid = CAST(:table AS regclass) AND attnum > 0 "
            "AND NOT attisdropped AND attgenerated = ''",
            table=table,
        )
    ]
    values = ", ".join(f"'zz-' || {name}" if name == column else name for name in columns)
    stocked.execute(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table}")  # noqa: S608
    differences = found(stocked)
    assert {(each.table, each.problem) for each in differences} == {(table, "unexpected")}
    rebuilt(stocked)
    assert contents(stocked) == before
    assert found(stocked) == []


def test_events_that_differ_from_deliveries_are_rewritten(stocked: Acme) -> None:
    before = contents(stocked)
    events = stocked.rows("SELECT * FROM ems.events ORDER BY position")
    stocked.execute(
        "UPDATE ems.events SET payload = payload || '{\"original_amount\": 1}' WHERE type = 'card.transaction.cleared'"
    )
    stocked.execute("UPDATE ems.events SET occurred_at = occurred_at - interval '1 h' WHERE type = 'tpa.signed'")
    tables = {each.table for each in found(stocked)}
    assert tables == {"ems.events", "ems.transactions"}
    rebuilt(stocked)
    assert contents(stocked) == before
    assert stocked.rows("SELECT * FROM ems.events WHERE type <> 'receiver.changed' ORDER BY position") == events


def test_event_that_is_missing_is_processed_again(stocked: Acme) -> None:
    before = contents(stocked)
    number = len(feed(stocked))
    stocked.execute("DELETE FROM ems.events WHERE type = 'invoice.created'")
    assert {each.problem for each in found(stocked) if each.table == "ems.events"} == {"missing"}
    rebuilt(stocked)
    stocked.process()
    assert contents(stocked) == before
    assert len(feed(stocked)) == number
    assert found(stocked) == []


def test_without_bodies_rows_are_still_rebuilt_from_events(stocked: Acme) -> None:
    before = contents(stocked)
    delete_bodies(stocked)
    stocked.execute("UPDATE ems.transactions SET original_amount = 0")
    rebuilt(stocked)
    assert contents(stocked) == before


def test_other_organizations_are_left_alone(stocked: Acme, environment: dict[str, str]) -> None:
    stocked.execute("UPDATE ems.tpas SET name = 'somebody else'")
    run = CliRunner(env=environment)
    shown = run.invoke(main, ["verify", "--organization", "acme", "--json"])
    assert shown.exit_code == 1
    (first, *_) = json.loads(shown.stdout)
    assert first["table"] == "ems.tpas"
    assert first["columns"] == {"name": {"stored": "somebody else", "expected": sample("tpa.signed")["name"]}}
    assert run.invoke(main, ["verify", "--organization", "globex"]).exit_code == 1
    assert run.invoke(main, ["rebuild", "--organization", "acme"]).exit_code == 0
    clean = run.invoke(main, ["verify"])
    assert (clean.exit_code, clean.stdout) == (0, "No rows differ.\n")


@pytest.mark.parametrize("kind", SENT)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_nothing_differs_after_any_story(acme: Acme, kind: str, data: st.DataObject) -> None:
    events = data.draw(st.lists(SENT[kind], min_size=1, max_size=5), label="events")
    for number, (event, payload) in enumerate(events):
        acme.deliver_ok(event, payload)
        if data.draw(st.booleans(), label="process") or number == len(events) - 1:
            acme.process()
    assert found(acme) == []


def test_a_few_corrupted_rows_among_many_are_found_and_no_other(stocked: Acme) -> None:
    chosen = random.Random(7).sample(range(12), 3)  # noqa: S311 - the same each time
    ids = [f"t{number:03}" for number in chosen]
    stocked.execute("UPDATE ems.transactions SET original_amount = 1 WHERE id = ANY(:ids)", ids=ids)
    differences = found(stocked)
    assert sorted(each.key["id"] for each in differences) == sorted(ids)
    assert all(each.columns["original_amount"][0] == Decimal(1) for each in differences)

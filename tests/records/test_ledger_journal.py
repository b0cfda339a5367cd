"""The ledger's journal: its lines up to a position add up to the ledger at that position; lines are only added."""

from __future__ import annotations

from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError

from receiver.processing.drain import Processor
from receiver.records.journal import AMOUNTS, LINE
from tests.support.factories import enrichment, snapshot
from tests.support.processing_steps import process_again
from tests.support.program import db
from tests.support.roles import connected_as, new_role
from tests.support.verifying import found, rebuilt

if TYPE_CHECKING:
    from tests.conftest import Acme, Organizations

JOURNAL = "SELECT * FROM ems.ledger_journal ORDER BY position, line"
NEWEST = "SELECT coalesce(max(position), 0) FROM ems.events"
COLUMNS = ", ".join(LINE)
LEDGER = f"SELECT transaction_id, {COLUMNS} FROM ems.ledger ORDER BY transaction_id"  # noqa: S608
AS_OF = f"SELECT transaction_id, {COLUMNS} FROM ems.ledger_as_of(:position) ORDER BY transaction_id"  # noqa: S608
SUMS = f"""
SELECT transaction_id, {", ".join(f"sum({name}) AS {name}" for name in AMOUNTS)}, sum(sign) AS lines
FROM ems.ledger_journal WHERE position <= :position
GROUP BY transaction_id HAVING sum(sign) <> 0 ORDER BY transaction_id
"""  # noqa: S608
CLEARED, VAT, RECEIPT = "card.transaction.cleared", "transaction.true.vat", "receipt.fetched"


def kinds(acme: Acme) -> list[str]:
    return [row["kind"] for row in acme.rows(JOURNAL)]


def test_purchase_is_booked_once_with_its_line(acme: Acme) -> None:
    acme.apply("card.transaction.authorized", snapshot("authorized"))
    assert acme.rows(JOURNAL) == []
    acme.apply(CLEARED, snapshot("cleared"))
    line = acme.row(JOURNAL)
    assert (line["kind"], line["sign"], line["changed"]) == ("booking", 1, None)
    assert line["position"] == acme.value(NEWEST)
    assert {name: line[name] for name in LINE} == acme.row(f"SELECT {COLUMNS} FROM ems.ledger")  # noqa: S608
    acme.apply("card.transaction.invoiced", snapshot("invoiced"))
    assert kinds(acme) == ["booking"]


def test_changed_line_is_reversed_and_booked_again(acme: Acme) -> None:
    acme.apply(CLEARED, snapshot("cleared"))
    acme.apply(CLEARED, snapshot("cleared", accounting_amount=Decimal("1300.00")))
    _, reversal, correction = acme.rows(JOURNAL)
    assert (reversal["kind"], reversal["accounting_amount"]) == ("reversal", Decimal("-1249.06"))
    assert (correction["kind"], correction["accounting_amount"]) == ("correction", Decimal("1300.00"))
    assert correction["changed"] == ["accounting_amount"]
    assert (reversal["line"], correction["line"]) == (1, 2)
    assert reversal["position"] == correction["position"] == acme.value(NEWEST)


def test_clearing_that_turns_negative_is_a_correction(acme: Acme) -> None:
    acme.apply(CLEARED, snapshot("cleared", vat_amount=None))
    changed: dict[str, Any] = {
        "original_amount": Decimal("-109.38"),
        "accounting_amount": Decimal("-1249.06"),
        "vat_amount": None,
    }
    acme.apply(CLEARED, snapshot("cleared", **changed))
    assert kinds(acme) == ["booking", "reversal", "correction"]
    assert acme.rows(JOURNAL)[-1]["changed"] == ["original_amount", "accounting_amount"]
    assert acme.value("SELECT sum(accounting_amount) FROM ems.ledger_journal") == Decimal("-1249.06")


@pytest.mark.parametrize(
    ("event", "changed"),
    [
        (VAT, ["vat_amount", "vat_source"]),
        (RECEIPT, ["receipt_state"]),
        ("transaction.line.items", None),
    ],
)
def test_later_vat_and_receipt_are_booked_as_corrections(acme: Acme, event: str, changed: list[str] | None) -> None:
    acme.apply(CLEARED, snapshot("cleared"))
    acme.apply(event, enrichment(event))
    lines = acme.rows(JOURNAL)
    assert kinds(acme) == ["booking", *(["reversal", "correction"] if changed else [])]
    assert lines[-1]["changed"] == changed


def test_early_enrichments_are_in_the_booking(acme: Acme) -> None:
    for event in (VAT, RECEIPT):
        acme.apply(event, enrichment(event))
    acme.apply(CLEARED, snapshot("cleared"))
    line = acme.row(JOURNAL)
    assert (line["vat_source"], line["receipt_state"]) == ("merchant", "reported")


def test_retries_and_replays_book_nothing(acme: Acme) -> None:
    acme.apply(CLEARED, snapshot("cleared"))
    acme.apply(CLEARED, snapshot("cleared"))
    process_again(acme)
    assert kinds(acme) == ["booking"]


STORY = st.lists(
    st.tuples(
        st.sampled_from(["one", "two"]),
        st.sampled_from(["authorized", "deleted", "cleared", "cleared", "invoiced", VAT, RECEIPT]),
        st.sampled_from(["10.00", "-10.00", "7.5", None]),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


def send(acme: Acme, transaction: str, what: str, amount: str | None) -> None:
    number = None if amount is None else Decimal(amount)
    if what == RECEIPT:
        acme.deliver_ok(what, enrichment(what, transaction=transaction, url=f"https://files.invalid/{amount}"))
    elif what == VAT:
        totals = [{"vat_amount": number, "currency": "EUR"}]
        acme.deliver_ok(what, enrichment(what, transaction=transaction, totals=totals))
    else:
        changes = {"original_amount": number, "card_holder": {"reference_id": f"employee-{amount}"}}
        acme.deliver_ok(f"card.transaction.{what}", snapshot(what, transaction=transaction, **changes))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=STORY)
def test_journal_adds_up_to_the_ledger_at_every_position(
    acme: Acme, story: list[tuple[str, str, str | None, bool]]
) -> None:
    acme.execute(
        "TRUNCATE ems.transactions, ems.receipts, ems.vat_rates, ems.vat_totals, ems.events, ems.ledger_journal"
    )
    known: list[tuple[int, list[dict[str, Any]], list[dict[str, Any]]]] = []
    for transaction, what, amount, process in [*story, ("one", "authorized", None, True)]:
        send(acme, transaction, what, amount)
        if process:
            acme.process()
            known.append((acme.value(NEWEST), acme.rows(LEDGER), acme.rows(JOURNAL)))
    at_last = acme.rows(JOURNAL)
    for position, ledger, journal in known:
        assert at_last[: len(journal)] == journal
        assert acme.rows(AS_OF, position=position) == ledger
        summed = acme.rows(SUMS, position=position)
        assert [row["transaction_id"] for row in summed] == [row["transaction_id"] for row in ledger]
        for row, line in zip(summed, ledger, strict=True):
            assert row["lines"] == 1
            assert all((row[name] or 0) == (line[name] or 0) for name in AMOUNTS)
    assert [each for each in found(acme) if each.table == "ems.ledger_journal"] == []


@pytest.mark.parametrize(
    "statement", ["UPDATE ems.ledger_journal SET accounting_amount = 1", "DELETE FROM ems.ledger_journal"]
)
def test_line_is_never_changed(acme: Acme, statement: str) -> None:
    acme.apply(CLEARED, snapshot("cleared"))
    with pytest.raises(DBAPIError, match="neither changed nor deleted"):
        acme.execute(statement)


def test_rebuild_books_what_the_journal_lacks(acme: Acme) -> None:
    acme.apply(CLEARED, snapshot("cleared"))
    acme.execute("TRUNCATE ems.ledger_journal")
    (difference,) = found(acme)
    assert (difference.table, difference.problem) == ("ems.ledger_journal", "missing")
    rebuilt(acme)
    assert found(acme) == []
    assert kinds(acme) == ["booking"]
    assert acme.row(JOURNAL)["position"] == acme.value(NEWEST)


def test_rebuild_corrects_what_differs_and_books_that(acme: Acme) -> None:
    acme.apply(CLEARED, snapshot("cleared"))
    acme.execute("UPDATE ems.transactions SET accounting_amount = 1")
    acme.apply(RECEIPT, enrichment(RECEIPT))
    assert acme.rows(JOURNAL)[-1]["accounting_amount"] == Decimal(1)
    rebuilt(acme)
    assert acme.rows(JOURNAL)[-1]["accounting_amount"] == Decimal("1249.06")
    assert found(acme) == []


def test_purchase_without_events_leaves_the_ledger_by_a_reversal(acme: Acme) -> None:
    acme.apply(CLEARED, snapshot("cleared"))
    acme.apply(CLEARED, snapshot("cleared", transaction="another"))
    acme.execute("DELETE FROM ems.events WHERE transaction_id = 'transaction-1'")
    acme.execute("DELETE FROM receiver.bodies")
    acme.execute("DELETE FROM receiver.outcomes")
    rebuilt(acme)
    last = acme.rows("SELECT * FROM ems.ledger_journal WHERE transaction_id = 'transaction-1' ORDER BY position, line")
    assert [row["kind"] for row in last] == ["booking", "reversal"]
    (line,) = acme.rows(AS_OF, position=acme.value(NEWEST))
    assert line["transaction_id"] == "another"


def test_restricted_reader_sees_its_own_lines(organizations: Organizations) -> None:
    acme, globex = organizations.adopt("acme"), organizations.adopt("globex")
    for organization in (acme, globex):
        owner = {"organization": {"reference_id": organization.registration.organization_reference_id}}
        organization.apply(CLEARED, snapshot("cleared") | owner)
    with new_role(acme.engine.url) as role:
        assert db(acme.engine.url, "grant-reader", role, "--organization", "acme").exit_code == 0
        with connected_as(acme.engine.url, role) as connection:
            for query in (
                "SELECT organization_reference_id FROM ems.ledger_journal",
                "SELECT organization_reference_id FROM ems.ledger_as_of(1000)",
            ):
                assert connection.execute(query.encode()).fetchall() == [("acme",)]


def test_line_that_returns_is_booked_without_a_reversal(acme: Acme) -> None:
    acme.apply(CLEARED, snapshot("cleared"))
    acme.execute("UPDATE ems.transactions SET state = 'authorized'")
    acme.apply(VAT, enrichment(VAT))
    assert kinds(acme) == ["booking", "reversal"]
    acme.apply(RECEIPT, enrichment(RECEIPT))
    assert kinds(acme) == ["booking", "reversal"]
    acme.execute("UPDATE ems.transactions SET state = 'cleared'")
    acme.apply(RECEIPT, enrichment(RECEIPT, url="https://files.opencard.invalid/another"))
    assert kinds(acme) == ["booking", "reversal", "correction"]
    assert acme.rows(JOURNAL)[-1]["changed"] is None
    assert acme.value("SELECT sum(sign) FROM ems.ledger_journal") == 1


OTHERS = 3000
"""Purchases that are booked by SQL, for the same organization."""
BOOK_OTHERS = (
    """
INSERT INTO ems.transactions (organization_reference_id, id, state, card_holder_reference_id, cleared_at, booked_on,
    snapshot_at, delivery_id, updated_at)
SELECT 'acme', 'other-' || n, 'cleared', 'employee', now(), '2026-02-13', now(), n, now()
FROM generate_series(1, :number) AS n
""",
    """
INSERT INTO ems.ledger_journal (position, line, organization_reference_id, transaction_id, kind, sign, booked_on,
    card_holder_reference_id, receipt_state, recorded_at)
SELECT 1, 100 + n, 'acme', 'other-' || n, 'booking', 1, '2026-02-13', 'employee', 'none', now()
FROM generate_series(1, :number) AS n
""",
)
READ = "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables"


def test_booking_reads_no_other_purchases_as_the_ledger_grows(acme: Acme) -> None:
    """Also where PostgreSQL has no statistics of the tables yet, as after an installation."""
    with closing(Processor(acme.engine)) as processor:
        for number in range(3):
            acme.deliver_ok(CLEARED, snapshot("cleared", transaction=f"early-{number}"))
            assert processor.drain()
        for statement in BOOK_OTHERS:
            acme.execute(statement, number=OTHERS)
        before = tuples_read(acme, processor)
        acme.deliver_ok(CLEARED, snapshot("cleared", transaction="late"))
        assert processor.drain()
        assert tuples_read(acme, processor) - before < OTHERS / 2
    assert acme.value("SELECT count(*) FROM ems.ledger_journal WHERE transaction_id = 'late'") == 1


def tuples_read(acme: Acme, processor: Processor) -> int:
    """Return how many rows were read from all tables so far, by the processor and by others."""
    processor.connection("first").execute("SELECT pg_stat_force_next_flush()")
    acme.value("SELECT CAST(pg_stat_force_next_flush() AS text)")
    return int(acme.value(READ))

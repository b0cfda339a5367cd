"""Closing a month: refused while anything is missing; what changes later is listed once; the hash proves the lines."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.cli import main
from receiver.ops.closing import NotClosed, close_month, read_certificate, verify_closing
from tests.support.checked import check
from tests.support.factories import enrichment, snapshot

if TYPE_CHECKING:
    from receiver.ops.closing import Certificate
    from tests.conftest import Acme, Organizations

CLEARED = "card.transaction.cleared"
LATE = "SELECT * FROM ems.late_changes ORDER BY position"
MONTH = date(2026, 2, 1)


def book(acme: Acme, transaction: str, amount: str = "10.00", day: str = "2026-02-13") -> None:
    changes: dict[str, Any] = {"accounting_amount": Decimal(amount), "purchase_date": day}
    acme.apply(CLEARED, snapshot("cleared", transaction=transaction, **changes))


def closed(acme: Acme) -> Certificate:
    check(acme)
    return close_month(acme.engine, "acme", MONTH, by="operator")


def test_closing_notes_what_the_month_has(acme: Acme) -> None:
    book(acme, "one")
    book(acme, "two", "-2.50")
    book(acme, "march", day="2026-03-01")
    closed(acme)
    row = acme.row("SELECT * FROM ems.closings")
    assert (row["organization_reference_id"], row["month"], row["closed_by"]) == ("acme", MONTH, "operator")
    assert (row["lines"], row["sums"], row["vat_sums"]) == (2, {"SEK": "7.50"}, {"EUR": "43.76"})
    assert row["position"] == acme.value("SELECT max(position) FROM ems.events")
    assert row["complete_through"] == acme.value("SELECT complete_through FROM ems.completeness")


def refusal(acme: Acme, month: date = MONTH) -> list[str]:
    with pytest.raises(NotClosed) as refused:
        close_month(acme.engine, "acme", month, by="operator")
    assert acme.rows("SELECT * FROM ems.closings") == []
    return refused.value.reasons


def test_month_is_not_closed_before_its_log_was_read(acme: Acme) -> None:
    assert "has not been read" in refusal(acme)[0]


def test_month_is_not_closed_while_something_is_missing(acme: Acme) -> None:
    acme.apply(CLEARED, snapshot("cleared", original_amount="a lot"))
    check(acme)
    (reason,) = refusal(acme)
    assert reason.startswith(f"1 dead {CLEARED}, the first at ")
    assert reason.endswith(" UTC (receiver deliveries list --status dead --organization acme)")


def test_month_is_not_closed_while_something_waits(acme: Acme) -> None:
    acme.deliver_ok(CLEARED, snapshot("cleared"))
    acme.execute("UPDATE receiver.stored_deliveries SET occurred_at = '2026-02-13 12:00:00Z'")
    check(acme)
    assert refusal(acme)[0].startswith("it is complete through 2026-02-13 ")


def test_month_that_has_not_ended_is_not_closed(acme: Acme) -> None:
    check(acme)
    assert refusal(acme, date(9998, 12, 1)) == ["it has not ended yet (UTC)"]


def test_certificate_says_from_when_the_log_shows_what_is_missing(acme: Acme) -> None:
    added = acme.value("SELECT added_at FROM ems.organizations")
    assert acme.value("SELECT complete_from FROM ems.completeness") == added
    assert closed(acme).complete_from == added
    assert acme.value("SELECT complete_from FROM ems.closings") == added


def test_month_is_closed_once(acme: Acme) -> None:
    closed(acme)
    with pytest.raises(NotClosed, match="closed already"):
        close_month(acme.engine, "acme", MONTH, by="operator")


def test_acknowledged_gaps_are_in_the_certificate(acme: Acme) -> None:
    acme.apply(CLEARED, snapshot("cleared", original_amount="a lot"))
    check(acme)
    certificate = close_month(acme.engine, "acme", MONTH, by="operator", acknowledge="entered by hand")
    assert certificate.acknowledged_gaps == 1
    (gap,) = certificate.acknowledged
    assert (gap["kind"], gap["acknowledged_by"], gap["reason"]) == ("delivery", "operator", "entered by hand")


def test_later_change_is_listed_with_before_and_after(acme: Acme) -> None:
    book(acme, "one")
    closed(acme)
    book(acme, "one", "12.00")
    row = acme.row(LATE)
    assert (row["month"], row["transaction_id"], row["kind"]) == (MONTH, "one", "changed")
    assert (row["accounting_amount_before"], row["accounting_amount_after"]) == (Decimal("10.00"), Decimal("12.00"))
    assert row["changed"] == ["accounting_amount"]
    assert read_certificate(acme.engine, "acme", MONTH).late_changes == 1


def test_line_that_is_added_or_moves_away_is_a_late_change(acme: Acme) -> None:
    book(acme, "one")
    closed(acme)
    book(acme, "one", day="2026-03-02")
    book(acme, "two")
    assert [(row["transaction_id"], row["kind"]) for row in acme.rows(LATE)] == [("one", "removed"), ("two", "added")]


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    story=st.lists(
        st.tuples(
            st.sampled_from(["one", "two"]),
            st.sampled_from(["1.00", "2.00"]),
            st.sampled_from(["2026-02-13", "2026-02-28", "2026-03-01"]),
        ),
        min_size=2,
        max_size=6,
    ),
    data=st.data(),
)
def test_each_change_of_a_closed_month_is_listed_once(
    acme: Acme, story: list[tuple[str, str, str]], data: st.DataObject
) -> None:
    acme.execute("TRUNCATE ems.transactions, ems.events, ems.ledger_journal, ems.closings, receiver.reconcile_runs")
    month = "SELECT transaction_id, booked_on, accounting_amount FROM ems.ledger WHERE booked_on < '2026-03-01'"
    close_after = data.draw(st.integers(0, len(story) - 1))
    expected = []
    for number, (transaction, amount, day) in enumerate(story):
        if number == close_after:
            closed(acme)
        before = {row["transaction_id"]: tuple(row.values()) for row in acme.rows(month)}
        book(acme, transaction, amount, day)
        after = {row["transaction_id"]: tuple(row.values()) for row in acme.rows(month)}
        if number >= close_after and before != after:
            expected.append((transaction, before.get(transaction), after.get(transaction)))
    listed = []
    for row in acme.rows(LATE):
        lines = [
            (row["transaction_id"], row[f"booked_on_{side}"], row[f"accounting_amount_{side}"])
            if row["kind"] not in absent
            else None
            for side, absent in (("before", {"added"}), ("after", {"removed"}))
        ]
        listed.append((row["transaction_id"], *lines))
    assert listed == expected
    assert verify_closing(acme.engine, read_certificate(acme.engine, "acme", MONTH)) == {}


def test_event_that_changes_no_line_is_no_late_change(acme: Acme) -> None:
    book(acme, "one")
    closed(acme)
    book(acme, "one")
    book(acme, "march", day="2026-03-01")
    acme.apply("transaction.line.items", enrichment("transaction.line.items", transaction="one"))
    invoiced: dict[str, Any] = {"accounting_amount": Decimal("10.00"), "purchase_date": "2026-02-13"}
    acme.apply("card.transaction.invoiced", snapshot("invoiced", transaction="one", **invoiced))
    assert acme.rows(LATE) == []


def test_lines_that_were_tampered_with_are_found(acme: Acme) -> None:
    book(acme, "one")
    closed(acme)
    acme.execute("SET LOCAL session_replication_role = replica; UPDATE ems.ledger_journal SET accounting_amount = 11")
    found = verify_closing(acme.engine, read_certificate(acme.engine, "acme", MONTH))
    assert set(found) == {"sums", "sha256"}
    assert found["sums"] == ({"SEK": "10.00"}, {"SEK": "11"})


def test_command_closes_shows_and_verifies(acme: Acme, environment: dict[str, str]) -> None:
    book(acme, "one")
    run = CliRunner(env=environment)
    refused = run.invoke(main, ["close", "acme", "2026-02", "--json"])
    assert (refused.exit_code, json.loads(refused.stdout)["closed"]) == (1, False)
    people = run.invoke(main, ["close", "acme", "2026-02"])
    assert people.stderr.startswith("receiver: 2026-02 of acme cannot be closed: the delivery log has not been read")
    check(acme)
    made = run.invoke(main, ["close", "acme", "2026-02"])
    assert made.exit_code == 0, made.output
    shown = run.invoke(main, ["close", "acme", "2026-02", "--show", "--json"])
    certificate = json.loads(shown.stdout)
    assert (certificate["month"], certificate["lines"], certificate["sums"]) == ("2026-02", 1, {"SEK": "10.00"})
    assert certificate["sha256"] in made.stdout
    verified = run.invoke(main, ["close", "acme", "2026-02", "--verify", "--json"])
    assert (verified.exit_code, json.loads(verified.stdout)["verified"]) == (0, True)
    acme.execute("UPDATE ems.closings SET lines = 7")
    assert run.invoke(main, ["close", "acme", "2026-02", "--verify"]).exit_code == 1
    assert run.invoke(main, ["close", "acme", "2026-03", "--show"]).exit_code == 1
    assert run.invoke(main, ["close", "acme", "2026-13"]).exit_code == 2


def test_a_month_has_four_digits_for_its_year(organizations: Organizations, environment: dict[str, str]) -> None:
    acme = organizations.adopt("ACME & sons")
    run = CliRunner(env=environment)
    missing = run.invoke(main, ["close", "ACME & sons", "0099-02", "--show"])
    assert missing.stderr == ("receiver: 0099-02 of ACME & sons is not closed: receiver close 'ACME & sons' 0099-02\n")
    check(acme)
    closed = run.invoke(main, ["close", "ACME & sons", "0099-02", "--json"])
    assert json.loads(closed.stdout)["month"] == "0099-02"
    wrong = run.invoke(main, ["close", "ACME & sons", "2026-13"])
    assert (wrong.exit_code, "invalid month '2026-13': give one such as 2026-10" in wrong.stderr) == (2, True)

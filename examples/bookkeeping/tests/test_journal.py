"""Books in which nothing is changed, against the real service: corrections, late changes, a restored database."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import bookkeeping
import journal
import pytest
from bookkeeping import NotCompleteError, Total
from journal import close, open_books, post, totals

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from receiver.testing.kit import ReceiverKit

NORDLYS = "nordlys-as"
FEBRUARY, MARCH = "2026-02", "2026-03"
PURCHASE = {
    "purchase_date": "2026-02-14",
    "accounting_amount": "125.00",
    "accounting_currency": "NOK",
    "vat_amount": "25.00",
    "vat_currency": "NOK",
}


@pytest.fixture
def books() -> Iterator[sqlite3.Connection]:
    with closing(open_books(":memory:")) as books:
        yield books


def amounts(purchases: str, vat: str) -> list[Total]:
    return [Total("card_expenses", "NOK", Decimal(purchases)), Total("input_vat", "NOK", Decimal(vat))]


def postings(books: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """Return the postings of card expenses, without VAT, in order: kind, month, amount."""
    query = "SELECT kind, month, amount FROM postings WHERE account = 'card_expenses' ORDER BY rowid"
    return books.execute(query).fetchall()


def test_correction_is_a_reversal_and_a_new_line(
    opencard_receiver: ReceiverKit, ems: bookkeeping.Ems, books: sqlite3.Connection
) -> None:
    [sent] = opencard_receiver.trigger("cleared", fields=PURCHASE)
    opencard_receiver.wait_until_applied()
    assert post(ems, books) == 1
    opencard_receiver.trigger(
        "cleared", fields={**PURCHASE, "id": sent["id"], "accounting_amount": "99.00", "vat_amount": "19.80"}
    )
    opencard_receiver.wait_until_applied()
    assert (post(ems, books), post(ems, books)) == (2, 0)
    assert postings(books) == [
        ("booking", FEBRUARY, "100.00"),
        ("reversal", FEBRUARY, "-100.00"),
        ("correction", FEBRUARY, "79.20"),
    ]
    assert totals(books, NORDLYS, FEBRUARY) == amounts("79.20", "19.80")


def test_late_change_leaves_a_closed_month_as_it_is(
    opencard_receiver: ReceiverKit, ems: bookkeeping.Ems, books: sqlite3.Connection
) -> None:
    [sent] = opencard_receiver.trigger("cleared", fields=PURCHASE)
    opencard_receiver.wait_until_applied()
    opencard_receiver.reconcile()
    assert close(ems, books, NORDLYS, FEBRUARY) == amounts("100.00", "25.00")
    rates = [{"vat_amount": Decimal("12.50"), "percentage": Decimal(12), "currency": "NOK"}]
    receipt = {"transaction.id": sent["id"], "vat_rates": rates, "totals": []}
    opencard_receiver.trigger("transaction.true.vat", fields=receipt)
    opencard_receiver.trigger("cleared", fields={**PURCHASE, "accounting_amount": "50.00", "vat_amount": "10.00"})
    opencard_receiver.wait_until_applied()
    assert post(ems, books) == 3
    assert totals(books, NORDLYS, FEBRUARY) == amounts("100.00", "25.00")
    assert totals(books, NORDLYS, MARCH) == amounts("52.50", "-2.50")


def test_month_with_a_lost_purchase_is_not_closed(
    opencard_receiver: ReceiverKit, ems: bookkeeping.Ems, books: sqlite3.Connection
) -> None:
    opencard_receiver.trigger("cleared", fields=PURCHASE, lose=True)
    with pytest.raises(NotCompleteError):
        close(ems, books, NORDLYS, FEBRUARY)
    opencard_receiver.reconcile()
    opencard_receiver.wait_until_applied()
    assert close(ems, books, NORDLYS, FEBRUARY) == amounts("100.00", "25.00")


def test_purchase_sent_again_after_two_days_is_posted_once(
    opencard_receiver: ReceiverKit, ems: bookkeeping.Ems, books: sqlite3.Connection
) -> None:
    opencard_receiver.trigger("cleared", fields=PURCHASE)
    opencard_receiver.send_again(after=timedelta(days=2))
    opencard_receiver.wait_until_applied()
    assert post(ems, books) == 1


def test_lines_of_one_position_may_be_in_two_batches(
    opencard_receiver: ReceiverKit, ems: bookkeeping.Ems, books: sqlite3.Connection
) -> None:
    [sent] = opencard_receiver.trigger("cleared", fields=PURCHASE)
    opencard_receiver.wait_until_applied()
    opencard_receiver.trigger("cleared", fields={**PURCHASE, "id": sent["id"], "accounting_amount": "99.00"})
    opencard_receiver.wait_until_applied()
    assert post(ems, books, batch=1) == 3
    assert [kind for kind, _, _ in postings(books)] == ["booking", "reversal", "correction"]
    [read] = opencard_receiver.rows(
        "SELECT position, (SELECT max(position) FROM ems.events) AS newest FROM ems.consumers"
    )
    assert read["position"] == read["newest"]


def test_what_a_restored_database_lost_is_posted_once(
    opencard_receiver: ReceiverKit, ems: bookkeeping.Ems, books: sqlite3.Connection
) -> None:
    opencard_receiver.trigger("cleared", fields=PURCHASE, count=2)
    opencard_receiver.wait_until_applied()
    assert post(ems, books) == 2
    opencard_receiver.begin_epoch(lost=True)
    opencard_receiver.reconcile()
    opencard_receiver.wait_until_applied()
    assert post(ems, books) == 2
    assert [kind for kind, _, _ in postings(books)] == 2 * ["booking"] + 2 * ["cancellation"] + 2 * ["booking"]
    assert totals(books, NORDLYS, FEBRUARY) == amounts("200.00", "50.00")
    opencard_receiver.begin_epoch()
    assert post(ems, books) == 0


def test_failover_that_lost_nothing_cancels_nothing(
    opencard_receiver: ReceiverKit, ems: bookkeeping.Ems, books: sqlite3.Connection
) -> None:
    opencard_receiver.trigger("cleared", fields=PURCHASE)
    opencard_receiver.wait_until_applied()
    assert post(ems, books) == 1
    opencard_receiver.begin_epoch()
    opencard_receiver.trigger("cleared", fields=PURCHASE)
    opencard_receiver.wait_until_applied()
    assert post(ems, books) == 1
    assert [kind for kind, _, _ in postings(books)] == ["booking", "booking"]


def test_vat_in_another_currency_is_not_posted(
    opencard_receiver: ReceiverKit, ems: bookkeeping.Ems, books: sqlite3.Connection
) -> None:
    opencard_receiver.trigger("cleared", fields={**PURCHASE, "vat_currency": "SEK"})
    opencard_receiver.wait_until_applied()
    assert post(ems, books) == 1
    assert totals(books, NORDLYS, FEBRUARY) == amounts("125.00", "0")


def test_january_follows_a_closed_december(books: sqlite3.Connection) -> None:
    books.execute("INSERT INTO closed VALUES (?, '2026-12')", [NORDLYS])
    assert journal.open_month(books, NORDLYS, "2026-12-31") == "2027-01"


def test_program_closes_a_month(opencard_receiver: ReceiverKit, tmp_path: Path) -> None:
    opencard_receiver.trigger("cleared", fields=PURCHASE)
    opencard_receiver.wait_until_applied()
    opencard_receiver.reconcile()
    variables = {**os.environ, "EMS_URL": opencard_receiver.ems_url, "BOOKS": str(tmp_path / "journal.sqlite")}
    command = [sys.executable, journal.__file__, "close", NORDLYS, FEBRUARY]
    printed = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout
    assert [line.split() for line in printed.splitlines()] == [
        ["card_expenses", "100.00", "NOK"],
        ["input_vat", "25.00", "NOK"],
    ]

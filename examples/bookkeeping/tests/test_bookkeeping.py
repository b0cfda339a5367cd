"""The program against the real service: each test has an empty database, and sends what it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import bookkeeping
import psycopg
import pytest
from bookkeeping import NotCompleteError, Total, book, month, open_books

from receiver.errors import OperationRefused

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from receiver.testing.kit import ReceiverKit

NORDLYS = "nordlys-as"
FEBRUARY = {
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


def test_month_adds_up(opencard_receiver: ReceiverKit, ems: bookkeeping.Ems, books: sqlite3.Connection) -> None:
    opencard_receiver.trigger("cleared", fields=FEBRUARY, count=2)
    opencard_receiver.trigger("cleared", fields={**FEBRUARY, "purchase_date": "2026-03-01"})
    opencard_receiver.wait_until_applied()
    opencard_receiver.reconcile()
    assert month(ems, books, NORDLYS, "2026-02") == [
        Total("card_expenses", "NOK", Decimal("200.00")),
        Total("input_vat", "NOK", Decimal("50.00")),
    ]


def test_month_is_refused_until_it_is_complete(
    opencard_receiver: ReceiverKit, ems: bookkeeping.Ems, books: sqlite3.Connection
) -> None:
    opencard_receiver.trigger("cleared", fields=FEBRUARY, lose=True)
    with pytest.raises(NotCompleteError):
        month(ems, books, NORDLYS, "2026-02")
    opencard_receiver.reconcile()  # it finds the purchase in OpenCard's log
    opencard_receiver.wait_until_applied()
    assert sum(total.amount for total in month(ems, books, NORDLYS, "2026-02")) == 125


def test_month_is_refused_while_a_purchase_is_not_applied(
    opencard_receiver: ReceiverKit, ems: bookkeeping.Ems, books: sqlite3.Connection
) -> None:
    opencard_receiver.trigger("cleared", fields={**FEBRUARY, "accounting_amount": "no amount"})
    opencard_receiver.wait_until_applied(failures_allowed=True)
    opencard_receiver.reconcile()
    with pytest.raises(NotCompleteError, match="1 event is missing"):
        month(ems, books, NORDLYS, "2026-02")


def test_corrected_purchase_is_booked_once(
    opencard_receiver: ReceiverKit, ems: bookkeeping.Ems, books: sqlite3.Connection
) -> None:
    [sent] = opencard_receiver.trigger("cleared", fields=FEBRUARY)
    opencard_receiver.wait_until_applied()
    assert book(ems, books) == 1
    corrected = {**FEBRUARY, "id": sent["id"], "accounting_amount": "99.00", "vat_amount": "19.80"}
    opencard_receiver.trigger("cleared", fields=corrected, duplicate=True)
    opencard_receiver.wait_until_applied()
    assert book(ems, books) == 1
    entries = books.execute("SELECT account, amount FROM entries ORDER BY account").fetchall()
    assert entries == [("card_expenses", "79.20"), ("input_vat", "19.80")]


def test_deleted_purchase_is_not_booked(
    opencard_receiver: ReceiverKit, ems: bookkeeping.Ems, books: sqlite3.Connection
) -> None:
    opencard_receiver.trigger("authorized", then=["deleted"], fields=FEBRUARY)
    opencard_receiver.wait_until_applied()
    assert book(ems, books) == 2
    assert books.execute("SELECT count(*) FROM entries").fetchone() == (0,)


def test_vat_of_the_receipt_replaces_the_networks(
    opencard_receiver: ReceiverKit, ems: bookkeeping.Ems, books: sqlite3.Connection
) -> None:
    [sent] = opencard_receiver.trigger("cleared", fields=FEBRUARY)
    rates = [{"vat_amount": Decimal("12.50"), "percentage": Decimal(12), "currency": "NOK"}]
    receipt = {"transaction.id": sent["id"], "vat_rates": rates, "totals": []}
    opencard_receiver.trigger("transaction.true.vat", fields=receipt)
    opencard_receiver.wait_until_applied()
    assert book(ems, books) == 2
    entries = books.execute("SELECT account, amount FROM entries ORDER BY account").fetchall()
    assert entries == [("card_expenses", "112.50"), ("input_vat", "12.50")]


def test_books_survive_a_restore_of_the_database(
    opencard_receiver: ReceiverKit, ems: bookkeeping.Ems, books: sqlite3.Connection
) -> None:
    [sent] = opencard_receiver.trigger("cleared", fields=FEBRUARY)
    opencard_receiver.wait_until_applied()
    book(ems, books)
    booked = books.execute("SELECT * FROM entries").fetchall()
    assert opencard_receiver.begin_epoch(lost=True) == 1
    book(ems, books)
    assert books.execute("SELECT * FROM entries").fetchall() == booked
    with pytest.raises(NotCompleteError):
        month(ems, books, NORDLYS, "2026-02")
    opencard_receiver.reconcile()  # OpenCard's log has what the database lost
    opencard_receiver.wait_until_applied()
    opencard_receiver.trigger("cleared", fields={**FEBRUARY, "id": sent["id"], "accounting_amount": "99.00"})
    opencard_receiver.wait_until_applied()
    assert sum(total.amount for total in month(ems, books, NORDLYS, "2026-02")) == 99


def test_nothing_can_be_sent_again_before_something_arrived(opencard_receiver: ReceiverKit) -> None:
    with pytest.raises(OperationRefused, match="trigger an event first"):
        opencard_receiver.send_again()


def test_purchase_sent_again_after_two_days_is_booked_once(
    opencard_receiver: ReceiverKit, ems: bookkeeping.Ems, books: sqlite3.Connection
) -> None:
    opencard_receiver.trigger("cleared", fields=FEBRUARY)
    opencard_receiver.send_again(after=timedelta(days=2))
    opencard_receiver.wait_until_applied()
    sent = opencard_receiver.rows("SELECT fingerprint FROM ems.events WHERE type = 'card.transaction.cleared'")
    assert (len(sent), sent[0]) == (2, sent[1])
    book(ems, books)
    assert books.execute("SELECT account, amount FROM entries ORDER BY account").fetchall() == [
        ("card_expenses", "100.00"),
        ("input_vat", "25.00"),
    ]


@pytest.mark.parametrize("test", ["first", "second"])
def test_own_database_is_empty_in_each_test(opencard_receiver: ReceiverKit, test: str) -> None:
    with psycopg.connect(opencard_receiver.own_url, autocommit=True) as own:
        own.execute("CREATE TABLE bookings AS SELECT %s AS test", [test])
    with psycopg.connect(opencard_receiver.own_url) as own:
        assert own.execute("SELECT test FROM bookings").fetchall() == [(test,)]


def test_file_of_a_receipt_can_be_read(opencard_receiver: ReceiverKit) -> None:
    opencard_receiver.trigger("cleared", then=["receipt.fetched"], fields=FEBRUARY)
    opencard_receiver.wait_until_downloaded()
    [receipt] = opencard_receiver.rows("SELECT file_key FROM ems.receipts")
    assert opencard_receiver.receipt_file(receipt["file_key"])


def test_program_reports_a_closed_month(opencard_receiver: ReceiverKit, tmp_path: Path) -> None:
    opencard_receiver.trigger("cleared", fields=FEBRUARY)
    opencard_receiver.wait_until_applied()
    opencard_receiver.reconcile()
    opencard_receiver.run("close", NORDLYS, "2026-02")
    variables = {**os.environ, "EMS_URL": opencard_receiver.ems_url, "BOOKS": str(tmp_path / "books.sqlite")}
    command = [sys.executable, bookkeeping.__file__, "month", NORDLYS, "2026-02"]
    printed = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout
    assert [line.split() for line in printed.splitlines()] == [
        ["card_expenses", "100.00", "NOK"],
        ["input_vat", "25.00", "NOK"],
    ]
    [closing_row] = opencard_receiver.rows("SELECT lines, sums FROM ems.closings")
    assert closing_row == {"lines": 1, "sums": {"NOK": "125.00"}}


def test_month_from_before_the_log_begins_is_refused(
    opencard_receiver: ReceiverKit, ems: bookkeeping.Ems, books: sqlite3.Connection
) -> None:
    opencard_receiver.reconcile()
    assert month(ems, books, NORDLYS, "2020-01") == []
    with pytest.raises(NotCompleteError, match="OpenCard's log covers it from 2020-01-01"):
        month(ems, books, NORDLYS, "2019-12")
    with pytest.raises(NotCompleteError, match="organization 'acme' is unknown"):
        month(ems, books, "acme", "2020-01")

"""Follows the feed, books transactions from schema ``ems``, and reports a month once it is complete.

    EMS_URL=postgresql://ems_reader:...@host/receiver  python bookkeeping.py book
    EMS_URL=postgresql://ems_reader:...@host/receiver  python bookkeeping.py month nordlys-as 2026-02

Books are in SQLite, in the file that ``BOOKS`` names (books.sqlite). Each transaction is a net amount on the account
``card_expenses`` and its VAT on ``input_vat``; VAT in another currency is not split off. A transaction that changes is
booked again, whatever the number and order of its events.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row

if TYPE_CHECKING:
    from collections.abc import Iterable

    Row = dict[str, Any]
    Ems = psycopg.Connection[Row]

BATCH = 500
TABLES = """
CREATE TABLE IF NOT EXISTS position (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), position INTEGER NOT NULL);
INSERT OR IGNORE INTO position VALUES (1, 0);
CREATE TABLE IF NOT EXISTS entries (
    organization TEXT, transaction_id TEXT, account TEXT, booked_on TEXT, amount TEXT, currency TEXT,
    PRIMARY KEY (organization, transaction_id, account)
)"""
FEED = """
SELECT position, organization_reference_id, transaction_id FROM ems.events
WHERE position > %s ORDER BY position LIMIT %s"""
MISSED = "SELECT greatest(deleted_through, epoch_start) > %s AS missed FROM ems.feed_horizon"
NEWEST = """
SELECT greatest(
    (SELECT max(position) FROM ems.events), (SELECT greatest(deleted_through, epoch_start) FROM ems.feed_horizon), 0
) AS newest"""
LINES = """
SELECT organization_reference_id, transaction_id, booked_on, accounting_amount, accounting_currency,
    CASE WHEN vat_currency = accounting_currency THEN vat_amount END AS vat_amount
FROM ems.ledger"""
OF_THESE = " WHERE (organization_reference_id, transaction_id) IN (SELECT * FROM unnest(%s::text[], %s::text[]))"
COMPLETE = (
    "SELECT complete_from, complete_through, open_gaps FROM ems.completeness WHERE organization_reference_id = %s"
)


class NotCompleteError(Exception):
    """Transactions of a month may be missing."""


@dataclass(frozen=True)
class Total:
    """Total of an account for a month."""

    account: str
    currency: str | None
    amount: Decimal


def book(ems: Ems, books: sqlite3.Connection) -> int:
    """Book what changed since the last time; return the number of events."""
    events = 0
    while batch := book_batch(ems, books):
        events += batch
    return events


def book_batch(ems: Ems, books: sqlite3.Connection) -> int:
    """Book one batch of the feed. Books and position are committed together: after an interruption it is read again."""
    (position,) = books.execute("SELECT position FROM position").fetchone()
    events = ems.execute(FEED, [position, BATCH]).fetchall()
    horizon = ems.execute(MISSED, [position]).fetchone()  # after the batch, so at least as new
    with books:
        if horizon and horizon["missed"]:
            newest = ems.execute(NEWEST).fetchone()  # before the ledger, which is then at least as new
            # other entries are kept: what the database lost in a restore will be in the ledger again
            enter(books, ems.execute(LINES))
            position = newest["newest"] if newest else 0
        elif events:
            keys = {
                (event["organization_reference_id"], event["transaction_id"])
                for event in events
                if event["transaction_id"]
            }
            books.executemany("DELETE FROM entries WHERE organization = ? AND transaction_id = ?", list(keys))
            enter(books, ems.execute(LINES + OF_THESE, [[key[0] for key in keys], [key[1] for key in keys]]))
            position = events[-1]["position"]
        books.execute("UPDATE position SET position = ?", [position])
    ems.execute("SELECT ems.commit_position(session_user::text, %s)", [position])
    return len(events)


def enter(books: sqlite3.Connection, lines: Iterable[Row]) -> None:
    """Enter lines of the ledger, replacing earlier ones: the net amount, and VAT in the same currency."""
    for line in lines:
        vat = line["vat_amount"] or Decimal(0)
        amounts = {"card_expenses": (line["accounting_amount"] or Decimal(0)) - vat, "input_vat": vat}
        for account, amount in amounts.items():
            key = (line["organization_reference_id"], line["transaction_id"], account)
            value = (line["booked_on"].isoformat(), str(amount), line["accounting_currency"])
            books.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?)", [*key, *value])


def month(ems: Ems, books: sqlite3.Connection, organization: str, name: str) -> list[Total]:
    """Return the totals of a month (``2026-02``). Raises ``NotCompleteError`` if transactions may be missing."""
    check_complete(ems, organization, name)
    book(ems, books)
    entries = "SELECT account, currency, amount FROM entries WHERE organization = ? AND booked_on LIKE ?"
    return add_up(books.execute(entries, [organization, f"{name}-%"]))


def check_complete(ems: Ems, organization: str, name: str) -> None:
    """Raise ``NotCompleteError`` while transactions of a month (``2026-02``) may be missing."""
    year, number = map(int, name.split("-"))
    begin, end = datetime(year, number, 1, tzinfo=UTC), datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    row = ems.execute(COMPLETE, [organization]).fetchone()
    if row is None:
        raise NotCompleteError(f"organization {organization!r} is unknown")
    if row["complete_through"] is None:
        raise NotCompleteError(f"{name} of {organization} is not complete: OpenCard's log has not been read yet")
    if begin < row["complete_from"] or row["complete_through"] < end:
        covered = f"from {row['complete_from'].astimezone(UTC)} to {row['complete_through'].astimezone(UTC)}"
        raise NotCompleteError(f"{name} of {organization} is not complete: OpenCard's log covers it {covered}")
    if row["open_gaps"]:
        events = "1 event is" if row["open_gaps"] == 1 else f"{row['open_gaps']} events are"
        raise NotCompleteError(f"{name} of {organization} is not complete: {events} missing or not applied")


def add_up(entries: Iterable[tuple[str, str | None, str]]) -> list[Total]:
    """Return the totals of entries (account, currency, amount)."""
    totals: dict[tuple[str, str | None], Decimal] = {}
    for account, currency, amount in entries:
        totals[account, currency] = totals.get((account, currency), Decimal(0)) + Decimal(amount)
    in_order = sorted(totals.items(), key=lambda total: (total[0][0], total[0][1] or ""))
    return [Total(account, currency, amount) for (account, currency), amount in in_order]


def open_books(file: str) -> sqlite3.Connection:
    """Open the books, and create missing tables."""
    books = sqlite3.connect(file)
    books.executescript(TABLES)
    return books


def connect(url: str) -> Ems:
    """Connect to the database that has schema ems."""
    return psycopg.connect(url, autocommit=True, row_factory=dict_row)


def main() -> None:
    """Do what the command line says."""
    with connect(os.environ["EMS_URL"]) as ems, closing(open_books(os.environ.get("BOOKS", "books.sqlite"))) as books:
        match sys.argv[1:]:
            case ["book"]:
                print(f"{book(ems, books)} events booked")
            case ["month", organization, name]:
                try:
                    totals = month(ems, books, organization, name)
                except NotCompleteError as error:
                    raise SystemExit(str(error)) from None
                for total in totals:
                    print(f"{total.account:<13} {total.amount:>12} {total.currency}")
            case _:
                raise SystemExit("usage: bookkeeping.py book | month ORGANIZATION YYYY-MM")


if __name__ == "__main__":
    main()

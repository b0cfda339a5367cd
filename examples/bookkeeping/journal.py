"""Posts the lines of ``ems.ledger_journal`` to books in which nothing is ever changed, not even by a late correction.

    EMS_URL=postgresql://ems_reader:...@host/receiver  python journal.py post
    EMS_URL=postgresql://ems_reader:...@host/receiver  python journal.py close nordlys-as 2026-02

Books are in SQLite, in the file that ``BOOKS`` names (journal.sqlite). Each line is posted once, as a net amount on
the account ``card_expenses`` and its VAT on ``input_vat``. A line of a month that is closed in these books is posted in
the first open month after it, so a closed month keeps its totals.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING

from bookkeeping import NotCompleteError, Total, add_up, check_complete, connect

if TYPE_CHECKING:
    from bookkeeping import Ems, Row

BATCH = 500
TABLES = """
CREATE TABLE IF NOT EXISTS position (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1), position INTEGER NOT NULL, line INTEGER NOT NULL
);
INSERT OR IGNORE INTO position VALUES (1, 0, 0);
CREATE TABLE IF NOT EXISTS closed (organization TEXT, month TEXT, PRIMARY KEY (organization, month));
CREATE TABLE IF NOT EXISTS postings (
    position INTEGER, line INTEGER, kind TEXT, account TEXT, organization TEXT, transaction_id TEXT, booked_on TEXT,
    month TEXT, amount TEXT, currency TEXT,
    PRIMARY KEY (position, line, kind, account)
)"""
NEWEST = "SELECT coalesce(max(position), 0) AS newest FROM ems.events"
JOURNAL = """
SELECT position, line, organization_reference_id, transaction_id, kind, booked_on,
    accounting_amount, accounting_currency,
    CASE WHEN vat_currency = accounting_currency THEN vat_amount END AS vat_amount
FROM ems.ledger_journal WHERE (position, line) > (%s, %s) ORDER BY position, line LIMIT %s"""
EPOCH = "SELECT epoch_start FROM ems.feed_horizon"
STILL_THERE = "SELECT position, line FROM ems.ledger_journal WHERE position <= %s"
POST = "INSERT INTO postings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
CANCELLATION = "cancellation"
NOT_CANCELLED = """
SELECT position, line, account, organization, transaction_id, booked_on, amount, currency FROM postings AS posting
WHERE kind <> 'cancellation' AND NOT EXISTS (
    SELECT 1 FROM postings AS cancelled WHERE cancelled.kind = 'cancellation'
        AND (cancelled.position, cancelled.line) = (posting.position, posting.line)
)"""


def post(ems: Ems, books: sqlite3.Connection, *, batch: int = BATCH) -> int:
    """Post the lines of the journal that are new; return how many."""
    posted = 0
    while True:
        newest = ems.execute(NEWEST).fetchone()  # before the lines: the journal has all up to there
        lines, done = post_batch(ems, books, batch)
        posted += lines
        if done:
            ems.execute("SELECT ems.commit_position(session_user::text, %s)", [newest["newest"] if newest else 0])
            return posted


def post_batch(ems: Ems, books: sqlite3.Connection, batch: int) -> tuple[int, bool]:
    """Post one batch; return how many lines, and whether none is left.

    Postings and position are committed together: if the program is killed here, it reads the batch again.
    """
    position, line = books.execute("SELECT position, line FROM position").fetchone()
    lines = ems.execute(JOURNAL, [position, line, batch]).fetchall()
    horizon = ems.execute(EPOCH).fetchone()  # after the batch, so at least as new
    epoch_start = horizon["epoch_start"] if horizon else 0
    new_epoch = epoch_start > position
    if new_epoch:
        lines = [each for each in lines if each["position"] <= epoch_start]
    with books:
        for each in lines:
            post_line(books, each)
            position, line = each["position"], each["line"]
        if new_epoch and not lines:
            cancel_lost(ems, books, epoch_start)
            position, line = epoch_start, 0
        books.execute("UPDATE position SET position = ?, line = ?", [position, line])
    return len(lines), not lines and not new_epoch


def post_line(books: sqlite3.Connection, line: Row) -> None:
    """Post one line of the journal: its net amount, and VAT in the same currency."""
    vat = line["vat_amount"] or Decimal(0)
    organization, day = line["organization_reference_id"], line["booked_on"].isoformat()
    for account, amount in (("card_expenses", (line["accounting_amount"] or Decimal(0)) - vat), ("input_vat", vat)):
        key = (line["position"], line["line"], line["kind"], account, organization, line["transaction_id"], day)
        books.execute(POST, [*key, open_month(books, organization, day), str(amount), line["accounting_currency"]])


def cancel_lost(ems: Ems, books: sqlite3.Connection, epoch_start: int) -> None:
    """Cancel what was posted from lines that a restored database has lost: its transactions will be booked again."""
    there = {(row["position"], row["line"]) for row in ems.execute(STILL_THERE, [epoch_start])}
    for position, line, account, organization, transaction, day, amount, currency in books.execute(
        NOT_CANCELLED
    ).fetchall():
        if (position, line) not in there:
            month = open_month(books, organization, day)
            key = (position, line, CANCELLATION, account, organization, transaction, day)
            books.execute(POST, [*key, month, str(-Decimal(amount)), currency])


def open_month(books: sqlite3.Connection, organization: str, day: str) -> str:
    """Return the month of *day*, or the first one after it that is not closed in these books."""
    month = day[:7]
    while books.execute("SELECT 1 FROM closed WHERE organization = ? AND month = ?", [organization, month]).fetchone():
        year, number = map(int, month.split("-"))
        month = f"{year + number // 12:04}-{number % 12 + 1:02}"
    return month


def close(ems: Ems, books: sqlite3.Connection, organization: str, month: str) -> list[Total]:
    """Close a month (``2026-02``) in these books, and return its totals, which do not change any more.

    Raises ``NotCompleteError`` while transactions of it may be missing.
    """
    check_complete(ems, organization, month)
    post(ems, books)
    with books:
        books.execute("INSERT OR IGNORE INTO closed VALUES (?, ?)", [organization, month])
    return totals(books, organization, month)


def totals(books: sqlite3.Connection, organization: str, month: str) -> list[Total]:
    """Return what was posted in a month."""
    query = "SELECT account, currency, amount FROM postings WHERE organization = ? AND month = ?"
    return add_up(books.execute(query, [organization, month]))


def open_books(file: str) -> sqlite3.Connection:
    """Open the books, and create missing tables."""
    books = sqlite3.connect(file)
    books.executescript(TABLES)
    return books


def main() -> None:
    """Do what the command line says."""
    with connect(os.environ["EMS_URL"]) as ems, closing(open_books(os.environ.get("BOOKS", "journal.sqlite"))) as books:
        match sys.argv[1:]:
            case ["post"]:
                print(f"{post(ems, books)} lines posted")
            case ["close", organization, month]:
                try:
                    closed = close(ems, books, organization, month)
                except NotCompleteError as error:
                    raise SystemExit(str(error)) from None
                for total in closed:
                    print(f"{total.account:<13} {total.amount:>12} {total.currency}")
            case _:
                raise SystemExit("usage: journal.py post | close ORGANIZATION YYYY-MM")


if __name__ == "__main__":
    main()

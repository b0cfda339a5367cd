"""The ledger's journal: each database transaction that changes lines of the ledger also appends to the journal.

A changed line is reversed and booked again, so the journal up to a position adds up to the ledger at that position.
Changes are found by comparing with the view ``ems.ledger`` under the feed's lock, so the rule for a line exists only
once. Several events of a purchase in one transaction are one change, at the last of their positions.
"""

from __future__ import annotations

from typing import Final

from receiver.sql import read_sql

JOURNAL: Final = "ems.ledger_journal"
AMOUNTS: Final = ("original_amount", "accounting_amount", "vat_amount")
LINE: Final = (
    "booked_on",
    "card_holder_reference_id",
    "original_amount",
    "original_currency",
    "accounting_amount",
    "accounting_currency",
    "vat_amount",
    "vat_currency",
    "vat_source",
    "receipt_state",
)
"""The columns of a line of the ledger whose changes are booked."""


def _of(row: str, columns: tuple[str, ...] = LINE) -> str:
    return ", ".join(f"{row}.{name}" for name in columns)


BOOK_CHANGES: Final = read_sql(
    __package__,
    "journal",
    columns=", ".join(LINE),
    entry=_of("entry"),
    booked=_of("booked"),
    before=_of("before"),
    after=_of("after"),
    reversed=", ".join(f"-before.{name} AS {name}" if name in AMOUNTS else f"before.{name}" for name in LINE),
    differing=", ".join(f"CASE WHEN before.{name} IS DISTINCT FROM after.{name} THEN '{name}' END" for name in LINE),
)
"""Books the changes of the purchases in the setting ``receiver.purchases`` (``organization``, ``id``)."""

"""The ledger's journal: what was booked, reversed and corrected, in the order of the feed."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, Index, Integer, SmallInteger, Text
from sqlalchemy.orm import Mapped, mapped_column

from receiver.db import EMS, Base
from receiver.records.models import columns as c


class JournalLine(Base):
    """A line of the journal: a booking, or the reversal of one."""

    __tablename__ = "ledger_journal"
    __table_args__ = (
        CheckConstraint("kind IN ('booking', 'reversal', 'correction')", name="kind"),
        CheckConstraint("sign = CASE kind WHEN 'reversal' THEN -1 ELSE 1 END", name="sign"),
        Index("ix_ledger_journal_transaction", "organization_reference_id", "transaction_id", "position", "line"),
        Index("ix_ledger_journal_booked_on", "booked_on", "organization_reference_id"),
        {
            "schema": EMS,
            "comment": "Every change of ems.ledger (day, amounts, currencies, VAT, card holder, state of the receipt), "
            "as a reversal of the previous line and a new line; a change of receipt or card holder is a pair with "
            "equal amounts. Lines are only added; none changes later, except that the reference of an erased card "
            "holder is replaced. The amounts of all lines up to a position add up to the ledger at that position, and "
            "the signs to its number of lines. Several events of a transaction that were applied together are one "
            "change.",
        },
    )

    position: Mapped[int] = mapped_column(
        BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="Position in ems.events of the event that changed the line; of several applied together, the last",
    )
    line: Mapped[int] = mapped_column(
        Integer, primary_key=True, autoincrement=False, comment="Number of the line at its position, from 1"
    )
    organization_reference_id: Mapped[str] = c.column(c.ORGANIZATION)
    transaction_id: Mapped[str] = c.column("OpenCard's id of the transaction (ems.transactions.id)")
    kind: Mapped[str] = c.column(
        "booking: the first line of a transaction; reversal: cancels the previous line; correction: the new line "
        "instead of it, for example when a cleared amount turned negative"
    )
    sign: Mapped[int] = mapped_column(
        SmallInteger, comment="-1 for a reversal, else 1; the sum is the number of lines in the ledger"
    )
    changed: Mapped[list[str] | None] = mapped_column(
        ARRAY(Text),
        comment="Columns of a correction that differ from the reversed line; null for bookings and reversals, and for "
        "a transaction that returns to the ledger",
    )
    booked_on: Mapped[date] = mapped_column(
        comment="The line's booked_on in the ledger, a day without a zone; a reversal has that of the line it reverses"
    )
    card_holder_reference_id: Mapped[str] = c.column(c.CARD_HOLDER)
    original_amount: Mapped[Decimal | None] = c.column(
        "The line's original_amount in the ledger, in major units of original_currency, negated in a reversal; null "
        "when not reported"
    )
    original_currency: Mapped[str | None] = c.column(
        f"Currency of the purchase, {c.ISO_CURRENCY}; null when not reported"
    )
    accounting_amount: Mapped[Decimal | None] = c.column(
        "The line's accounting_amount in the ledger, in major units of accounting_currency, negated in a reversal; "
        "null when not reported"
    )
    accounting_currency: Mapped[str | None] = c.column(
        f"Currency of accounting_amount, {c.ISO_CURRENCY}; null when not reported"
    )
    vat_amount: Mapped[Decimal | None] = c.column(
        "The line's vat_amount in the ledger, in major units of vat_currency, negated in a reversal; null when none "
        "was reported"
    )
    vat_currency: Mapped[str | None] = c.column(
        "Currency of vat_amount, as in the ledger (normally ISO 4217); null when no VAT or no currency was reported"
    )
    vat_source: Mapped[str | None] = c.column("merchant or network, as in the ledger; null when no VAT was reported")
    receipt_state: Mapped[str] = c.column("none, reported or stored, as in the ledger")
    recorded_at: Mapped[datetime] = c.column("When the line was written")


class Closing(Base):
    """A month that accounting has closed."""

    __tablename__ = "closings"
    __table_args__ = (
        {
            "schema": EMS,
            "comment": "Months that an operator closed (receiver close), and what the ledger contained then. A month "
            "is closed once; later changes of it are in ems.late_changes.",
        },
    )

    organization_reference_id: Mapped[str] = c.key(c.ORGANIZATION)
    month: Mapped[date] = mapped_column(
        primary_key=True,
        comment="First day of the month, without a zone; the lines of a month are those with a booked_on in it",
    )
    closed_at: Mapped[datetime] = c.column("When it was closed")
    closed_by: Mapped[str] = c.column("Who closed it: user@host of the command line, or the user of the console")
    complete_from: Mapped[datetime] = c.column(
        "complete_from of ems.completeness when it was closed; if the month began before, what OpenCard sent earlier "
        "may be missing"
    )
    complete_through: Mapped[datetime] = c.column(
        "complete_through of ems.completeness when it was closed: everything that OpenCard sent from complete_from "
        "until then was applied, except the acknowledged gaps"
    )
    acknowledged_gaps: Mapped[int] = c.whole_number(
        "Number of events of the organization, missing or not applied, that an operator had acknowledged or "
        "resolved; 0 if none"
    )
    position: Mapped[int] = c.whole_number(
        "Newest position of the feed when it was closed; ems.ledger_as_of(position) is the ledger at that time"
    )
    lines: Mapped[int] = c.whole_number("Number of lines that the ledger had in the month, credits included")
    sums: Mapped[dict[str, Any]] = c.column(
        "Net sum of accounting_amount of these lines (credits are negative) by accounting_currency; exact, as strings; "
        "the key is an empty string for lines without a currency"
    )
    vat_sums: Mapped[dict[str, Any]] = c.column(
        "Net sum of vat_amount of these lines by vat_currency, in the same form"
    )
    sha256: Mapped[str] = c.column(
        "SHA-256 of these lines without the card holder, hexadecimal; receiver close --verify computes it again"
    )

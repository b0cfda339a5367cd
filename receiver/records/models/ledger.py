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
        Index("ix_ledger_journal_booked_on", "organization_reference_id", "booked_on"),
        {
            "schema": EMS,
            "comment": "How the ledger came to be what it is: each change of a line of ems.ledger (day, amounts, "
            "currencies, VAT, card holder, state of the receipt) as the reversal of the line before and the line as it "
            "is then. Lines are only added; but for the reference of a card holder who is erased, none ever changes. "
            "The amounts of all lines up to a position add up to the ledger as it was at it, and so does sign to the "
            "number of its lines. Events of one purchase that took effect together are one change.",
        },
    )

    position: Mapped[int] = mapped_column(
        BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="Position in ems.events of what changed the line; grows as the feed does",
    )
    line: Mapped[int] = mapped_column(
        Integer, primary_key=True, autoincrement=False, comment="Number of the line at its position, from 1"
    )
    organization_reference_id: Mapped[str] = c.column(c.ORGANIZATION)
    transaction_id: Mapped[str] = c.column("OpenCard's id of the transaction (ems.transactions.id)")
    kind: Mapped[str] = c.column(
        "booking: the first line of a purchase; reversal: takes the line before back; correction: takes its place, "
        "for example when a clearing turned negative"
    )
    sign: Mapped[int] = mapped_column(
        SmallInteger, comment="-1 of a reversal, else 1: they add up to the ledger's lines"
    )
    changed: Mapped[list[str] | None] = mapped_column(
        ARRAY(Text),
        comment="Of a correction: the columns that differ from the line that was reversed; null for others, and for a "
        "purchase that came back to the ledger",
    )
    booked_on: Mapped[date] = mapped_column(
        comment="The line's booked_on in the ledger, a day without a zone; of a reversal, that of the line"
    )
    card_holder_reference_id: Mapped[str] = c.column(c.CARD_HOLDER)
    original_amount: Mapped[Decimal | None] = c.column(
        "The line's original_amount in the ledger, in major units, negated in a reversal; null when not reported"
    )
    original_currency: Mapped[str | None] = c.column("Currency of the purchase (ISO 4217); null when not reported")
    accounting_amount: Mapped[Decimal | None] = c.column(
        "The line's accounting_amount in the ledger, in major units, negated in a reversal; null when not reported"
    )
    accounting_currency: Mapped[str | None] = c.column(
        "The customer's home currency (ISO 4217); null when not reported"
    )
    vat_amount: Mapped[Decimal | None] = c.column(
        "The line's vat_amount in the ledger, in major units, negated in a reversal; null when none was reported"
    )
    vat_currency: Mapped[str | None] = c.column("Currency of vat_amount (ISO 4217); null when no VAT was reported")
    vat_source: Mapped[str | None] = c.column("merchant or network, as in the ledger; null when no VAT was reported")
    receipt_state: Mapped[str] = c.column("none, reported or stored, as in the ledger")
    recorded_at: Mapped[datetime] = c.column("When the line was written, in UTC")


class Closing(Base):
    """A month that accounting has closed."""

    __tablename__ = "closings"
    __table_args__ = (
        {
            "schema": EMS,
            "comment": "Months of organizations that were closed (receiver close): what the ledger had then. A month "
            "is closed once; what changes in it later is in late_changes.",
        },
    )

    organization_reference_id: Mapped[str] = c.key(c.ORGANIZATION)
    month: Mapped[date] = mapped_column(
        primary_key=True, comment="First day of the month, without a zone; its lines are those whose booked_on is in it"
    )
    closed_at: Mapped[datetime] = c.column("When it was closed, in UTC")
    closed_by: Mapped[str] = c.column("Who closed it: user and host of the command")
    complete_through: Mapped[datetime] = c.column(
        "Everything that OpenCard sent until then, in UTC, was here and applied, as ems.completeness said"
    )
    acknowledged_gaps: Mapped[int] = c.whole_number(
        "How many events of the organization an operator had acknowledged as missing; 0 without any"
    )
    position: Mapped[int] = c.whole_number("Newest position of the feed when it was closed: ems.ledger_as_of(position)")
    lines: Mapped[int] = c.whole_number("How many lines the ledger had in the month")
    sums: Mapped[dict[str, Any]] = c.column(
        "accounting_amount of these lines, added up by accounting_currency; amounts as texts, exact; the currency is "
        "empty where none was reported"
    )
    vat_sums: Mapped[dict[str, Any]] = c.column("vat_amount of these lines, likewise by vat_currency")
    sha256: Mapped[str] = c.column("SHA-256 of these lines, hexadecimal; receiver close --verify computes it again")

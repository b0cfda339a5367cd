"""Column factories: every column of ``ems`` states its meaning, unit and source in a comment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Computed, Date, DateTime, LargeBinary, Numeric, Text, Time
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

if TYPE_CHECKING:
    from datetime import date, datetime, time
    from decimal import Decimal

ORGANIZATION = "The EMS's own id of the organization (source: organization.reference_id)"
CARD_HOLDER = "The EMS's own id of the card holder (source: card_holder.reference_id)"
TRANSACTION = "OpenCard's id of the transaction, the same through all its states (source: transaction.id)"
UPDATED = "When this row last changed here, in UTC; follows arrival, not the purchase"
LEARNED = "When the event that these values come from reached us, or OpenCard's first attempt at it, in UTC"
DELIVERY = "Delivery that the current values come from (receiver.deliveries.id)"

URL_HASH = r"sha256(decode(replace(url, '\', '\\'), 'escape'))"
"""The bytes of a text, as an expression that PostgreSQL takes for immutable."""


def key(comment: str) -> Mapped[str]:
    """Return a text column of the primary key."""
    return mapped_column(Text, primary_key=True, comment=comment)


def text(comment: str) -> Mapped[str | None]:
    """Return a nullable text column."""
    return mapped_column(Text, comment=comment)


def required_text(comment: str) -> Mapped[str]:
    """Return a text column that is never null."""
    return mapped_column(Text, comment=comment)


def amount(comment: str) -> Mapped[Decimal | None]:
    """Return an exact amount: digits as received, no rounding."""
    return mapped_column(Numeric, comment=comment)


def moment(comment: str) -> Mapped[datetime | None]:
    """Return a nullable point in time."""
    return mapped_column(DateTime(timezone=True), comment=comment)


def required_moment(comment: str) -> Mapped[datetime]:
    """Return a point in time that is never null."""
    return mapped_column(DateTime(timezone=True), comment=comment)


def day(comment: str) -> Mapped[date | None]:
    """Return a calendar day without a zone."""
    return mapped_column(Date, comment=comment)


def clock(comment: str) -> Mapped[time | None]:
    """Return a time of day without a zone."""
    return mapped_column(Time, comment=comment)


def whole_number(comment: str) -> Mapped[int | None]:
    """Return a nullable integer of 64 bits."""
    return mapped_column(BigInteger, comment=comment)


def reference(comment: str) -> Mapped[int]:
    """Return an integer of 64 bits that is never null."""
    return mapped_column(BigInteger, comment=comment)


def yes_or_no(comment: str) -> Mapped[bool | None]:
    """Return a nullable boolean."""
    return mapped_column(comment=comment)


def document(comment: str) -> Mapped[dict[str, Any]]:
    """Return a JSON document, with U+FFFD in the place of NUL characters."""
    return mapped_column(JSONB, comment=comment)


def url_hash(comment: str) -> Mapped[bytes]:
    """Return a column of the primary key for ``url``, which may be longer than a key can be."""
    return mapped_column(LargeBinary, Computed(URL_HASH, persisted=True), primary_key=True, comment=comment)

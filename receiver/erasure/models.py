"""Tables of the erasure of card holders."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, SmallInteger, func, text
from sqlalchemy.orm import Mapped, mapped_column

from receiver.db import RECEIVER, Base, encrypted


class ErasureKey(Base):
    """The key by which erased card holders get their pseudonyms, in one row; made when it is first needed."""

    __tablename__ = "erasure_key"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"), {"schema": RECEIVER})

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    key: Mapped[bytes] = encrypted("hexadecimal digits")


class ErasedCardHolder(Base):
    """A card holder whose references are erased, or are being erased: known by the pseudonym alone."""

    __tablename__ = "erased_card_holders"
    __table_args__ = (
        Index("ix_erased_card_holders_erased_at", "erased_at"),
        Index("ix_erased_card_holders_unfinished", "erased_at", postgresql_where=text("finished_at IS NULL")),
        {"schema": RECEIVER},
    )

    organization_reference_id: Mapped[str] = mapped_column(primary_key=True)
    pseudonym: Mapped[str] = mapped_column(
        primary_key=True, comment="replaces the reference; keyed, so that it cannot be guessed"
    )
    erased_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="from when on the reference is replaced in what is processed"
    )
    finished_at: Mapped[datetime | None] = mapped_column(
        comment="when it was replaced in all that was stored before; null while that is in progress"
    )
    recreated_at: Mapped[datetime | None] = mapped_column(
        comment="since when the reference is in use again: the card holder was created again"
    )
    late_deliveries: Mapped[int] = mapped_column(
        server_default="0", comment="deliveries that were processed under the pseudonym since"
    )
    late_at: Mapped[datetime | None] = mapped_column(comment="when the last of them was")

"""Tables of retention: its runs, and how far it got."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, Identity, Index, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from receiver.db import RECEIVER, Base


class RetentionRun(Base):
    """One run that deleted expired data: how many of each kind, and whether something is left."""

    __tablename__ = "retention_runs"
    __table_args__ = (Index("ix_retention_runs_started_at", "started_at"), {"schema": RECEIVER})

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    removed: Mapped[dict[str, int]] = mapped_column(
        JSONB, server_default=text("'{}'"), comment="how much of each kind went"
    )
    caught_up: Mapped[bool | None] = mapped_column(
        comment="whether all expired data was deleted; false: the next run continues"
    )
    error: Mapped[str | None] = mapped_column(Text)


class RetentionWalk(Base):
    """How far retention has walked through a table in this pass."""

    __tablename__ = "retention_walks"
    __table_args__ = ({"schema": RECEIVER},)

    kind: Mapped[str] = mapped_column(Text, primary_key=True, comment="what is deleted on this walk")
    position: Mapped[int] = mapped_column(BigInteger, server_default="0", comment="the last row that was looked at")
    pass_began_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), comment="when the walk last began at the first row"
    )

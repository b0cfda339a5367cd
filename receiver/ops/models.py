"""Tables: replays, and records of the audit."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Identity, Index, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from receiver.db import RECEIVER, Base


class DeployRow(Base):
    """A version, noted when a scheduler first ran with another one than before."""

    __tablename__ = "deploys"
    __table_args__ = ({"schema": RECEIVER},)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    version: Mapped[str] = mapped_column(Text)


class Replay(Base):
    """Stored deliveries that a person had processed again: who, when, why, which, and the outcome."""

    __tablename__ = "replays"
    __table_args__ = (
        Index("ix_replays_unfinished", "id", postgresql_where=text("ended_at IS NULL")),
        {"schema": RECEIVER},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    requested_by: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    filter: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="which deliveries were requested")
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    selecting_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True),
        server_default=func.now(),
        comment="last progress of the selection; minutes ago, with selected_at null: it was interrupted",
    )
    selected_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="when all were selected; workers take them from then on"
    )
    cancelled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    cancelled_by: Mapped[str | None] = mapped_column(Text)
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    selected: Mapped[int] = mapped_column(server_default="0", comment="how many deliveries")
    processed: Mapped[int] = mapped_column(
        server_default="0", comment="once it ended: how many of them became processed or duplicate"
    )
    failed: Mapped[int] = mapped_column(
        server_default="0", comment="once it ended: how many of them failed, or were held again"
    )


class ReplayDelivery(Base):
    """A delivery that a replay selected. It keeps its status until it is queued."""

    __tablename__ = "replay_deliveries"
    __table_args__ = (
        Index("ix_replay_deliveries_open", "replay_id", "delivery_id", postgresql_where=text("outcome IS NULL")),
        Index(
            "ix_replay_deliveries_queued",
            "delivery_id",
            postgresql_where=text("outcome IS NULL AND queued_at IS NOT NULL"),
        ),
        {"schema": RECEIVER},
    )

    replay_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(f"{RECEIVER}.replays.id", ondelete="CASCADE"), primary_key=True
    )
    delivery_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False, index=True)
    status_before: Mapped[str] = mapped_column(Text, comment="its status when it was selected")
    alone: Mapped[bool] = mapped_column(
        server_default=text("false"),
        comment="processed in a separate batch: it crashed a worker before",
    )
    queued_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="when it was queued; null while its turn has not come"
    )
    outcome: Mapped[str | None] = mapped_column(
        Text, comment="the status it got; cancelled, or without-body, when it was not processed; null while it waits"
    )
    completed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class Audit(Base):
    """What a person changed or looked at: who, when, from where, what, on which object, why, and the outcome."""

    __tablename__ = "audit"
    __table_args__ = (
        CheckConstraint("via IN ('command line', 'console')", name="via"),
        CheckConstraint("outcome IN ('done', 'failed', 'refused')", name="outcome"),
        Index("ix_audit_action_object", "action", "object"),
        {"schema": RECEIVER},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=text("clock_timestamp()"), comment="when it was recorded: at its end"
    )
    actor: Mapped[str] = mapped_column(
        Text, comment="a user of the console, or user@host of the operating system at the command line"
    )
    via: Mapped[str] = mapped_column(Text, comment="command line or console")
    address: Mapped[str | None] = mapped_column(
        Text, comment="of the console's client, as the proxy says; null at the command line"
    )
    action: Mapped[str] = mapped_column(
        Text, comment="the command, such as webhooks rotate-secret; the console uses the same names"
    )
    object: Mapped[str | None] = mapped_column(
        Text, comment="what it was done to: the command's arguments, without secrets and personal data"
    )
    reason: Mapped[str | None] = mapped_column(Text, comment="why, where the action asks for it")
    outcome: Mapped[str] = mapped_column(Text, comment="done, failed (some of it may be done) or refused")
    error: Mapped[str | None] = mapped_column(Text, comment="the class of the error, where it failed by one")

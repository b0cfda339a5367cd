"""Tables of reconciling: the mirror of the provider's delivery log, and the runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, ForeignKey, Identity, Index, LargeBinary, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from receiver.db import RECEIVER, Base


class DeliveryLogEntry(Base):
    """One delivery attempt as the provider's log tells it."""

    __tablename__ = "delivery_log"
    __table_args__ = (
        Index("ix_delivery_log_webhook_id_attempted_at", "webhook_id", "attempted_at"),
        Index("ix_delivery_log_webhook_id_fingerprint", "webhook_id", "fingerprint"),
        {"schema": RECEIVER},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    webhook_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(f"{RECEIVER}.webhooks.id"))
    opencard_event_id: Mapped[str | None] = mapped_column(Text, comment="the log's id of the entry, if it has one")
    event: Mapped[str] = mapped_column(Text)
    response_status: Mapped[int | None] = mapped_column(comment="what we answered, as the log has it")
    attempted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    fingerprint: Mapped[bytes | None] = mapped_column(LargeBinary, comment="SHA-256 of the event by value")
    item: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="the log's item, whole")
    read_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class ReconcileRun(Base):
    """One comparison of a webhook's log with its stored deliveries."""

    __tablename__ = "reconcile_runs"
    __table_args__ = (
        Index("ix_reconcile_runs_webhook_id_started_at", "webhook_id", "started_at"),
        {"schema": RECEIVER},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    webhook_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(f"{RECEIVER}.webhooks.id"))
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    watermark: Mapped[datetime | None] = mapped_column(DateTime(timezone=True), comment="checked up to here")
    log_entries: Mapped[int] = mapped_column(server_default="0")
    matched: Mapped[int] = mapped_column(server_default="0")
    recovered: Mapped[int] = mapped_column(server_default="0")
    unconfirmed: Mapped[int] = mapped_column(server_default="0")
    unrecoverable: Mapped[int] = mapped_column(server_default="0")
    error: Mapped[str | None] = mapped_column(Text)

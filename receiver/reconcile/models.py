"""The mirror of the provider's delivery log, and the runs of reconcile."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Interval,
    LargeBinary,
    Text,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from receiver.db import RECEIVER, Base


class DeliveryLogEntry(Base):
    """One delivery attempt of the provider's log."""

    __tablename__ = "delivery_log"
    __table_args__ = (
        Index("uq_delivery_log_webhook_id_identity", "webhook_id", "identity", unique=True),
        Index("ix_delivery_log_webhook_id_attempted_at", "webhook_id", "attempted_at"),
        Index("ix_delivery_log_webhook_id_fingerprint", "webhook_id", "fingerprint"),
        Index("ix_delivery_log_unrecoverable", "webhook_id", postgresql_where=text("unrecoverable")),
        {"schema": RECEIVER},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    webhook_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(f"{RECEIVER}.webhooks.id"))
    identity: Mapped[bytes] = mapped_column(
        LargeBinary,
        comment="SHA-256 of the log's id; without one, of what the entry says and its number among equal ones",
    )
    opencard_event_id: Mapped[str | None] = mapped_column(Text, comment="the log's id of the entry, if it has one")
    event: Mapped[str] = mapped_column(Text, comment="as the log has it; empty where it names none")
    response_status: Mapped[int | None] = mapped_column(comment="what we answered, as the log has it")
    attempted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    fingerprint: Mapped[bytes | None] = mapped_column(
        LargeBinary, comment="SHA-256 of the event by value; null without a payload"
    )
    item: Mapped[bytes] = mapped_column(LargeBinary, comment="the log's item, whole, as it came: JSON in UTF-8")
    unrecoverable: Mapped[bool] = mapped_column(
        server_default=text("false"), comment="its event is missing here, and the log does not have the payload"
    )
    read_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), comment="when it was read first"
    )


class ReconcileRun(Base):
    """One comparison of a webhook's log with its stored deliveries."""

    __tablename__ = "reconcile_runs"
    __table_args__ = (
        Index("ix_reconcile_runs_webhook_id_started_at", "webhook_id", "started_at"),
        Index("ix_reconcile_runs_clock_seen", "started_at", postgresql_where=text("clock_ahead IS NOT NULL")),
        {"schema": RECEIVER},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    webhook_id: Mapped[int] = mapped_column(BigInteger, ForeignKey(f"{RECEIVER}.webhooks.id"))
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    since: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="how far back the log was read; null: to its beginning"
    )
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    checked_until: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="checked from the beginning up to here; null where the run does not prove that"
    )
    unconfirmed_before: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="what was received before this and is not in the log counts as unconfirmed"
    )
    log_entries: Mapped[int] = mapped_column(server_default="0", comment="attempts read")
    matched: Mapped[int] = mapped_column(server_default="0", comment="events that the log and the deliveries have")
    recovered: Mapped[int] = mapped_column(server_default="0", comment="deliveries made from the log")
    unconfirmed: Mapped[int] = mapped_column(
        server_default="0", comment="deliveries open when the run ended, less those answered since"
    )
    unrecoverable: Mapped[int] = mapped_column(server_default="0", comment="events open when the run ended")
    recovered_in_all: Mapped[int] = mapped_column(
        BigInteger, server_default="0", comment="by this run and those before it"
    )
    clock_ahead: Mapped[timedelta | None] = mapped_column(
        Interval, comment="how far OpenCard's clock is ahead of PostgreSQL's; null where nothing showed it"
    )
    error: Mapped[str | None] = mapped_column(Text)


class AcknowledgedGap(Base):
    """An event that is missing in ``ems`` for good, as an operator has acknowledged."""

    __tablename__ = "acknowledged_gaps"
    __table_args__ = (
        CheckConstraint("kind IN ('delivery', 'log_entry')", name="kind"),
        {"schema": RECEIVER},
    )

    kind: Mapped[str] = mapped_column(
        Text,
        primary_key=True,
        comment="what is missing in ems: a delivery that was not applied, or an event of which the delivery log has no "
        "payload",
    )
    id: Mapped[int] = mapped_column(
        BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="of the delivery, or of the entry in receiver.delivery_log",
    )
    organization_reference_id: Mapped[str] = mapped_column(Text)
    occurred_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="when the event was first attempted; null where the log has no time"
    )
    acknowledged_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    acknowledged_by: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)

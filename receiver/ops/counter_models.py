"""Tables of counters: what the processes count, and the deliveries of each minute and hour."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Double, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from receiver.db import RECEIVER, Base


class CounterFlush(Base):
    """The last time that a process stored its counts."""

    __tablename__ = "counter_flushes"
    __table_args__ = ({"schema": RECEIVER},)

    process: Mapped[UUID] = mapped_column(
        primary_key=True, comment="random; a worker's job processes count as the worker"
    )
    flush_id: Mapped[UUID] = mapped_column(comment="so that a flush whose answer was lost is not added twice")
    flushed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class CounterValue(Base):
    """What a process has counted: its part of a number of ``/metrics``. Rows of silent processes are merged."""

    __tablename__ = "counters"
    __table_args__ = ({"schema": RECEIVER},)

    process: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True, comment="as in /metrics")
    labels: Mapped[dict[str, str]] = mapped_column(JSONB, primary_key=True)
    value: Mapped[float] = mapped_column(Double, server_default="0")


class CounterMinute(Base):
    """The total counts at a minute of the last day; the difference of two is how fast things went."""

    __tablename__ = "counter_minutes"
    __table_args__ = ({"schema": RECEIVER},)

    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    received: Mapped[float] = mapped_column(Double, comment="deliveries stored")
    processed: Mapped[float] = mapped_column(Double, comment="attempts that need no other")
    failed: Mapped[float] = mapped_column(Double, comment="attempts that ended as failed, dead or quarantined")


class RefusedDeliveries(Base):
    """How many deliveries to a webhook were refused for a reason within a minute; kept for 30 days."""

    __tablename__ = "refused_deliveries"
    __table_args__ = ({"schema": RECEIVER},)

    webhook_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    reason: Mapped[str] = mapped_column(Text, primary_key=True)
    minute: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    number: Mapped[float] = mapped_column(Double)
    last_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), comment="the last of them was refused then, or within a second"
    )


class CountedHour(Base):
    """An hour, and when its deliveries were last counted: more come while it lasts, and statuses go on changing."""

    __tablename__ = "counted_hours"
    __table_args__ = ({"schema": RECEIVER},)

    hour: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    counted_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class DeliveryHour(Base):
    """How many deliveries of a webhook were received in an hour, by source and status."""

    __tablename__ = "delivery_hours"
    __table_args__ = ({"schema": RECEIVER},)

    hour: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    webhook_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    source: Mapped[str] = mapped_column(Text, primary_key=True)
    status: Mapped[str] = mapped_column(Text, primary_key=True)
    deliveries: Mapped[int] = mapped_column(BigInteger)

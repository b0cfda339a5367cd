"""Tables of what is counted."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, Double, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from receiver.db import RECEIVER, Base


class CounterFlush(Base):
    """The last time that a process told what it had counted."""

    __tablename__ = "counter_flushes"
    __table_args__ = ({"schema": RECEIVER},)

    process: Mapped[UUID] = mapped_column(
        primary_key=True, comment="random; a worker's work-horses count as the worker"
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

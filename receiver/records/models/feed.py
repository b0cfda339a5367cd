"""The change feed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Identity, func
from sqlalchemy.orm import Mapped, mapped_column

from receiver.db import EMS, Base
from receiver.records.models import columns as c


class Event(Base):
    """One event, once, in the order in which it took effect here."""

    __tablename__ = "events"
    __table_args__ = (
        {
            "schema": EMS,
            "comment": "The change feed: each event once, in the order in which it took effect here. Follow it with "
            "WHERE position > :last ORDER BY position; wait with LISTEN ems_events.",
        },
    )

    position: Mapped[int] = mapped_column(
        BigInteger,
        Identity(always=True),
        primary_key=True,
        comment="Grows in commit order: what commits later has a higher position. Numbers may be left out",
    )
    type: Mapped[str] = c.required_text("Name of the event in OpenCard's catalogue")
    organization_reference_id: Mapped[str] = c.required_text(c.ORGANIZATION)
    card_holder_reference_id: Mapped[str | None] = c.text(
        "The EMS's own id of the card holder; null for events of an organization"
    )
    transaction_id: Mapped[str | None] = c.text("OpenCard's id of the transaction; null for other events")
    occurred_at: Mapped[datetime] = c.required_moment("When the event reached us, or OpenCard's first attempt, in UTC")
    recorded_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), comment="When it took effect here, in UTC"
    )
    source: Mapped[str] = c.required_text("push: delivered to us; log: recovered from OpenCard's delivery log")
    delivery_id: Mapped[int] = mapped_column(
        BigInteger, unique=True, comment="Delivery that brought it (receiver.deliveries.id)"
    )
    payload: Mapped[dict[str, Any]] = c.document("The event's whole payload, unknown fields included")

"""The change feed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Identity, Index, SmallInteger, func
from sqlalchemy.orm import Mapped, mapped_column

from receiver.db import EMS, Base
from receiver.records.models import columns as c


class Event(Base):
    """One event, once, in the order in which it took effect here."""

    __tablename__ = "events"
    __table_args__ = (
        # rows lie in the order of their times, so a few bytes for each range of pages find a window of them
        Index("ix_events_recorded_at", "recorded_at", postgresql_using="brin", postgresql_with={"autosummarize": "on"}),
        {
            "schema": EMS,
            "comment": "The change feed: each event once, in the order in which it took effect here. Follow it with "
            "WHERE position > :last ORDER BY position; wait with LISTEN ems_events. Old events may be deleted: "
            "feed_horizon tells up to which.",
        },
    )

    position: Mapped[int] = mapped_column(
        BigInteger,
        Identity(always=True),
        primary_key=True,
        comment="Grows in commit order: what commits later has a higher position. Numbers may be left out; none is "
        "given twice",
    )
    type: Mapped[str] = c.required_text(
        "Name of the event in OpenCard's catalogue, for example card.transaction.cleared"
    )
    organization_reference_id: Mapped[str] = c.required_text(c.ORGANIZATION)
    card_holder_reference_id: Mapped[str | None] = c.text(
        "The EMS's own id of the card holder; null for events of an organization"
    )
    transaction_id: Mapped[str | None] = c.text("OpenCard's id of the transaction; null for events of no transaction")
    occurred_at: Mapped[datetime] = c.required_moment(
        "When the event reached us, or OpenCard's first attempt, in UTC; need not grow with position"
    )
    recorded_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), comment="When it took effect here, in UTC"
    )
    source: Mapped[str] = c.required_text("push: delivered to us; log: recovered from OpenCard's delivery log")
    delivery_id: Mapped[int] = mapped_column(
        BigInteger, unique=True, comment="Delivery that brought it (receiver.deliveries.id)"
    )
    payload: Mapped[dict[str, Any]] = c.document(
        "The event's whole payload, unknown fields included; amounts in major units, digits as sent"
    )


class FeedHorizon(Base):
    """Up to which position events have been deleted; a trigger on ``ems.events`` keeps it, whoever deletes."""

    __tablename__ = "feed_horizon"
    __table_args__ = (
        CheckConstraint("id = 1", name="one_row"),
        {
            "schema": EMS,
            "comment": "Up to where the change feed has been deleted, in one row; none as long as nothing was. A "
            "reader whose position is less than deleted_through may have missed events: read the tables anew, then go "
            "on from deleted_through.",
        },
    )

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False, comment="Always 1")
    deleted_through: Mapped[int] = mapped_column(
        BigInteger, comment="Highest position in ems.events that was deleted; what is above is all there"
    )
    deleted_at: Mapped[datetime] = c.required_moment("When events were last deleted, in UTC")
